//! Pieces of schema that several kinds share: bounds and patterns that a derive cannot express.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::output;

/// A Kubernetes object name: an RFC 1123 subdomain.
pub(crate) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A namespace, a ring member: an RFC 1123 label.
pub(crate) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A key of a Secret's data: Kubernetes refuses `.`, `..` and whatever begins with `..`.
pub(crate) const DATA_KEY: &str = r"^\.?[-_A-Za-z0-9][-._A-Za-z0-9]*$";
/// A hybrid age recipient: `age1pq1`, 1216 bytes in 1946 characters, a checksum of 6.
pub(crate) const RECIPIENT: &str = "^age1pq1[02-9ac-hj-np-z]{952}[02-9ac-hj-np-z]{1000}$";
/// Standard base64 with padding.
pub(crate) const BASE64: &str = "^[A-Za-z0-9+/]+={0,2}$";
/// A key id.
pub(crate) const KEY_ID: &str = "^[a-z2-7]{32}$";
/// What Vault is asked for: nothing that a URL would read as something else than a path.
pub(crate) const VAULT_PATH: &str = r"^[^?#%\\\x00-\x1f\x7f]+$";

/// More values than fit into the largest object that etcd takes.
pub(crate) const DATA_MAX_PROPERTIES: u32 = 1024;

fn rule(rule: &str, message: &str) -> Rule {
    Rule::new(rule).message(message)
}

/// Keys of a map are judged by a rule: a structural schema knows no `propertyNames`.
fn data_keys() -> Rule {
    rule(
        &format!("self.all(k, k.size() <= 253 && k.matches('{}'))", DATA_KEY.replace('\\', "\\\\")),
        "a key of a Secret has 1 to 253 of the characters A-Z a-z 0-9 - _ . and begins with no two dots",
    )
}

/// Sealed values by key.
pub(crate) fn encrypted_data(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": DATA_MAX_PROPERTIES,
        "additionalProperties": {
            "type": "string",
            // A null would be dropped in silence if it were not allowed here and refused below.
            "nullable": true,
            "maxLength": seal_envelope::MAX_TOKEN,
            "pattern": r"^seal[1-9][0-9]{0,3}\.[-_.A-Za-z0-9]+$",
        },
        "x-kubernetes-validations": [
            data_keys(),
            rule("self.all(k, type(self[k]) == string)", "a sealed value is text that begins with `seal1.`, not null"),
        ],
    })
}

/// Templates by key; null leaves the key out.
pub(crate) fn template_data(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": DATA_MAX_PROPERTIES,
        "additionalProperties": {"type": "string", "nullable": true, "maxLength": 1_048_576},
        "x-kubernetes-validations": [data_keys()],
    })
}

/// The rules on a map of labels or annotations: qualified names as keys, and nothing that is refused.
fn metadata_rules(refusals: Vec<Rule>) -> Vec<Rule> {
    let names = rule(
        "self.all(k, !format.qualifiedName().validate(k).hasValue())",
        "a key is a name of at most 63 characters, optionally after a DNS subdomain and a slash",
    );
    [vec![names], refusals].concat()
}

/// Labels of the Secret.
pub(crate) fn secret_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
        "x-kubernetes-validations": metadata_rules(output::label_rules()),
    })
}

/// Annotations of the Secret.
pub(crate) fn secret_annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 262_144},
        "x-kubernetes-validations": metadata_rules(output::annotation_rules()),
    })
}

/// The private half of a ring key, once per member.
pub(crate) fn wraps(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": seal_envelope::MAX_MEMBERS,
        "additionalProperties": {
            "type": "string",
            "minLength": 4,
            "maxLength": seal_envelope::MAX_WRAP.div_ceil(3) * 4,
            "pattern": BASE64,
        },
    })
}

/// The versions that were read, by `mount/path`.
pub(crate) fn vault_versions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 1024,
        "additionalProperties": {"type": "integer", "format": "int64"},
    })
}

/// A moment.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// Ids of ring keys.
pub(crate) fn key_ids(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": DATA_MAX_PROPERTIES,
        "items": {"type": "string", "maxLength": 32, "pattern": KEY_ID},
        "x-kubernetes-list-type": "atomic",
    })
}

/// `status.conditions`, as every Kubernetes API has them: one entry a type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "What the condition is about.",
                    "maxLength": 316,
                    "pattern": r"^([A-Za-z0-9][-A-Za-z0-9_.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
                },
                "status": {
                    "type": "string",
                    "description": "Whether it holds: True, False or Unknown.",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "type": "string",
                    "description": "Why, in one stable word that programs may match.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "Why, for people. Names ids and paths, never values.",
                    "maxLength": 32768,
                },
                "lastTransitionTime": {
                    "type": "string",
                    "description": "When the status last changed.",
                    "format": "date-time",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The metadata.generation that this condition speaks of.",
                    "minimum": 0,
                },
            },
        },
    })
}

/// A label selector with the bounds that a rule or a controller can rely on.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels with exactly these values.",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array",
                "description": "Requirements, all of which must hold.",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "description": "The label's key.", "minLength": 1, "maxLength": 317},
                        "operator": {
                            "type": "string",
                            "description": "How the label relates to the values.",
                            "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
                        },
                        "values": {
                            "type": "array",
                            "description": "For In and NotIn: the values. Else absent.",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63},
                        },
                    },
                    "x-kubernetes-validations": [rule(
                        "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 \
                         : !has(self.values) || self.values.size() == 0",
                        "In and NotIn need values; Exists and DoesNotExist take none",
                    )],
                },
            },
        },
    })
}
