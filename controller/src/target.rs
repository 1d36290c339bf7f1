//! The Secret that a SealedSecret makes, and whether it may be made.
//!
//! SealedSecret + opened values -> [`Desired`]; [`refusal`] says what no SealedSecret may produce, [`claim`] whose a
//! live Secret is, [`difference`] what of it is not as it should be. Pure: no client, no clock, no key.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;
use ring::digest::{SHA256, digest};
use seal_crds::{
    ADOPT_BY_ANNOTATION, API_GROUP, API_VERSION, IDENTITY_SECRET_TYPE, OWNER_ANNOTATION, OWNER_LABEL, SealedSecret,
    output, sealed_secret::DeletionPolicy,
};
use zeroize::Zeroizing;

use crate::{
    fields::{Fields, Part, Shape, shape},
    keys::identity,
};

/// The kind in owner references and owner annotations.
pub const KIND: &str = "SealedSecret";
/// What `kubectl apply` leaves behind: a copy of the old plaintext.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most bytes that the values of one Secret may have together (Kubernetes' own limit).
pub const MAX_DATA: usize = 1_048_576;

const DEFAULT_TYPE: &str = "Opaque";

/// The opened values of a Secret.
pub type Values = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// A Secret as it should be, whole. It has a `Debug` that shows no value.
#[derive(Clone, PartialEq)]
pub struct Desired {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_: String,
    /// Whether it is immutable.
    pub is_immutable: bool,
    /// Its labels, our own among them.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, our own among them.
    pub annotations: BTreeMap<String, String>,
    /// The object that it is deleted with; none for `Retain`.
    pub owner: Option<OwnerReference>,
    /// Its data.
    pub data: Values,
}

impl fmt::Debug for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desired({}/{}, {} keys)", self.namespace, self.name, self.data.len())
    }
}

impl Desired {
    /// Puts the Secret of `object` together.
    pub fn new(object: &SealedSecret, data: Values) -> Self {
        let metadata = object.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
        let mut labels = metadata.map(|metadata| metadata.labels.clone()).unwrap_or_default();
        let mut annotations = metadata.map(|metadata| metadata.annotations.clone()).unwrap_or_default();
        labels.insert(OWNER_LABEL.to_owned(), owner_label(&object.name_any()));
        annotations.insert(OWNER_ANNOTATION.to_owned(), owner_annotation(&object.name_any()));
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.target_name().to_owned(),
            type_: type_of(object).to_owned(),
            is_immutable: is_immutable(object),
            labels,
            annotations,
            owner: owner_reference(object),
            data,
        }
    }

    /// The parts that our apply owns afterwards.
    pub fn parts(&self) -> BTreeSet<Part> {
        parts(self.data.keys(), self.is_immutable, self.labels.keys(), self.annotations.keys(), self.owner.as_ref())
    }
}

fn parts<'a>(
    data: impl Iterator<Item = &'a String>,
    is_immutable: bool,
    labels: impl Iterator<Item = &'a String>,
    annotations: impl Iterator<Item = &'a String>,
    owner: Option<&OwnerReference>,
) -> BTreeSet<Part> {
    let mut parts: BTreeSet<_> = data.cloned().map(Part::Data).collect();
    parts.insert(Part::Type);
    parts.extend(is_immutable.then_some(Part::Immutable));
    parts.extend(labels.cloned().map(Part::Label));
    parts.extend(annotations.cloned().map(Part::Annotation));
    parts.extend(owner.map(|owner| Part::Owner(owner.uid.clone())));
    parts
}

/// The shape that the Secret of `object` has once it is right, told without opening a value.
///
/// None where only the values can tell, because keys come from Vault.
pub fn expected_shape(object: &SealedSecret) -> Option<Shape> {
    if object.spec.vault.is_some() {
        return None;
    }
    let mut keys: BTreeSet<&String> = object.spec.encrypted_data.keys().collect();
    for (key, template) in object.spec.template.iter().flat_map(|template| &template.data) {
        match template {
            Some(_) => keys.insert(key),
            None => keys.remove(key),
        };
    }
    let desired = Desired::new(object, Values::new());
    let owner = desired.owner.as_ref();
    let (labels, annotations) = (desired.labels.keys(), desired.annotations.keys());
    Some(shape(&parts(keys.into_iter(), desired.is_immutable, labels, annotations, owner)))
}

