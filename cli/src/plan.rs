//! Secret + flags + rule + what a file already says -> for whom it is sealed. Pure; the world is elsewhere.

use seal_crds::output::{self, RefusedOutput};
use seal_envelope::{BindingError, DataKey, Place, Recipient, SealedFor};
use zeroize::Zeroizing;

use crate::{
    args::seal::Scope,
    config::Rule,
    error::{Error, Result},
    manifest::read::{Sealed, Secret, Template},
    request::Wish,
};

/// For whom, and under which name the manifest stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Nothing where the manifest may be applied to several namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) sealed_for: SealedFor,
}

/// Names of a Secret to be: what the input says, or a person did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
}

impl<'a> From<&'a Secret> for Names<'a> {
    fn from(secret: &'a Secret) -> Self {
        Self { name: secret.name.as_deref(), namespace: secret.namespace.as_deref() }
    }
}

/// Decides for whom a new file is sealed. Flags beat the rule; neither moves a Secret out of its own namespace.
pub(crate) fn target(names: Names<'_>, wish: &Wish, rule: Option<&Rule>) -> Result<Target> {
    let name = wish
        .name
        .as_deref()
        .or(names.name)
        .ok_or_else(|| Error::request("the Secret has no name").hint("give it `metadata.name`, or pass --name"))?;
    let scope = wish.scope.or(rule.and_then(|rule| rule.scope)).unwrap_or(Scope::Strict);
    let namespaces = namespaces(names.namespace, wish, rule, scope)?;
    let bound: &[&str] = if scope == Scope::Cluster { &[] } else { &namespaces };
    let sealed_for = SealedFor::new((scope == Scope::Strict).then_some(name), bound).map_err(names_error)?;
    SealedFor::new(Some(name), &namespaces).map_err(names_error)?;
    Ok(Target {
        name: name.to_owned(),
        namespace: match namespaces.as_slice() {
            [only] => Some((*only).to_owned()),
            _ => None,
        },
        sealed_for,
    })
}

fn names_error(cause: BindingError) -> Error {
    let hint = match cause {
        BindingError::RepeatedNamespace => "give each namespace once",
        BindingError::TooManyNamespaces => "`--scope cluster` binds to none",
        _ => "Kubernetes would refuse it too",
    };
    Error::request("the Secret cannot be sealed for these names").because(cause).hint(hint)
}

fn namespaces<'a>(own: Option<&'a str>, wish: &'a Wish, rule: Option<&'a Rule>, scope: Scope) -> Result<Vec<&'a str>> {
    let (wanted, whose) = match rule {
        _ if !wish.namespaces.is_empty() => (wish.namespaces.as_slice(), "--namespace says".to_owned()),
        Some(rule) => (rule.namespaces.as_slice(), format!("the rule for `{}` says", rule.path)),
        None => (&[][..], String::new()),
    };
    match own {
        Some(own) if wanted.is_empty() => Ok(vec![own]),
        Some(own) if !wanted.iter().any(|namespace| namespace == own) => {
            Err(Error::request(format!("the Secret is in namespace `{own}`, and {whose} `{}`", wanted.join(",")))
                .hint("change `metadata.namespace`, or pass -n with the right one"))
        }
        None if wanted.is_empty() && scope != Scope::Cluster => Err(Error::request("the Secret names no namespace")
            .hint("pass -n NAMESPACE, or give it `metadata.namespace` or a rule in .seal/config.yaml")
            .hint("kubectl's current namespace is never used: it differs from laptop to laptop")),
        _ => Ok(wanted.iter().map(String::as_str).collect()),
    }
}

