//! What was typed -> what is meant. A `Request` cannot contradict itself.

use std::path::{Path, PathBuf};

use seal_envelope::SealedFor;

use crate::{
    args::seal::{Format, Scope, SealArgs},
    error::{Error, Result},
};

/// `seal [FILE...]`.
pub(crate) struct Request {
    pub(crate) inputs: Vec<Input>,
    pub(crate) destination: Destination,
    pub(crate) ring: Option<String>,
    pub(crate) wish: Wish,
    /// Asked for by a flag.
    pub(crate) format: Option<Format>,
    pub(crate) is_dry_run: bool,
}

pub(crate) enum Input {
    Stdin,
    File(PathBuf),
}

pub(crate) enum Destination {
    /// The path names the rule that applies.
    Stdout {
        path: Option<PathBuf>,
    },
    File {
        path: PathBuf,
        prune: bool,
    },
    /// Each input file itself.
    InPlace,
}

/// What flags say about whom a value is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) scope: Option<Scope>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) name: Option<String>,
}

impl Request {
    pub(crate) fn of(args: SealArgs) -> Result<Self> {
        let inputs: Vec<Input> = match args.files.as_slice() {
            [] => vec![Input::Stdin],
            files => files.iter().map(|file| Input::of(file)).collect(),
        };
        if inputs.iter().filter(|input| matches!(input, Input::Stdin)).count() > 1 {
            return Err(Error::usage("stdin can be read once").hint("give `-` once"));
        }
        let destination = match args.write {
            _ if args.in_place => Destination::InPlace,
            Some(path) if path != Path::new("-") => Destination::File { path, prune: args.prune },
            Some(_) if args.prune => {
                return Err(
                    Error::usage("--prune needs a file to prune, and stdout is none").hint("give the file with -w")
                );
            }
            _ => Destination::Stdout { path: args.path },
        };
        if matches!(destination, Destination::InPlace) && inputs.iter().any(|input| matches!(input, Input::Stdin)) {
            return Err(Error::usage("stdin cannot be changed in place").hint("leave out --in-place or `-`"));
        }
        Ok(Self {
            inputs,
            format: args.output,
            destination,
            ring: args.ring.to,
            wish: Wish { scope: args.scope, namespaces: args.namespace, name: args.name },
            is_dry_run: args.dry_run,
        })
    }
}

impl Input {
    fn of(file: &Path) -> Self {
        if file == Path::new("-") { Self::Stdin } else { Self::File(file.to_owned()) }
    }
}

/// The format that a file name asks for.
pub(crate) fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "yaml" | "yml" => Some(Format::Yaml),
        _ => None,
    }
}

/// `--for NS/NAME`: for which Secret a single token is sealed. A wider scope may leave parts out.
pub(crate) fn sealed_for(text: &str, scope: Scope) -> Result<SealedFor> {
    let (namespaces, name) = match text.split_once('/') {
        Some((namespaces, name)) => (namespaces, Some(name)),
        None => (text, None),
    };
    let namespaces: Vec<&str> = if namespaces.is_empty() { Vec::new() } else { namespaces.split(',').collect() };
    let parts = match scope {
        Scope::Strict => {
            let name = name.filter(|name| !name.is_empty() && !namespaces.is_empty()).ok_or_else(|| {
                Error::usage("--for takes NAMESPACE/NAME")
                    .hint("with --scope namespace the name, and with --scope cluster both, may be left out")
            })?;
            (Some(name), namespaces)
        }
        Scope::Namespace if namespaces.is_empty() => {
            return Err(Error::usage("--for takes NAMESPACE or NAMESPACE/NAME")
                .hint("with --scope cluster both may be left out"));
        }
        Scope::Namespace => (None, namespaces),
        Scope::Cluster => (None, Vec::new()),
    };
    SealedFor::new(parts.0, parts.1).map_err(|cause| {
        Error::usage("--for names no place in Kubernetes")
            .because(cause)
            .hint("it looks like `shop/db`, or `dev,prod/db`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_names_what_the_scope_needs() {
        let parts = |text, scope| {
            sealed_for(text, scope).ok().map(|place| (place.name().map(str::to_owned), place.namespaces().join(",")))
        };
        assert_eq!(parts("shop/db", Scope::Strict), Some((Some("db".to_owned()), "shop".to_owned())));
        assert_eq!(parts("b,a/db", Scope::Strict), Some((Some("db".to_owned()), "a,b".to_owned())));
        assert_eq!(parts("shop/db", Scope::Namespace), Some((None, "shop".to_owned())));
        assert_eq!(parts("shop", Scope::Namespace), Some((None, "shop".to_owned())));
        assert_eq!(parts("shop/db", Scope::Cluster), Some((None, String::new())));
        for (text, scope) in [
            ("shop", Scope::Strict),
            ("shop/", Scope::Strict),
            ("/db", Scope::Strict),
            ("a/b/c", Scope::Strict),
            ("Shop/db", Scope::Strict),
            ("a,a/db", Scope::Strict),
            ("", Scope::Namespace),
        ] {
            assert_eq!(parts(text, scope), None, "{text}");
        }
    }
}