/// The value of our label: 32 hex digits of SHA-256 over kind and name, because names may exceed a label's length.
pub fn owner_label(name: &str) -> String {
    let digest = digest(&SHA256, owner_annotation(name).as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of our annotation.
pub fn owner_annotation(name: &str) -> String {
    format!("{KIND}/{name}")
}

/// The name of the SealedSecret that the annotation of this Secret names.
pub fn named_owner(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(OWNER_ANNOTATION)?.strip_prefix(KIND)?.strip_prefix('/')
}

fn type_of(object: &SealedSecret) -> &str {
    object.spec.template.as_ref().and_then(|template| template.type_.as_deref()).unwrap_or(DEFAULT_TYPE)
}

fn is_immutable(object: &SealedSecret) -> bool {
    object.spec.template.as_ref().and_then(|template| template.immutable).unwrap_or_default()
}

/// `blockOwnerDeletion` stays unset: it would need a right on finalizers that nobody should have to give.
fn owner_reference(object: &SealedSecret) -> Option<OwnerReference> {
    (object.spec.deletion_policy() == DeletionPolicy::Delete).then(|| OwnerReference {
        api_version: format!("{API_GROUP}/{API_VERSION}"),
        kind: KIND.to_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    })
}

/// What no SealedSecret may produce, whoever wrote it, and past whatever check it came: says what and why.
///
/// `own_namespace` is the controller's: a Secret there by the name of an identity would stand in its way.
pub fn refusal(object: &SealedSecret, own_namespace: &str) -> Option<String> {
    let type_ = type_of(object);
    if let Err(refused) = output::check_type(type_) {
        return Some(format!("type {type_}: {refused}"));
    }
    if object.namespace().as_deref() == Some(own_namespace) && identity::number(object.target_name()).is_some() {
        return Some("a Secret of this name would stand in the way of the controller's own identity".to_owned());
    }
    let metadata = object.spec.template.as_ref().and_then(|template| template.metadata.as_ref())?;
    let labels = metadata.labels.iter().map(|(key, value)| ("label", key, output::check_label(key, value)));
    let annotations = metadata.annotations.keys().map(|key| ("annotation", key, output::check_annotation(key)));
    labels
        .chain(annotations)
        .find_map(|(part, key, verdict)| verdict.err().map(|refused| format!("{part} {key}: {refused}")))
}

/// Whose a live Secret is, seen from one SealedSecret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is this object's.
    Ours,
    /// It is somebody else's or nobody's, and says that this object may take it.
    Consents,
    /// It holds an identity of the controller and is nobody's business.
    Identity,
    /// It is not ours; the text says whose.
    Foreign(String),
}

/// Judges a live Secret.
///
/// By name rather than by uid, so that objects that were restored from a backup know their Secrets again. Never ours is
/// what another controller owns. `known_uid` is the uid in the status of `object`.
pub fn claim(object: &SealedSecret, known_uid: Option<&str>, live: &Secret) -> Claim {
    if live.type_.as_deref() == Some(IDENTITY_SECRET_TYPE) {
        return Claim::Identity;
    }
    let name = object.name_any();
    if let Some(owner) = other_controller(&live.metadata, &name) {
        return Claim::Foreign(format!("{} {} owns it", owner.kind, owner.name));
    }
    if let Some(owner) = named_owner(&live.metadata) {
        return if owner == name { Claim::Ours } else { Claim::Foreign(format!("{KIND} {owner} owns it")) };
    }
    if live.metadata.uid.is_some() && live.metadata.uid.as_deref() == known_uid {
        return Claim::Ours;
    }
    match live.annotations().get(ADOPT_BY_ANNOTATION) {
        Some(adopter) if *adopter == name => Claim::Consents,
        Some(adopter) => Claim::Foreign(format!("it consents to be taken over by {adopter} only")),
        None => Claim::Foreign("nobody's name is on it".to_owned()),
    }
}

/// The controller that owns this Secret, if that is not the SealedSecret of this name.
pub fn other_controller<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a OwnerReference> {
    let owners = metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).find(|owner| !is_reference_to(owner, name))
}

fn is_reference_to(owner: &OwnerReference, name: &str) -> bool {
    owner.kind == KIND && owner.name == name && owner.api_version.split('/').next() == Some(API_GROUP)
}

