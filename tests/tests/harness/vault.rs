//! OpenBao and the proxy in front of it do what the suites take for granted.

use std::time::Duration;

use seal_tests::{
    Result,
    certificates::Authority,
    ensure,
    fault_proxy::{Fault, FaultProxy},
    http,
    openbao::Bao,
    process::Guard,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_memory_keeps_versions_and_counts_requests() -> Result<()> {
    let guard = Guard::start()?;
    let bao = Bao::dev(&guard, "bao").await?;
    bao.mount_kv("kv", 2).await?;
    bao.put("kv", "app/db", json!({"password": "first"})).await?;
    bao.put("kv", "app/db", json!({"password": "second"})).await?;
    let secret = bao.ask("GET", "kv/data/app/db", json!(null)).await?;
    assert_eq!(secret["data"]["data"]["password"], "second");
    assert_eq!(secret["data"]["metadata"]["version"], 2);
    assert_eq!(bao.count("read kv/data/app/db")?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_disk_seals_unseals_and_survives_its_own_death() -> Result<()> {
    let guard = Guard::start()?;
    let authority = Authority::make()?;
    let pair = authority.server(&guard.scratch().join("tls"), "bao", &[], false)?;
    let ca = guard.scratch().join("tls/ca.crt");
    std::fs::write(&ca, &authority.certificate)?;
    let bao = Bao::server(&guard, "bao", &pair, &ca).await?;
    bao.mount_kv("kv", 2).await?;
    bao.put("kv", "app/db", json!({"password": "kept"})).await?;
    bao.seal().await?;
    let sealed = bao.raw("GET", "kv/data/app/db", Some(&bao.root_token()), None, None).await?;
    assert_eq!(sealed.status, 503);
    bao.unseal().await?;
    bao.kill();
    bao.restart(&guard).await?;
    bao.unseal().await?;
    let secret = bao.ask("GET", "kv/data/app/db", json!(null)).await?;
    assert_eq!(secret["data"]["data"]["password"], "kept");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_shows_what_a_real_server_cannot() -> Result<()> {
    let guard = Guard::start()?;
    let bao = Bao::dev(&guard, "bao").await?;
    let proxy = FaultProxy::start(bao.address()).await?;
    let health = || http::get(proxy.address(), "/v1/sys/health");
    assert_eq!(health().await?.status, 200);
    proxy.set(Fault::Redirect("http://127.0.0.1:1/".to_owned()));
    assert_eq!(health().await?.status, 307);
    proxy.set(Fault::Torn(60));
    ensure!(health().await.is_err(), "a torn answer is whole");
    proxy.set(Fault::Refuse);
    ensure!(health().await.is_err(), "a refused connection is answered");
    for silent in [Fault::BlackHole, Fault::Drip(Duration::from_millis(50))] {
        proxy.set(silent.clone());
        let waited = tokio::time::timeout(Duration::from_millis(500), health()).await;
        ensure!(waited.is_err(), "{silent:?} answers at once");
    }
    assert_eq!(proxy.connections(), 6);
    Ok(())
}
