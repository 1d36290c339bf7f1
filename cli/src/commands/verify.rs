//! `seal verify`: can this cluster (or this identity) open it? Sealed files -> yes or no for each object.

use seal_crds::SealedSecret;

use crate::{
    args::open::VerifyArgs,
    cluster::{Cluster, Verdict},
    error::{Error, Result},
    opener::{self, Opener},
    output,
    sealed::{self, SealedDocument},
};

pub(crate) fn run(args: VerifyArgs) -> Result<()> {
    let sealed::Contents { documents, broken } = sealed::read_all(&args.paths)?;
    if documents.is_empty() && broken.is_empty() {
        return Err(Error::request("there is no SealedSecret in it").hint("`seal ls` shows where there are"));
    }
    let failures = if args.identities.is_empty() { ask(&args, &documents)? } else { drill(&args, &documents)? };
    broken.iter().for_each(output::warning);
    match failures + broken.len() {
        0 => Ok(()),
        failures => {
            let all = documents.len() + broken.len();
            let error = Error::request(format!("{failures} of {all} SealedSecrets would not open"));
            Err(match args.identities.as_slice() {
                [] => error.hint("the condition `Ready` of the applied object says why"),
                _ => error.hint("the warnings say why"),
            }
            .hint("`seal ls` shows to which key and for whom each value is sealed"))
        }
    }
}

/// Asks the controller about each object; its answer is yes or no.
fn ask(args: &VerifyArgs, documents: &[SealedDocument]) -> Result<usize> {
    let cluster = match &args.controller_url {
        Some(url) => Cluster::at(url)?,
        None => Cluster::connect(args.cluster.context.as_deref(), args.cluster.kubeconfig.as_deref())?,
    };
    let mut failures = 0;
    for document in documents {
        let object =
            placed(&document.object, args.namespace.as_deref()).map_err(|error| error.within(document.place()))?;
        let verdict = match args.controller_url {
            Some(_) => cluster.verify_directly(&object)?,
            None => cluster.verify_through_api_server(&args.controller_namespace, &object)?,
        };
        if verdict == Verdict::No {
            failures += 1;
        }
        report(document, verdict)?;
    }
    Ok(failures)
}

/// Opens everything here, as a cluster would: what a cluster refuses is no.
fn drill(args: &VerifyArgs, documents: &[SealedDocument]) -> Result<usize> {
    let mut opener = Opener::beside(&args.identities, &args.rings, &args.paths)?;
    let mut failures = 0;
    for document in documents {
        let outcome = opener.open(document, args.namespace.as_deref(), None);
        let problems: Vec<_> = outcome.err().into_iter().chain(opener.doubts()).collect();
        report(document, if problems.is_empty() { Verdict::Yes } else { Verdict::No })?;
        problems.iter().for_each(output::warning);
        failures += usize::from(!problems.is_empty());
    }
    Ok(failures)
}

fn report(document: &SealedDocument, verdict: Verdict) -> Result<()> {
    let word = if verdict == Verdict::Yes { "yes" } else { "no " };
    output::data_if_read(format!("{word}  {}\n", output::visible(&document.place())).as_bytes())
}

/// What the controller needs to know, and nothing else: where the object will be, and what is sealed.
fn placed(object: &SealedSecret, namespace: Option<&str>) -> Result<SealedSecret> {
    let place = opener::place(object, namespace)?;
    let name = object.metadata.name.as_deref().unwrap_or(place.name());
    let mut placed = SealedSecret::new(name, object.spec.clone());
    placed.metadata.namespace = Some(place.namespace().to_owned());
    Ok(placed)
}