/// What of a live Secret is not as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// A value was changed.
    pub edited: bool,
    /// A key is missing.
    pub missing: bool,
    /// There is a key that should not be there.
    pub extra: bool,
    /// Another type, which only a new Secret can have.
    pub type_: bool,
    /// `immutable` is to be set; unsetting is impossible.
    pub immutable: bool,
    /// `immutable` is set and should not be.
    pub too_immutable: bool,
    /// A label, an annotation or an owner reference; also a copy of the values in an annotation.
    pub metadata: bool,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the content differs.
    pub fn is_in_data(&self) -> bool {
        self.edited || self.missing || self.extra
    }
}

/// Compares a live Secret with what it should be. Foreign labels and annotations are none of our business.
pub fn difference(desired: &Desired, live: &Secret) -> Difference {
    let empty = BTreeMap::new();
    let data = live.data.as_ref().unwrap_or(&empty);
    let parts = desired.parts();
    let fields = Fields::read(live.metadata.managed_fields.as_ref());
    let is_stale = |part: &Part| {
        let is_metadata = matches!(part, Part::Label(_) | Part::Annotation(_) | Part::Owner(_));
        is_metadata && !parts.contains(part) && is_present(part, live)
    };
    let holds = |entries: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| entries.get(key) == Some(value))
    };
    let owner_is_right = match &desired.owner {
        Some(owner) => live.owner_references().iter().any(|live| live == owner),
        None => !live.owner_references().iter().any(|live| live.controller == Some(true) && live.kind == KIND),
    };
    let is_immutable = live.immutable.unwrap_or_default();
    Difference {
        edited: desired.data.iter().any(|(key, value)| data.get(key).is_some_and(|live| live.0 != **value)),
        missing: desired.data.keys().any(|key| !data.contains_key(key)),
        extra: data.keys().any(|key| !desired.data.contains_key(key)),
        type_: live.type_.as_deref().unwrap_or(DEFAULT_TYPE) != desired.type_,
        immutable: desired.is_immutable && !is_immutable,
        too_immutable: is_immutable && !desired.is_immutable,
        metadata: !owner_is_right
            || !holds(live.labels(), &desired.labels)
            || !holds(live.annotations(), &desired.annotations)
            || fields.ours.iter().any(is_stale)
            || holds_copy(&live.metadata, &fields),
    }
}

/// Whether a `kubectl apply` of somebody else left a copy of the values there. The metadata alone tell.
pub fn holds_copy(metadata: &ObjectMeta, fields: &Fields) -> bool {
    let has_annotation = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LAST_APPLIED));
    has_annotation && !fields.ours.contains(&Part::Annotation(LAST_APPLIED.to_owned()))
}

fn is_present(part: &Part, live: &Secret) -> bool {
    match part {
        Part::Label(key) => live.labels().contains_key(key),
        Part::Annotation(key) => live.annotations().contains_key(key),
        Part::Owner(uid) => live.owner_references().iter().any(|owner| owner.uid == *uid),
        _ => true,
    }
}

