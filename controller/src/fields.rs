//! Who owns which part of a Secret, as `metadata.managedFields` says.
//!
//! managedFields -> [`Fields`] (ours, theirs), as far as they concern what we write: data, type, immutable, labels,
//! annotations, owner references. [`Shape`] is the same for what we want, so that the two compare without a value.
//!
//! Server-side apply keeps every key that it does not own. So whether a Secret is what Git says cannot be told from
//! the fact that our apply succeeded; it can be told from this (`docs/design/controller.md` 2 and 4).

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use seal_crds::FIELD_MANAGER;
use serde_json::{Map, Value, json};

/// Where an applied `stringData` stays in managedFields: the API server moves its values into `data`, over ours, and
/// leaves `f:data` as it was.
const STRING_DATA: &str = "f:stringData";

/// One part of a Secret that has one owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A key of `data`.
    Data(String),
    /// `type`.
    Type,
    /// `immutable`.
    Immutable,
    /// A label.
    Label(String),
    /// An annotation.
    Annotation(String),
    /// The owner reference with this uid.
    Owner(String),
}

/// The parts that our own Apply entry owns, and those that anybody else does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Ours.
    pub ours: BTreeSet<Part>,
    /// Everybody else's.
    pub theirs: BTreeSet<Part>,
    /// The managers besides us who own data, newest first.
    pub data_managers: Vec<String>,
}

/// The set of parts that a Secret of ours has, as a number.
pub type Shape = u64;

impl Fields {
    /// Reads the entries.
    pub fn read(entries: Option<&Vec<ManagedFieldsEntry>>) -> Self {
        let mut fields = Self::default();
        let mut data_managers = Vec::new();
        for entry in entries.into_iter().flatten() {
            let parts = parts(entry);
            if is_ours(entry) {
                fields.ours.extend(parts);
            } else {
                if parts.iter().any(|part| matches!(part, Part::Data(_))) {
                    let time = entry.time.as_ref().map(|time| time.0);
                    data_managers.push((time, entry.manager.clone().unwrap_or_default()));
                }
                fields.theirs.extend(parts);
            }
        }
        data_managers.sort_by(|a, b| b.cmp(a));
        fields.data_managers = data_managers.into_iter().map(|(_, manager)| manager).collect();
        fields
    }

    /// Our parts, provided that nobody else owns one of them, nor any data, type or immutable.
    pub fn shape_if_ours_alone(&self) -> Option<Shape> {
        let is_shared = |part: &Part| match part {
            Part::Data(_) | Part::Type | Part::Immutable => true,
            _ => self.ours.contains(part),
        };
        (!self.theirs.iter().any(is_shared)).then(|| shape(&self.ours))
    }

    /// Whether a key of `data` is ours and nobody else's.
    pub fn is_ours_alone(&self, part: &Part) -> bool {
        self.ours.contains(part) && !self.theirs.contains(part)
    }
}

