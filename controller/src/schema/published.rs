//! What the API server publishes of our kinds, for a controller that may not read their definitions.
//!
//! ```text
//! /openapi/v3, which everybody who is logged in may read -> is every field of ours in it? -> Notice
//! ```
//!
//! Nobody tells when it changes, so it is asked for, in little: its index says whether there is anything new.

use std::time::Duration;

use kube::Client;
use seal_crds::{API_GROUP, API_VERSION};
use serde_json::Value;
use tracing::warn;

use super::Notice;
use crate::{
    apply::DEADLINE,
    error::{ApiError, within},
};

/// How soon an older definition is noticed.
const EVERY: Duration = Duration::from_secs(3);

/// Keeps `notice` true to the cluster; ends only with the process.
pub(super) async fn keep(client: Client, notice: Notice) {
    let mut known = None;
    loop {
        match place(&client).await {
            Ok(place) if known.as_ref() == Some(&place) => {}
            Ok(place) => match document(&client, place.as_deref()).await {
                Ok(document) => {
                    notice.tell(wrong(&document), None);
                    known = Some(place);
                }
                Err(error) => failed(&notice, known.is_some(), &error),
            },
            Err(error) => failed(&notice, known.is_some(), &error),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What was right stays right while the API server cannot be asked.
fn failed(notice: &Notice, is_known: bool, error: &ApiError) {
    warn!(cause = error.text(), "cannot read what the API server publishes of our CRDs");
    if !is_known {
        notice.tell(Some(format!("cannot tell which CRDs are installed: {error}")), None);
    }
}

/// Where the schemas of our group are, by a URL that is another one when they change. None: there are none.
async fn place(client: &Client) -> Result<Option<String>, ApiError> {
    let index = read(client, "/openapi/v3").await?;
    let place = &index["paths"][format!("apis/{API_GROUP}/{API_VERSION}")]["serverRelativeURL"];
    Ok(place.as_str().map(str::to_owned))
}

async fn document(client: &Client, place: Option<&str>) -> Result<Value, ApiError> {
    match place {
        Some(place) => read(client, place).await,
        None => Ok(Value::Null),
    }
}

async fn read(client: &Client, path: &str) -> Result<Value, ApiError> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|_| ApiError::Malformed)?;
    let text = within(DEADLINE, client.request_text(request)).await?;
    serde_json::from_str(&text).map_err(|_| ApiError::Malformed)
}

/// The first thing that is wrong with the schemas of our kinds.
fn wrong(document: &Value) -> Option<String> {
    let schemas = document["components"]["schemas"].as_object();
    seal_crds::crds().into_iter().find_map(|crd| {
        let name = crd.metadata.name.unwrap_or_default();
        let is_its = |schema: &&Value| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.into_iter().flatten().any(|kind| kind["group"] == *API_GROUP && kind["kind"] == *crd.spec.names.kind)
        };
        let Some(theirs) = schemas.into_iter().flatten().map(|(_, schema)| schema).find(is_its) else {
            return Some(format!("CRD {name} is not installed"));
        };
        let ours = crd.spec.versions.into_iter().next().and_then(|version| version.schema?.open_api_v3_schema);
        let unknown = unknown_field(&serde_json::to_value(ours).unwrap_or_default(), theirs)?;
        Some(format!("CRD {name} is older than this controller: it does not know {}", unknown.trim_start_matches('.')))
    })
}

/// A field of our schema that theirs lacks: it would be pruned.
fn unknown_field(ours: &Value, theirs: &Value) -> Option<String> {
    let fields = ours["properties"].as_object().into_iter().flatten();
    let of_fields = fields.into_iter().find_map(|(name, ours)| match &theirs["properties"][name] {
        Value::Null => Some(format!(".{name}")),
        theirs => unknown_field(ours, theirs).map(|rest| format!(".{name}{rest}")),
    });
    of_fields.or_else(|| {
        ["items", "additionalProperties"].into_iter().find_map(|part| unknown_field(ours.get(part)?, &theirs[part]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_that_lacks_a_field_of_ours_is_older_and_one_that_has_more_is_not() {
        let ours = json!({"properties": {"spec": {"properties": {
            "list": {"items": {"properties": {"a": {"type": "string"}}}},
            "map": {"additionalProperties": {"properties": {"b": {"type": "string"}}}},
        }}}});
        assert_eq!(unknown_field(&ours, &ours), None);
        for (at, name) in [
            ("/properties/spec", ".spec"),
            ("/properties/spec/properties/list", ".spec.list"),
            ("/properties/spec/properties/list/items/properties/a", ".spec.list.a"),
            ("/properties/spec/properties/map/additionalProperties/properties/b", ".spec.map.b"),
        ] {
            let mut theirs = ours.clone();
            *theirs.pointer_mut(at).unwrap() = Value::Null;
            assert_eq!(unknown_field(&ours, &theirs).as_deref(), Some(name));
            assert_eq!(unknown_field(&theirs, &ours), None);
        }
    }

    #[test]
    fn kinds_that_are_not_published_are_not_installed() {
        let why = wrong(&Value::Null).unwrap();
        assert!(why.starts_with("CRD ") && why.ends_with(" is not installed"), "{why}");
    }
}
