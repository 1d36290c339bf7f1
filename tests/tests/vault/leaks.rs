//! Markers planted in values, tokens and the answers of a server appear nowhere but in Secrets.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use ring::digest::{SHA256, digest};
use seal_crds::condition::SealedSecretReason::{TemplateFailed, TooLarge};
use seal_tests::{
    Context, Result, ensure,
    fault_proxy::{Fault, FaultProxy},
    in_namespace,
};
use serde_json::{Value, json};

use crate::world::{World, field, merged};

/// Long and odd enough to be nothing else.
const MARKER: &str = "Zk4-marker-pRw82hVault";

/// A text as a program might write it: as it is, in base64 at each of the three offsets, in hex, as a list of numbers,
/// and its plain hash.
fn spellings(marker: &str) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut all = vec![marker.to_owned(), hex(marker.as_bytes()), hex(digest(&SHA256, marker.as_bytes()).as_ref())];
    all.push(marker.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", "));
    all.extend((0..3).map(|offset| {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{}{marker}", "x".repeat(offset)));
        // The first and the last characters depend on the neighbours.
        encoded[offset + 1..encoded.len() - 3].to_owned()
    }));
    all
}

fn is_clean(place: &str, text: &str, markers: &[String]) -> Result<()> {
    for spelling in markers.iter().flat_map(|marker| spellings(marker)) {
        ensure!(!text.contains(&spelling), "a secret stands in {place}, as {spelling}");
    }
    Ok(())
}

