//! Waiting for what should become true, with a deadline, and never for time to pass.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Enough for anything that should take a second, on a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

const BETWEEN_PROBES: Duration = Duration::from_millis(20);

/// Probes until there is a value; an error of the probe counts as "not yet", and is shown when time is up.
pub async fn until<T, P, F>(what: &str, probe: P) -> Result<T>
where
    P: FnMut() -> F,
    F: Future<Output = Result<Option<T>>>,
{
    until_within(PATIENCE, what, probe).await
}

/// Like [`until`], with a deadline that is part of the claim.
pub async fn until_within<T, P, F>(limit: Duration, what: &str, mut probe: P) -> Result<T>
where
    P: FnMut() -> F,
    F: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        let answer = tokio::time::timeout(limit, probe()).await.unwrap_or_else(|_| Err(anyhow!("the probe hangs")));
        match answer {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if start.elapsed() > limit => return Err(anyhow!("not within {limit:?}: {what}")),
            Err(error) if start.elapsed() > limit => return Err(error.context(format!("not within {limit:?}: {what}"))),
            _ => tokio::time::sleep(BETWEEN_PROBES).await,
        }
    }
}

/// Probes until the value equals `wanted`; the last other value is shown when time is up.
pub async fn until_equal<T, P, F>(what: &str, wanted: T, mut probe: P) -> Result<()>
where
    T: PartialEq + Debug,
    P: FnMut() -> F,
    F: Future<Output = Result<T>>,
{
    let wanted = &wanted;
    until(what, || {
        let answer = probe();
        async move {
            match answer.await? {
                value if value == *wanted => Ok(Some(())),
                other => Err(anyhow!("it is {other:?}, not {wanted:?}")),
            }
        }
    })
    .await
}

/// Works until it is done, or until time is up.
pub async fn or_late<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(anyhow!("not within {PATIENCE:?}: {what}")))
}

/// Works until it is done, or until somebody types Ctrl-C: then it is an error, and what is under way is dropped.
pub async fn or_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
    }
}
