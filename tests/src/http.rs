//! The little HTTP that the tests speak with the controller.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::Request;
use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// GET.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    send(address, Request::get(path), Vec::new()).await
}

/// POST.
pub async fn post(address: SocketAddr, path: &str, body: Vec<u8>) -> Result<Answer> {
    send(address, Request::post(path), body).await
}

async fn send(address: SocketAddr, request: ::http::request::Builder, body: Vec<u8>) -> Result<Answer> {
    let request = request.header("host", address.to_string()).body(Full::new(Bytes::from(body)));
    let request = request.context("make a request")?;
    tokio::time::timeout(PATIENCE, exchange(address, request)).await.context("no answer in time")?
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The sum of a metric in Prometheus' text form, over all label sets that contain every one of `labels`.
pub fn metric(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (set, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let wanted = labels.iter().all(|label| set.contains(label));
        wanted.then(|| value.split(' ').next()?.parse::<f64>().ok()).flatten()
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn a_metric_is_summed_over_the_label_sets_that_match() {
        let text =
            "# TYPE a counter\na_total{x=\"1\",y=\"p\"} 2\na_total{x=\"1\",y=\"q\"} 3 1700\na_total{x=\"2\"} 7\nb 5\n";
        assert_eq!(metric(text, "a_total", &["x=\"1\""]), 5.0);
        assert_eq!(metric(text, "a_total", &[]), 12.0);
        assert_eq!(metric(text, "b", &[]), 5.0);
        assert_eq!(metric(text, "c", &[]), 0.0);
    }
}