/// The parts whose ownership has to move to our Apply entry before an apply can make the Secret exact.
///
/// Empty where the forced apply alone does: it takes over what it changes, and prunes what is ours alone.
pub fn parts_to_take_over(desired: &Desired, live: &Secret) -> BTreeSet<Part> {
    let fields = Fields::read(live.metadata.managed_fields.as_ref());
    let is_adoption = fields.ours.is_empty();
    let live_keys = live.data.iter().flatten().map(|(key, _)| Part::Data(key.clone()));
    let mut parts: BTreeSet<_> = live_keys
        .filter(|part| match part {
            Part::Data(key) => !desired.data.contains_key(key) && !fields.is_ours_alone(part),
            _ => false,
        })
        .collect();
    if is_adoption || !parts.is_empty() {
        parts.extend(live.data.iter().flatten().map(|(key, _)| Part::Data(key.clone())));
        parts.insert(Part::Type);
        parts.extend(live.immutable.map(|_| Part::Immutable));
    }
    parts
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: Value) -> SealedSecret {
        let mut manifest = json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "db", "namespace": "shop", "uid": "u1"},
            "spec": {"sealedFor": {}, "encryptedData": {"password": "seal1.x"}},
        });
        manifest["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(manifest).unwrap()
    }

    fn desired(spec: Value) -> Desired {
        Desired::new(&object(spec), Values::from([("password".to_owned(), Zeroizing::new(b"p".to_vec()))]))
    }

    /// The Secret that our apply makes out of `desired`.
    fn applied(desired: &Desired) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(desired.name.clone()),
                namespace: Some(desired.namespace.clone()),
                uid: Some("s1".to_owned()),
                labels: Some(desired.labels.clone()),
                annotations: Some(desired.annotations.clone()),
                owner_references: desired.owner.clone().map(|owner| vec![owner]),
                managed_fields: Some(crate::fields::taken_over(&[], &desired.parts())),
                ..ObjectMeta::default()
            },
            type_: Some(desired.type_.clone()),
            immutable: desired.is_immutable.then_some(true),
            data: Some(desired.data.iter().map(|(key, value)| (key.clone(), ByteString(value.to_vec()))).collect()),
            ..Secret::default()
        }
    }

    #[test]
    fn what_we_applied_has_no_difference_and_the_expected_shape() {
        for spec in [
            json!({}),
            json!({"template": {"type": "a/b", "immutable": true, "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}}),
            json!({"target": {"deletionPolicy": "Retain"}}),
            json!({"template": {"data": {"password": "{{ .password }}"}}}),
            json!({"template": {"metadata": {"annotations": {LAST_APPLIED: "{}"}}}}),
        ] {
            let desired = desired(spec.clone());
            let live = applied(&desired);
            assert!(difference(&desired, &live).is_none(), "{spec}");
            assert!(parts_to_take_over(&desired, &live).is_empty(), "{spec}");
            let fields = Fields::read(live.metadata.managed_fields.as_ref());
            assert_eq!(fields.shape_if_ours_alone(), expected_shape(&object(spec.clone())), "{spec}");
        }
    }

    #[test]
    fn every_difference_is_seen() {
        let wanted = desired(json!({"template": {"metadata": {"labels": {"a": "b"}}}}));
        type Tamper = fn(&mut Secret);
        let table: [(Tamper, Difference); 11] = [
            (
                |live| drop(live.metadata.annotations.as_mut().unwrap().insert(LAST_APPLIED.into(), "{}".into())),
                Difference { metadata: true, ..Difference::default() },
            ),
            (
                |live| drop(live.data.as_mut().unwrap().insert("password".into(), ByteString(b"x".to_vec()))),
                Difference { edited: true, ..Difference::default() },
            ),
            (|live| live.data = None, Difference { missing: true, ..Difference::default() }),
            (
                |live| drop(live.data.as_mut().unwrap().insert("extra".into(), ByteString(vec![]))),
                Difference { extra: true, ..Difference::default() },
            ),
            (|live| live.type_ = Some("a/b".into()), Difference { type_: true, ..Difference::default() }),
            (|live| live.immutable = Some(true), Difference { too_immutable: true, ..Difference::default() }),
            (|live| live.metadata.labels = None, Difference { metadata: true, ..Difference::default() }),
            (|live| live.metadata.annotations = None, Difference { metadata: true, ..Difference::default() }),
            (|live| live.metadata.owner_references = None, Difference { metadata: true, ..Difference::default() }),
            (
                |live| drop(live.metadata.labels.as_mut().unwrap().insert("a".into(), "c".into())),
                Difference { metadata: true, ..Difference::default() },
            ),
            (
                |live| drop(live.metadata.labels.as_mut().unwrap().insert("foreign".into(), "c".into())),
                Difference::default(),
            ),
        ];
        for (i, (tamper, expected)) in table.into_iter().enumerate() {
            let mut live = applied(&wanted);
            tamper(&mut live);
            assert_eq!(difference(&wanted, &live), expected, "case {i}");
        }
    }

    #[test]
    fn a_label_that_the_template_dropped_is_a_difference() {
        let before = applied(&desired(json!({"template": {"metadata": {"labels": {"a": "b"}}}})));
        assert!(difference(&desired(json!({})), &before).metadata);
    }

    #[test]
    fn a_secret_is_claimed_by_name_uid_or_consent_and_never_from_another_controller() {
        let object = object(json!({}));
        let live =
            |metadata: Value| Secret { metadata: serde_json::from_value(metadata).unwrap(), ..Secret::default() };
        let ours = json!({"annotations": {"sealwright.dev/owner": "SealedSecret/db"}});
        assert_eq!(claim(&object, None, &live(ours)), Claim::Ours);
        assert_eq!(claim(&object, Some("s1"), &live(json!({"uid": "s1"}))), Claim::Ours);
        let consent = json!({"annotations": {"sealwright.dev/adopt-by": "db"}});
        assert_eq!(claim(&object, None, &live(consent)), Claim::Consents);
        for metadata in [
            json!({}),
            json!({"uid": "s2"}),
            json!({"annotations": {"sealwright.dev/owner": "SealedSecret/other"}}),
            json!({"annotations": {"sealwright.dev/owner": "Other/db"}}),
            json!({"annotations": {"sealwright.dev/adopt-by": "other"}}),
            json!({
                "annotations": {"sealwright.dev/owner": "SealedSecret/db", "sealwright.dev/adopt-by": "db"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "X", "name": "db", "uid": "u", "controller": true}],
            }),
        ] {
            let claim = claim(&object, Some("s1"), &live(metadata.clone()));
            assert!(matches!(claim, Claim::Foreign(_)), "{metadata}: {claim:?}");
        }
    }

    #[test]
    fn an_identity_of_the_controller_is_never_claimed() {
        let live = Secret {
            type_: Some(IDENTITY_SECRET_TYPE.to_owned()),
            metadata: serde_json::from_value(json!({"annotations": {"sealwright.dev/adopt-by": "db"}})).unwrap(),
            ..Secret::default()
        };
        assert_eq!(claim(&object(json!({})), None, &live), Claim::Identity);
    }

    #[test]
    fn dangerous_outputs_are_refused() {
        for template in [
            json!({"type": "sealwright.dev/identity"}),
            json!({"type": "kubernetes.io/service-account-token"}),
            json!({"type": "bootstrap.kubernetes.io/token"}),
            json!({"metadata": {"labels": {"sealwright.dev/vault-auth": "true"}}}),
            json!({"metadata": {"annotations": {"sealwright.dev/owner": "x"}}}),
            json!({"metadata": {"labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}}}),
            json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}}),
            json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}}),
            json!({"metadata": {"labels": {"helm.toolkit.fluxcd.io/name": "x"}}}),
            json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "x"}}}),
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}),
        ] {
            assert!(refusal(&object(json!({"template": template})), "sealwright-system").is_some(), "{template}");
        }
        for template in [
            json!({}),
            json!({"type": "kubernetes.io/tls", "metadata": {"labels": {"app.kubernetes.io/managed-by": "me", "a": "b"}}}),
        ] {
            assert!(refusal(&object(json!({"template": template})), "sealwright-system").is_none(), "{template}");
        }
        let identity = object(json!({"target": {"name": "identity-2"}}));
        assert!(refusal(&identity, "shop").is_some());
        assert!(refusal(&identity, "sealwright-system").is_none());
    }

    #[test]
    fn ownership_moves_before_a_foreign_key_is_pruned_and_not_for_an_edit() {
        let desired = desired(json!({}));
        let mut edited = applied(&desired);
        edited.data.as_mut().unwrap().insert("password".into(), ByteString(b"x".to_vec()));
        assert!(parts_to_take_over(&desired, &edited).is_empty());

        let mut extra = applied(&desired);
        extra.data.as_mut().unwrap().insert("extra".into(), ByteString(b"x".to_vec()));
        let parts = parts_to_take_over(&desired, &extra);
        assert_eq!(parts, BTreeSet::from([Part::Data("extra".into()), Part::Data("password".into()), Part::Type]));

        let mut foreign = applied(&desired);
        foreign.metadata.managed_fields = Some(vec![ManagedFieldsEntry::default()]);
        assert!(!parts_to_take_over(&desired, &foreign).is_empty());
    }

    #[test]
    fn the_label_is_a_digest_of_kind_and_name() {
        assert_eq!(owner_label("db").len(), 32);
        assert_ne!(owner_label("db"), owner_label("db2"));
        // printf SealedSecret/db | sha256sum
        assert_eq!(owner_label("db"), "0a77cb2e103ca822bbc9a1af1d640e2e");
    }
}