/// The SealedSecret of a file that this Secret is merged into; nothing if it is not there yet.
pub(crate) fn matching<'a>(
    sealed: impl IntoIterator<Item = &'a Sealed>,
    names: Names<'_>,
    wish: &Wish,
) -> Result<Option<&'a Sealed>> {
    let name = wish.name.as_deref().or(names.name);
    let is_match = |sealed: &&Sealed| {
        let own_name = sealed.sealed_for.as_ref().and_then(SealedFor::name).or(sealed.name.as_deref());
        let name_fits = name.is_none() || name == own_name || name == sealed.name.as_deref();
        let namespace_fits = match (names.namespace, sealed.namespace.as_deref(), &sealed.sealed_for) {
            (Some(wanted), Some(own), _) => wanted == own,
            (Some(wanted), None, Some(sealed_for)) => {
                sealed_for.namespaces().is_empty() || sealed_for.namespaces().iter().any(|own| own == wanted)
            }
            _ => true,
        };
        name_fits && namespace_fits
    };
    let mut fitting = sealed.into_iter().filter(is_match);
    match (fitting.next(), fitting.next()) {
        (first, None) => Ok(first),
        _ => Err(Error::request("the file holds several SealedSecrets that this Secret could be")
            .hint("give the Secret its name and namespace")),
    }
}

/// For whom more is sealed into an existing object: what the object says holds, and nobody may say otherwise.
pub(crate) fn merged(sealed: &Sealed, names: Names<'_>, wish: &Wish, rule: Option<&Rule>) -> Result<SealedFor> {
    let Some(sealed_for) = &sealed.sealed_for else {
        return Err(Error::request("the SealedSecret has no `spec.sealedFor`")
            .hint("add it, such as `sealedFor: {name: db, namespaces: [shop]}`"));
    };
    let says_namespaces = !wish.namespaces.is_empty() || rule.is_some_and(|rule| !rule.namespaces.is_empty());
    let asks = says_namespaces || wish.scope.is_some() || rule.is_some_and(|rule| rule.scope.is_some());
    if asks {
        let names = Names {
            name: names.name.or(sealed_for.name()).or(sealed.name.as_deref()),
            namespace: names.namespace.or(sealed.namespace.as_deref().filter(|_| !says_namespaces)),
        };
        let scope = wish.scope.or(rule.and_then(|rule| rule.scope)).unwrap_or_else(|| scope_of(sealed_for));
        let asked = target(names, &Wish { scope: Some(scope), ..wish.clone() }, rule)?.sealed_for;
        if asked != *sealed_for {
            let whose =
                if wish.scope.is_some() || !wish.namespaces.is_empty() { "the command line" } else { "the rule" };
            return Err(Error::request(format!(
                "the file is sealed for {}, and {whose} asks for {}",
                described(sealed_for),
                described(&asked)
            ))
            .hint("what is sealed keeps its binding: leave the flag out, or seal all of it anew into another file"));
        }
    }
    let name = wish.name.as_deref().or(names.name).or(sealed.name.as_deref());
    if let (Some(namespace), Some(name)) = (names.namespace, name)
        && let Ok(place) = Place::new(namespace, name)
    {
        // An object that a `namePrefix` has renamed still makes the Secret that it is sealed for.
        let name_is_the_objects = Some(name) == sealed.name.as_deref();
        let admitted = sealed_for.admits(&place).is_ok()
            || name_is_the_objects
                && sealed_for
                    .name()
                    .and_then(|name| Place::new(namespace, name).ok())
                    .is_some_and(|place| sealed_for.admits(&place).is_ok());
        if !admitted {
            return Err(Error::request(format!(
                "the file is sealed for {}, and the Secret is {namespace}/{name}",
                described(sealed_for)
            ))
            .hint("seal it into a file of its own"));
        }
    }
    Ok(sealed_for.clone())
}

/// A key has one source: what Vault gives is not sealed as well.
pub(crate) fn refuse_fetched<'a>(sealed: &Sealed, keys: impl IntoIterator<Item = &'a str>) -> Result<()> {
    match keys.into_iter().find(|key| sealed.fetches(key)) {
        Some(key) => Err(Error::request(format!("`{key}` is taken from Vault, and a key has one source"))
            .hint("remove its line from `spec.vault.data` first, by hand")),
        None => Ok(()),
    }
}

fn scope_of(sealed_for: &SealedFor) -> Scope {
    match (sealed_for.name(), sealed_for.namespaces()) {
        (Some(_), _) => Scope::Strict,
        (None, []) => Scope::Cluster,
        (None, _) => Scope::Namespace,
    }
}