/// The number of a set of parts. Kept in memory only.
pub fn shape(parts: &BTreeSet<Part>) -> Shape {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// The entries after our Apply entry has taken over `parts`, and all others have lost them.
///
/// Entries that are left with nothing fall away.
pub fn taken_over(entries: &[ManagedFieldsEntry], parts: &BTreeSet<Part>) -> Vec<ManagedFieldsEntry> {
    let mut ours = parts.clone();
    let mut result = Vec::new();
    for entry in entries {
        if is_ours(entry) {
            ours.extend(self::parts(entry));
            continue;
        }
        let Some(FieldsV1(Value::Object(fields))) = &entry.fields_v1 else { continue };
        let mut fields = fields.clone();
        parts.iter().for_each(|part| remove(&mut fields, part));
        if !fields.is_empty() {
            result.push(ManagedFieldsEntry { fields_v1: Some(FieldsV1(Value::Object(fields))), ..entry.clone() });
        }
    }
    result.push(ManagedFieldsEntry {
        api_version: Some("v1".to_owned()),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(Value::Object(tree(&ours)))),
        manager: Some(FIELD_MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        ..ManagedFieldsEntry::default()
    });
    result
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn parts(entry: &ManagedFieldsEntry) -> Vec<Part> {
    let Some(FieldsV1(fields)) = &entry.fields_v1 else { return Vec::new() };
    let metadata = &fields["f:metadata"];
    let mut parts: Vec<_> = names(&fields["f:data"]).chain(names(&fields[STRING_DATA])).map(Part::Data).collect();
    parts.extend(names(&metadata["f:labels"]).map(Part::Label));
    parts.extend(names(&metadata["f:annotations"]).map(Part::Annotation));
    parts.extend(owners(&metadata["f:ownerReferences"]).map(Part::Owner));
    parts.extend(fields.get("f:type").map(|_| Part::Type));
    parts.extend(fields.get("f:immutable").map(|_| Part::Immutable));
    parts
}

fn names(fields: &Value) -> impl Iterator<Item = String> {
    let keys = fields.as_object().into_iter().flat_map(Map::keys);
    keys.filter_map(|key| key.strip_prefix("f:")).map(str::to_owned)
}

/// The uids in `k:{"uid":"..."}`.
fn owners(fields: &Value) -> impl Iterator<Item = String> {
    let keys = fields.as_object().into_iter().flat_map(Map::keys);
    keys.filter_map(|key| {
        let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
        Some(key.get("uid")?.as_str()?.to_owned())
    })
}

/// Takes one part out of a tree of fields, and the branches that are empty then.
fn remove(fields: &mut Map<String, Value>, part: &Part) {
    remove_at(fields, &path(part));
    if let Part::Data(key) = part {
        remove_at(fields, &["f:stringData".to_owned(), format!("f:{key}")]);
    }
}

fn remove_at(fields: &mut Map<String, Value>, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        fields.remove(first);
    } else if let Some(Value::Object(branch)) = fields.get_mut(first) {
        remove_at(branch, rest);
        if branch.keys().all(|key| key == ".") {
            fields.remove(first);
        }
    }
}

fn path(part: &Part) -> Vec<String> {
    let of = |path: &[&str], name: &str| {
        path.iter().map(|step| (*step).to_owned()).chain(std::iter::once(format!("f:{name}"))).collect()
    };
    match part {
        Part::Data(key) => of(&["f:data"], key),
        Part::Type => vec!["f:type".to_owned()],
        Part::Immutable => vec!["f:immutable".to_owned()],
        Part::Label(key) => of(&["f:metadata", "f:labels"], key),
        Part::Annotation(key) => of(&["f:metadata", "f:annotations"], key),
        Part::Owner(uid) => {
            vec!["f:metadata".to_owned(), "f:ownerReferences".to_owned(), format!("k:{}", json!({"uid": uid}))]
        }
    }
}

fn tree(parts: &BTreeSet<Part>) -> Map<String, Value> {
    let mut tree = Map::new();
    for part in parts {
        let mut branch = &mut tree;
        for step in path(part) {
            let next = branch.entry(step).or_insert_with(|| json!({}));
            let Value::Object(next) = next else { unreachable!("the line above and this loop insert only objects") };
            branch = next;
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn ours() -> ManagedFieldsEntry {
        entry(
            FIELD_MANAGER,
            "Apply",
            json!({
                "f:data": {"f:password": {}, "f:user": {}},
                "f:type": {},
                "f:metadata": {
                    "f:labels": {"f:sealwright.dev/owner": {}},
                    "f:annotations": {"f:sealwright.dev/owner": {}},
                    "f:ownerReferences": {"k:{\"uid\":\"u1\"}": {}},
                },
            }),
        )
    }

    fn our_parts() -> BTreeSet<Part> {
        BTreeSet::from([
            Part::Data("password".into()),
            Part::Data("user".into()),
            Part::Type,
            Part::Label("sealwright.dev/owner".into()),
            Part::Annotation("sealwright.dev/owner".into()),
            Part::Owner("u1".into()),
        ])
    }

    #[test]
    fn a_secret_that_only_we_touched_is_ours_alone() {
        let fields = Fields::read(Some(&vec![ours()]));
        assert_eq!(fields.ours, our_parts());
        assert_eq!(fields.shape_if_ours_alone(), Some(shape(&our_parts())));
    }

    #[test]
    fn foreign_labels_do_not_matter_and_everything_else_does() {
        for (fields, is_alone) in [
            (json!({"f:metadata": {"f:labels": {".": {}, "f:team": {}}}}), true),
            (json!({"f:metadata": {"f:annotations": {"f:sealwright.dev/owner": {}}}}), false),
            (json!({"f:data": {".": {}, "f:extra": {}}}), false),
            (json!({"f:data": {".": {}}}), true),
            (json!({"f:stringData": {"f:extra": {}}}), false),
            (json!({"f:stringData": {"f:password": {}}}), false),
            (json!({"f:type": {}}), false),
            (json!({"f:immutable": {}}), false),
        ] {
            let read = Fields::read(Some(&vec![ours(), entry("kubectl-edit", "Update", fields.clone())]));
            assert_eq!(read.shape_if_ours_alone().is_some(), is_alone, "{fields}");
        }
    }

    #[test]
    fn our_name_with_another_operation_is_not_us() {
        let fields = Fields::read(Some(&vec![entry(FIELD_MANAGER, "Update", json!({"f:data": {"f:a": {}}}))]));
        assert!(fields.ours.is_empty() && fields.shape_if_ours_alone().is_none());
    }

    #[test]
    fn a_key_that_somebody_removed_changes_the_shape() {
        let mut entry = ours();
        let Some(FieldsV1(fields)) = &mut entry.fields_v1 else { unreachable!() };
        fields["f:data"].as_object_mut().unwrap().remove("f:user");
        assert_ne!(Fields::read(Some(&vec![entry])).shape_if_ours_alone(), Some(shape(&our_parts())));
    }

    #[test]
    fn taking_over_leaves_others_what_is_not_ours() {
        let theirs = json!({
            "f:data": {".": {}, "f:extra": {}}, "f:stringData": {"f:extra": {}}, "f:type": {},
            "f:metadata": {"f:labels": {".": {}, "f:team": {}}},
        });
        let entries =
            vec![ours(), entry("kubectl-edit", "Update", theirs), entry("empty", "Update", json!({"f:type": {}}))];
        let parts = BTreeSet::from([Part::Data("extra".into()), Part::Type]);
        let taken = taken_over(&entries, &parts);
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0].fields_v1, Some(FieldsV1(json!({"f:metadata": {"f:labels": {".": {}, "f:team": {}}}}))));
        let fields = Fields::read(Some(&taken));
        let mut expected = our_parts();
        expected.extend(parts);
        assert_eq!(fields.ours, expected);
        assert!(fields.shape_if_ours_alone().is_some());
    }
}
