//! Lets the API server reach pods that do not exist.
//!
//! API server -> `CONNECT 10.99.0.1:8080` on a unix socket -> the loopback port that stands for that pod.
//!
//! The API server's service proxy refuses loopback addresses, and there is no pod network here. Its egress selector
//! hands every connection towards the cluster to this socket instead, so a Service with pods behind it works as it
//! does in a real cluster, without any privilege.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};

type Routes = Arc<Mutex<HashMap<String, SocketAddr>>>;

/// The way from pod addresses to loopback ports.
#[derive(Debug)]
pub struct Egress {
    config: PathBuf,
    routes: Routes,
}

impl Egress {
    /// Listens on a socket in `folder`, on a thread of its own: it must outlive the runtime of any one test.
    pub fn start(folder: &Path) -> Result<Self> {
        let socket = folder.join("egress.sock");
        let routes = Routes::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).with_context(|| format!("listen on {socket:?}"))?
        };
        let known = Arc::clone(&routes);
        std::thread::spawn(move || runtime.block_on(serve(listener, known)));
        let config = folder.join("egress.yaml");
        std::fs::write(&config, selector(&socket)).context("write the egress selector")?;
        Ok(Self { config, routes })
    }

    /// For `--egress-selector-config-file`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// From now on `pod` (address and port) is answered by `local`.
    pub fn route(&self, pod: &str, local: SocketAddr) {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.to_owned(), local);
    }
}

fn selector(socket: &Path) -> String {
    serde_json::json!({
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{
            "name": "cluster",
            "connection": {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": socket}}},
        }],
    })
    .to_string()
}

async fn serve(listener: UnixListener, routes: Routes) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connect(stream, Arc::clone(&routes)));
    }
}

async fn connect(mut stream: UnixStream, routes: Routes) -> std::io::Result<()> {
    let Some(pod) = requested(&mut stream).await? else { return Ok(()) };
    let local = routes.lock().unwrap_or_else(PoisonError::into_inner).get(&pod).copied();
    let upstream = match local {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(mut upstream) = upstream else {
        return stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut upstream).await.map(drop)
}

/// Reads the request's head, one byte at a time so that nothing behind it is swallowed.
async fn requested(stream: &mut UnixStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    Ok(head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).map(str::to_owned))
}