/// For whom, in words.
pub(crate) fn described(sealed_for: &SealedFor) -> String {
    let name = match sealed_for.name() {
        Some(name) => format!("`{name}`"),
        None => "any name".to_owned(),
    };
    match sealed_for.namespaces() {
        [] => format!("{name} in any namespace"),
        namespaces => format!("{name} in {}", namespaces.join(", ")),
    }
}

/// Takes out of the template what would mark the Secret as another program's; says what. Refuses what no controller
/// would make.
pub(crate) fn without_foreign_marks(template: &mut Template) -> Result<Vec<String>> {
    if let Some(kind) = &template.secret_type {
        output::check_type(kind).map_err(|cause| {
            Error::request(format!("a Secret of type {kind} is not sealed"))
                .because(cause)
                .hint("no controller would make it: create it in the cluster itself")
        })?;
    }
    let checks = template.labels.iter().map(|(key, value)| (key, output::check_label(key, value)));
    let checks = checks.chain(template.annotations.keys().map(|key| (key, output::check_annotation(key))));
    let mut foreign = Vec::new();
    for (key, verdict) in checks {
        match verdict {
            Ok(()) => {}
            Err(RefusedOutput::Own | RefusedOutput::Tracking) => foreign.push(key.clone()),
            Err(cause) => {
                return Err(Error::request(format!("a Secret marked `{key}` is not sealed"))
                    .because(cause)
                    .hint("no controller would make it: take the mark away"));
            }
        }
    }
    for map in [&mut template.labels, &mut template.annotations] {
        map.retain(|key, _| !foreign.contains(key));
    }
    Ok(foreign)
}

