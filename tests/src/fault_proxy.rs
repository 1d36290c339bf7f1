//! What no real server can be asked to do: point elsewhere, fall silent, tear an answer, let it drip.
//!
//! client -> [`FaultProxy`] (as it is told at the moment) -> the real server
//!
//! It works on bytes, below TLS and HTTP; only a redirect is an answer of its own.

use std::{
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

/// What the proxy does with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: everything passes.
    None,
    /// Answers the first request with 307 to this URL.
    Redirect(String),
    /// Takes everything and answers nothing.
    BlackHole,
    /// Closes the connection after so many bytes of the answer.
    Torn(usize),
    /// Passes the answer a byte at a time, with so much time between two.
    Drip(Duration),
    /// Closes each connection at once.
    Refuse,
    /// Answers the first request with these bytes.
    Answer(String),
}

/// A proxy on loopback; gone when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    fault: Mutex<Fault>,
    connections: AtomicUsize,
    open: Mutex<JoinSet<()>>,
    seen: Mutex<Vec<u8>>,
}

impl FaultProxy {
    /// Starts one in front of a server, that lets everything pass at first.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen")?;
        let address = listener.local_addr().context("look at the port")?;
        let shared = Arc::new(Shared {
            upstream,
            fault: Mutex::new(Fault::None),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            seen: Mutex::default(),
        });
        let accepting = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    let mut open = lock(&shared.open);
                    while open.try_join_next().is_some() {}
                    let shared = shared.clone();
                    // A broken connection is what it is here for.
                    open.spawn(async move { drop(serve(client, &shared).await) });
                }
            }
        });
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of every connection from now on. Those that exist end.
    pub fn set(&self, fault: Fault) {
        *lock(&self.shared.fault) = fault;
        lock(&self.shared.open).abort_all();
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Everything that clients have sent while it answered by itself.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&lock(&self.shared.seen)).into_owned()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        lock(&self.shared.open).abort_all();
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> Result<()> {
    let fault = lock(&shared.fault).clone();
    match fault {
        Fault::None => pass(client, shared, usize::MAX, None).await,
        Fault::Torn(bytes) => pass(client, shared, bytes, None).await,
        Fault::Drip(pause) => pass(client, shared, usize::MAX, Some(pause)).await,
        Fault::Refuse => Ok(()),
        Fault::BlackHole => loop {
            if read_some(&mut client, shared).await? == 0 {
                return Ok(());
            }
        },
        Fault::Redirect(to) => {
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            answer_once(client, shared, &answer).await
        }
        Fault::Answer(answer) => answer_once(client, shared, &answer).await,
    }
}

async fn answer_once(mut client: TcpStream, shared: &Shared, answer: &str) -> Result<()> {
    read_some(&mut client, shared).await?;
    client.write_all(answer.as_bytes()).await.context("answer")?;
    client.shutdown().await.context("close")
}

async fn read_some(client: &mut TcpStream, shared: &Shared) -> Result<usize> {
    let mut buffer = vec![0; 16 * 1024];
    let length = client.read(&mut buffer).await.context("read")?;
    lock(&shared.seen).extend_from_slice(&buffer[..length]);
    Ok(length)
}

/// Passes bytes both ways; of the answers at most so many, and at most one in each pause.
async fn pass(client: TcpStream, shared: &Shared, limit: usize, pause: Option<Duration>) -> Result<()> {
    let server = TcpStream::connect(shared.upstream).await.context("connect")?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        // A client that has said everything, or has gone, ends nothing: the answer does.
        let _ = copy(&mut from_client, &mut to_server).await;
        pending::<()>().await;
    };
    tokio::select! {
        passed = pass_back(&mut from_server, &mut to_client, limit, pause) => passed,
        () = there => Ok(()),
    }
}

/// Passes the answer.
async fn pass_back(
    from_server: &mut OwnedReadHalf,
    to_client: &mut OwnedWriteHalf,
    limit: usize,
    pause: Option<Duration>,
) -> Result<()> {
    let mut left = limit;
    let mut buffer = vec![0; if pause.is_some() { 1 } else { 16 * 1024 }];
    while left > 0 {
        let length = from_server.read(&mut buffer).await.context("read")?.min(left);
        if length == 0 {
            break;
        }
        to_client.write_all(&buffer[..length]).await.context("write")?;
        left -= length;
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