/// A whole answer of a server.
fn answer(status: &str, body: &str) -> Fault {
    Fault::Answer(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn values_and_credentials_are_in_no_log_event_status_or_metric_whatever_goes_wrong() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bao) = (&world.shop, &world.bao);
        // Every credential that a test can know: a token, a secret id, a signed token.
        let made = bao.ask("POST", "auth/token/create", json!({"policies": ["read"]})).await?;
        let token = made["auth"]["client_token"].as_str().context("a token is text")?.to_owned();
        bao.ask("POST", "sys/auth/approle", json!({"type": "approle"})).await?;
        bao.ask("POST", "auth/approle/role/app", json!({"token_policies": ["read"]})).await?;
        let role = bao.ask("GET", "auth/approle/role/app/role-id", Value::Null).await?;
        let made = bao.ask("POST", "auth/approle/role/app/secret-id", json!({})).await?;
        let secret_id = made["data"]["secret_id"].as_str().context("a secret id is text")?.to_owned();
        let jwt = shop.token_of("app", Some("vault")).await?;
        for (name, value) in [("my-token", &token), ("my-approle", &secret_id), ("my-jwt", &jwt)] {
            shop.credential(name, value).await?;
        }
        let secret = |name: &str| json!({"name": name, "key": "id"});
        let login = json!({"roleId": role["data"]["role_id"], "secretIdRef": secret("my-approle")});
        let proxy = FaultProxy::start(bao.address()).await?;
        let through = format!("http://{}", proxy.address());
        for (name, auth) in [
            ("account", json!({"kubernetes": {"role": "app-{namespace}", "serviceAccount": "app"}})),
            ("token", json!({"token": {"secretRef": secret("my-token")}})),
            ("approle", json!({"appRole": login})),
            // No such method: refused with the token in hand.
            ("jwt", json!({"jwt": {"role": "r", "secretRef": secret("my-jwt")}})),
        ] {
            let more = json!({"auth": auth, "address": through, "limits": {"requestTimeout": "1s"}});
            shop.store(name, world.spec(more)).await?;
        }

        let value = format!("{MARKER}: {{{{ {MARKER} }}}}");
        bao.put("kv", "marked", json!({"value": value, "deep": {"list": [MARKER]}, "null": null})).await?;
        let marked =
            |store: &str, what: &str| json!({"storeRef": {"name": store}, "data": [field("value", "marked", what)]});
        for store in ["account", "token", "approle"] {
            shop.object(store, marked(store, "value"), json!({})).await?;
            shop.stage.ready(store).await?;
            shop.stage.holds(store, &[("value", &value)]).await?;
        }
        shop.object("jwt", marked("jwt", "value"), json!({})).await?;
        shop.vault_is("jwt", "AuthFailed").await?;

        // Values that are no base64, no key, too much, or that a template breaks over.
        let not_base64 = json!([merged(field("value", "marked", "value"), json!({"decode": "Base64"}))]);
        for (name, vault) in [
            ("decode", merged(marked("account", "value"), json!({"data": not_base64}))),
            ("null", marked("account", "null")),
            ("absent", marked("account", "/deep/list/7")),
        ] {
            shop.object(name, vault, json!({})).await?;
            shop.vault_is(name, "FieldNotFound").await?;
        }
        let template = json!({"template": {"data": {"out": "{{ index .value (index .value 0) }}"}}});
        shop.object("template", marked("account", "value"), template).await?;
        shop.stage.reason("template", TemplateFailed).await?;
        bao.put("kv", "large", json!({"value": MARKER.repeat(60_000)})).await?;
        let large = json!({"storeRef": {"name": "account"}, "data": [field("value", "large", "value")]});
        shop.object("large", large, json!({})).await?;
        shop.stage.reason("large", TooLarge).await?;

        // Answers that quote what they should not, and end in the middle of it.
        let quoting = format!("{{\"errors\": [\"{value} {token} {secret_id}\"]}}");
        let half = format!("{{\"data\": {{\"data\": {{\"value\": \"{MARKER}");
        let odd = format!("{{\"data\": {{\"data\": [\"{MARKER}\"], \"metadata\": \"{token}\"}}}}");
        let stores = ["account", "token", "approle"];
        let all_fail = async |fault: Fault| {
            proxy.set(fault.clone());
            for store in stores {
                let told = shop.refresh_tells(store).await?;
                ensure!(told.0 != "Synced", "{fault:?} gives {told:?}");
            }
            Ok(())
        };
        for fault in [
            answer("500 Internal Server Error", &quoting),
            answer("200 OK", &half),
            answer("200 OK", &odd),
            answer(&format!("200 {MARKER}"), "null"),
            Fault::Answer(format!("{MARKER} {token}\r\n\r\n")),
            Fault::Redirect(format!("http://127.0.0.1:1/{MARKER}?token={token}")),
            Fault::Torn(400),
        ] {
            all_fail(fault).await?;
            proxy.set(Fault::None);
            try_join_all(stores.map(|store| shop.vault_is(store, "Synced"))).await?;
        }
        // Refused logins are not repeated soon.
        for status in ["400 Bad Request", "403 Forbidden"] {
            all_fail(answer(status, &quoting)).await?;
        }
        for store in stores {
            shop.stage.holds(store, &[("value", &value)]).await?;
        }

        let markers = [MARKER.to_owned(), token, secret_id, jwt];
        let log = world.controller.log();
        ensure!(log.contains("\"TRACE\"") || log.contains("\"DEBUG\""), "the log says as much as it can");
        is_clean("the controller's log", &log, &markers)?;
        // Signed tokens begin like this, whosever they are.
        ensure!(!log.contains("eyJhbGciOi"), "a ServiceAccount's token is in the log");
        for path in ["/metrics", "/readyz"] {
            is_clean(path, &world.controller.get(path).await?.body, &markers)?;
        }
        let events: Api<Event> = Api::namespaced(shop.stage.space.client.clone(), shop.namespace());
        let events = events.list(&ListParams::default()).await?.items;
        ensure!(!events.is_empty(), "something is told in Events");
        is_clean("an Event", &serde_json::to_string(&events)?, &markers)?;
        for object in shop.stage.sealed().list(&ListParams::default()).await? {
            is_clean("a SealedSecret", &serde_json::to_string(&object)?, &markers)?;
        }
        for store in shop.stores().list(&ListParams::default()).await? {
            is_clean("a VaultStore", &serde_json::to_string(&store)?, &markers)?;
        }
        Ok(())
    });
}
