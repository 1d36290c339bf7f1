//! The control plane is real: it stops, starts, goes back in time, and reaches "pods".

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use seal_tests::control_plane::{ControlPlane, client_of, http_get};
use seal_tests::{Result, in_namespace, wait};

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn note(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    ConfigMap { metadata, data: Some(BTreeMap::from([("note".into(), name.into())])), ..ConfigMap::default() }
}

#[test]
fn the_server_says_a_version_that_helm_can_parse() {
    in_namespace(|space| async move {
        let version = space.client.apiserver_version().await?.git_version;
        let parts: Vec<_> = version.strip_prefix('v').unwrap_or_default().split('.').map(str::parse::<u32>).collect();
        assert!(parts.len() == 3 && parts.iter().all(Result::is_ok), "{version}");
        Ok(())
    });
}

#[test]
fn a_service_accounts_kubeconfig_has_that_accounts_rights_only() {
    in_namespace(|space| async move {
        wait::until("the `default` ServiceAccount exists", || async {
            let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
                Api::namespaced(space.client.clone(), &space.name);
            Ok(accounts.get_opt("default").await?.map(drop))
        })
        .await?;
        let kubeconfig = space.plane.kubeconfig_of(&space.name, "default").await?;
        let account = client_of(&kubeconfig).await?;
        let notes: Api<ConfigMap> = Api::namespaced(account, &space.name);
        let refusal = notes.create(&PostParams::default(), &note("a")).await.expect_err("it has no rights");
        assert!(refusal.to_string().contains(&format!("system:serviceaccount:{}:default", space.name)), "{refusal}");
        Ok(())
    });
}

#[test]
fn a_killed_control_plane_comes_back_with_its_data_and_goes_back_in_time_with_a_backup() -> Result<()> {
    let plane = ControlPlane::start()?;
    runtime()?.block_on(async {
        let notes: Api<ConfigMap> = Api::default_namespaced(plane.client().await?);
        let before = notes.create(&PostParams::default(), &note("before")).await?;
        plane.stop_apiserver();
        plane.stop_etcd();
        assert!(notes.get("before").await.is_err(), "nobody answers");
        let backup = plane.back_up_etcd()?;
        plane.start_etcd()?;
        plane.start_apiserver().await?;
        assert_eq!(notes.get("before").await?.uid(), before.uid());
        let mut last = notes.create(&PostParams::default(), &note("after")).await?;
        // More writes than those that a starting API server makes itself.
        for number in 0..300 {
            last = notes.create(&PostParams::default(), &note(&format!("after-{number}"))).await?;
        }

        plane.stop_apiserver();
        plane.stop_etcd();
        plane.restore_etcd(&backup)?;
        plane.start_etcd()?;
        plane.start_apiserver().await?;
        assert_eq!(notes.get("before").await?.uid(), before.uid());
        assert_eq!(notes.get_opt("after").await?, None, "it was made after the backup");
        let version = |object: &ConfigMap| object.resource_version().and_then(|v| v.parse::<u64>().ok());
        assert!(version(&notes.create(&PostParams::default(), &note("later")).await?) < version(&last));
        Ok(())
    })
}

#[test]
fn the_service_proxy_reaches_a_process_that_stands_for_a_pod() {
    in_namespace(|space| async move {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = server.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let _ = stream.read(&mut [0; 4096]).await;
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").await;
            }
        });
        seal_tests::pods::expose(&space, "greeter", 8080, &[address]).await?;
        let path = format!("/api/v1/namespaces/{}/services/greeter:8080/proxy/", space.name);
        wait::until_equal("the proxy answers", "hello".to_owned(), || async {
            Ok(space.client.request_text(http_get(&path)?).await?)
        })
        .await
    });
}