/// Seals every value; the tokens stand in the order of the values.
pub(crate) fn seal_values(
    recipient: &Recipient,
    sealed_for: &SealedFor,
    values: &[(DataKey, Zeroizing<Vec<u8>>)],
) -> Result<Vec<(String, String)>> {
    values
        .iter()
        .map(|(key, value)| {
            let token = seal_envelope::seal(recipient, sealed_for, key, value)
                .map_err(|cause| Error::request(format!("cannot seal `{}`", key.as_str())).because(cause))?;
            Ok((key.as_str().to_owned(), token.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP_DB: Names<'static> = Names { name: Some("db"), namespace: Some("shop") };
    const NAMELESS: Names<'static> = Names { name: None, namespace: None };

    fn wish(scope: Option<Scope>, namespaces: &[&str], name: Option<&str>) -> Wish {
        Wish {
            scope,
            namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
            name: name.map(str::to_owned),
        }
    }

    fn said(target: Result<Target>) -> Option<(String, Option<String>, String)> {
        target.ok().map(|target| (target.name, target.namespace, described(&target.sealed_for)))
    }

    #[test]
    fn flags_and_input_decide_for_whom() {
        let some = |name: &str, namespace: Option<&str>, words: &str| {
            Some((name.to_owned(), namespace.map(str::to_owned), words.to_owned()))
        };
        for (names, wish, expected) in [
            (SHOP_DB, wish(None, &[], None), some("db", Some("shop"), "`db` in shop")),
            (SHOP_DB, wish(Some(Scope::Namespace), &[], None), some("db", Some("shop"), "any name in shop")),
            (SHOP_DB, wish(Some(Scope::Cluster), &[], None), some("db", Some("shop"), "any name in any namespace")),
            (SHOP_DB, wish(None, &["shop"], None), some("db", Some("shop"), "`db` in shop")),
            (SHOP_DB, wish(None, &["test", "shop"], None), some("db", None, "`db` in shop, test")),
            (SHOP_DB, wish(None, &["test"], None), None),
            (SHOP_DB, wish(None, &[], Some("cache")), some("cache", Some("shop"), "`cache` in shop")),
            (NAMELESS, wish(None, &["shop"], Some("db")), some("db", Some("shop"), "`db` in shop")),
            (NAMELESS, wish(None, &[], Some("db")), None),
            (NAMELESS, wish(None, &["shop"], None), None),
            (NAMELESS, wish(Some(Scope::Cluster), &[], Some("db")), some("db", None, "any name in any namespace")),
            (SHOP_DB, wish(None, &[], Some("No_Name")), None),
            (SHOP_DB, wish(Some(Scope::Cluster), &[], Some("No_Name")), None),
        ] {
            assert_eq!(said(target(names, &wish, None)), expected, "{names:?} {wish:?}");
        }
    }

    fn sealed(name: &str, namespace: Option<&str>, sealed_for: (Option<&str>, &[&str])) -> Sealed {
        Sealed {
            document: 0,
            path: Vec::new(),
            name: Some(name.to_owned()),
            namespace: namespace.map(str::to_owned),
            sealed_for: Some(SealedFor::new(sealed_for.0, sealed_for.1).expect("is valid")),
            keys: Vec::new(),
            sealed_to: Default::default(),
            vault: None,
        }
    }

    #[test]
    fn what_a_file_is_sealed_for_holds() {
        let strict = sealed("db", Some("shop"), (Some("db"), &["shop"]));
        let none = wish(None, &[], None);
        assert!(merged(&strict, SHOP_DB, &none, None).is_ok());
        assert!(merged(&strict, NAMELESS, &none, None).is_ok());
        assert!(merged(&strict, SHOP_DB, &wish(Some(Scope::Strict), &[], None), None).is_ok());
        assert!(merged(&strict, SHOP_DB, &wish(Some(Scope::Namespace), &[], None), None).is_err());
        assert!(merged(&strict, NAMELESS, &wish(None, &["test"], None), None).is_err());
        assert!(merged(&strict, Names { name: Some("db"), namespace: Some("test") }, &none, None).is_err());
        let wide = sealed("db", None, (None, &["shop", "test"]));
        assert!(merged(&wide, SHOP_DB, &none, None).is_ok());
        assert!(merged(&wide, NAMELESS, &wish(None, &["test", "shop"], None), None).is_ok());
        assert!(merged(&wide, NAMELESS, &wish(None, &["shop"], None), None).is_err());
        let renamed = sealed("prod-db", Some("shop"), (Some("db"), &["shop"]));
        assert!(merged(&renamed, Names { name: Some("prod-db"), namespace: Some("shop") }, &none, None).is_ok());
    }

    #[test]
    fn the_object_meant_is_found_by_name_and_namespace() {
        let file = [
            sealed("db", Some("shop"), (Some("db"), &["shop"])),
            sealed("db", Some("test"), (Some("db"), &["test"])),
            sealed("cache", None, (Some("cache"), &["shop", "test"])),
        ];
        let none = wish(None, &[], None);
        let position = |names| {
            matching(&file, names, &none)
                .ok()
                .map(|found| found.and_then(|found| file.iter().position(|sealed| std::ptr::eq(sealed, found))))
        };
        assert_eq!(position(SHOP_DB), Some(Some(0)));
        assert_eq!(position(Names { name: Some("cache"), namespace: Some("test") }), Some(Some(2)));
        assert_eq!(position(Names { name: Some("web"), namespace: Some("shop") }), Some(None));
        assert_eq!(position(Names { name: Some("db"), namespace: None }), None);
    }

    #[test]
    fn marks_of_other_programs_are_dropped() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut template = Template {
            labels: map(&[("app", "db"), ("app.kubernetes.io/managed-by", "Helm"), ("sealwright.dev/owner", "x")]),
            annotations: map(&[("argocd.argoproj.io/tracking-id", "x"), ("note", "y")]),
            ..Template::default()
        };
        assert_eq!(without_foreign_marks(&mut template).expect("are dropped").len(), 3);
        assert_eq!(template.labels, map(&[("app", "db")]));
        assert_eq!(template.annotations, map(&[("note", "y")]));
        let typed = |kind: &str| Template { secret_type: Some(kind.to_owned()), ..Template::default() };
        assert!(without_foreign_marks(&mut typed("kubernetes.io/tls")).is_ok());
        assert!(without_foreign_marks(&mut typed("bootstrap.kubernetes.io/token")).is_err());
    }
}
