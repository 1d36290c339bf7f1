//! KeyRing: the keys that laptops seal to, and their private halves wrapped for each member.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::schema;

/// Who can open, and with which keys.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sealwright.dev",
    version = "v1alpha1",
    kind = "KeyRing",
    namespaced,
    category = "sealwright",
    doc = "A KeyRing holds the keys that values are sealed to, each wrapped for every member. It is honoured in the controller's namespace only. `seal ring` writes it.",
    status = "KeyRingStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(
        name = "Recoverable",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Recoverable")].status"#
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.keys.all(k, k.wraps.size() == self.members.size() && self.members.all(m, m.name in k.wraps))")
        .message("every key is wrapped for exactly the members listed"),
    validation = Rule::new("self.members.all(m, !self.keys.exists(k, k.recipient == m.recipient))")
        .message("a member is itself a key of this ring"),
)]
pub struct KeyRingSpec {
    /// Who can open everything that is sealed to this ring: clusters, and people who keep an identity offline.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(m, self.exists_one(n, n.name == m.name))").message("two members have one name"),
        validation = Rule::new("self.all(m, self.exists_one(n, n.recipient == m.recipient))").message("two members have one recipient"),
    )]
    pub members: Vec<Member>,

    /// The keys, oldest first. The last one seals, all of them open. Keys are only ever appended.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(k, self.exists_one(j, j.recipient == k.recipient))").message("a key stands in the ring twice"),
        validation = Rule::new("self.size() >= oldSelf.size() && oldSelf.all(i, old, self[i].recipient == old.recipient && self[i].created == old.created)")
            .message("keys are append-only: none is removed, changed or moved"),
        validation = Rule::new("oldSelf.all(i, old, !has(old.disabled) || !old.disabled || (i < self.size() && has(self[i].disabled) && self[i].disabled))")
            .message("a disabled key stays disabled"),
    )]
    pub keys: Vec<RingKey>,

    /// Made by someone who can open the ring, over its members and keys: keys that it does not cover open nothing.
    #[schemars(length(equal = 44), regex(pattern = "^[A-Za-z0-9+/]{43}=$"))]
    pub proof: String,
}

/// Somebody who can open everything that is sealed to the ring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// What the ring calls it, such as `prod-eu` or `recovery`.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    pub name: String,

    /// The member's hybrid age recipient, `age1pq1...`.
    #[schemars(length(equal = 1959), regex(pattern = schema::RECIPIENT))]
    pub recipient: String,
}

/// One key of the ring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RingKey {
    /// The public half, `age1pq1...`: what laptops seal to.
    #[schemars(length(equal = 1959), regex(pattern = schema::RECIPIENT))]
    pub recipient: String,

    /// When the key was made. Information only.
    #[schemars(schema_with = "schema::time")]
    pub created: Time,

    /// The private half, by member: an ordinary age file in base64. `age -d` opens it with the member's identity.
    #[schemars(schema_with = "schema::wraps")]
    pub wraps: BTreeMap<String, String>,

    /// Whether the key no longer opens. Never set back. Absent means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// What the controller makes of the ring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyRingStatus {
    /// The metadata.generation that this status speaks of; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Stalled, Reconciling and Recoverable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The keys as this cluster sees them, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub keys: Vec<RingKeyStatus>,
}

/// One key as this cluster sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RingKeyStatus {
    /// The key's id, as it stands in every value that is sealed to it.
    #[schemars(length(equal = 32), regex(pattern = schema::KEY_ID))]
    pub id: String,

    /// The member whose wrap this cluster opened. Absent: it could not be opened here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub opened_by: Option<String>,

    /// Whether a proof that covers the key has been seen.
    pub proven: bool,
}

impl RingKey {
    /// Whether the key no longer opens.
    pub fn is_disabled(&self) -> bool {
        self.disabled.unwrap_or_default()
    }
}
