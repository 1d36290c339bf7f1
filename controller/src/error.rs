//! What a call to the API server can fail with, without a byte of what was sent.
//!
//! kube::Error -> [`ApiError`]: kept is what decides what to do next, and what people need; kube's own texts may quote
//! whole bodies, so they are not.

use std::{future::Future, time::Duration};

use thiserror::Error;

/// A call that failed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The API server answered with an error.
    #[error("{code} {reason}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// Kubernetes' word for it.
        reason: String,
        /// Kubernetes' text. It may quote what was sent: see [`ApiError::cleared_of`].
        message: String,
        /// The types of its causes, and the fields that they name.
        causes: Vec<(String, String)>,
    },
    /// No answer within the deadline.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The connection failed.
    #[error("the connection failed")]
    Connection,
    /// The request or the answer makes no sense.
    #[error("the request or the answer is malformed")]
    Malformed,
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                Self::Status {
                    code: status.code,
                    reason: status.reason.clone(),
                    causes: causes.map(|cause| (cause.reason.clone(), cause.field.clone())).collect(),
                    message: status.message.clone(),
                }
            }
            kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) | kube::Error::FromUtf8(_) => Self::Malformed,
            _ => Self::Connection,
        }
    }
}

impl ApiError {
    /// The object is not what the precondition says. Two managers who disagree about a field are something else.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, causes, .. }
            if causes.iter().all(|(type_, _)| type_ != "FieldManagerConflict"))
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    /// 422.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Status { code: 422, .. })
    }

    /// The namespace is going, and everything in it.
    pub fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Status { code: 403, causes, .. }
            if causes.iter().any(|(type_, _)| type_ == "NamespaceTerminating"))
    }

    /// Whether it may work another time without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { code, .. } => *code == 429 || *code >= 500,
            Self::Deadline(_) | Self::Connection => true,
            Self::Malformed => false,
        }
    }

    /// Without Kubernetes' text, if that quotes one of `secrets`: an admission webhook sees the Secret, and may say
    /// anything. Nor with what validation says: of a `.dockerconfigjson` that is no JSON it tells the first byte. The
    /// fields that it names suffice.
    pub fn cleared_of<'a>(mut self, secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let is_invalid = self.is_invalid();
        if let Self::Status { message, .. } = &mut self
            && (is_invalid || secrets.into_iter().any(|secret| is_quoted(message, secret)))
        {
            message.clear();
        }
        self
    }

    /// For people: Kubernetes' own text, shortened, or the fields that it found fault with.
    ///
    /// To be cleared first where the request held secrets.
    pub fn text(&self) -> String {
        let Self::Status { message, causes, .. } = self else { return self.to_string() };
        if !message.is_empty() {
            return message.chars().take(512).collect();
        }
        let fields: Vec<_> = causes.iter().map(|(_, field)| field.as_str()).filter(|field| !field.is_empty()).collect();
        if fields.is_empty() { self.to_string() } else { format!("{self}, at {}", fields.join(", ")) }
    }
}

/// Whether a text holds a secret, as it is or in base64. Very short ones are everywhere.
fn is_quoted(text: &str, secret: &[u8]) -> bool {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
    let plain = String::from_utf8_lossy(secret);
    let lines = plain.lines().map(str::trim).filter(|line| line.len() > 3);
    lines.into_iter().any(|line| text.contains(line))
        || (secret.len() > 3 && text.contains(&BASE64_STANDARD_NO_PAD.encode(secret)))
}

/// A call with a deadline: kube's client has none for reading.
pub async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map_err(ApiError::from),
        Err(_) => Err(ApiError::Deadline(deadline)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, cause: &str) -> ApiError {
        ApiError::Status {
            code,
            reason: "Invalid".into(),
            message: "data is hunter2 or aHVudGVyMg== here".into(),
            causes: vec![(cause.into(), "data[password]".into())],
        }
    }

    #[test]
    fn a_quoted_secret_is_not_repeated() {
        let error = status(403, "");
        for secret in [b"hunter2".as_slice(), b"hunter2\n", b"first\nhunter2"] {
            assert_eq!(error.clone().cleared_of([secret]).text(), "403 Invalid, at data[password]");
        }
        assert!(error.cleared_of([b"other".as_slice()]).text().contains("hunter2"));
    }

    #[test]
    fn of_a_secret_that_is_invalid_only_the_fields_are_told() {
        let told = status(422, "FieldValueInvalid").cleared_of([b"other".as_slice()]).text();
        assert_eq!(told, "422 Invalid, at data[password]");
    }

    #[test]
    fn only_a_missed_precondition_means_read_again() {
        assert!(status(409, "").is_conflict());
        assert!(!status(409, "FieldManagerConflict").is_conflict());
        assert!(status(403, "NamespaceTerminating").is_namespace_terminating());
        assert!(!status(403, "").is_namespace_terminating());
        assert!(status(503, "").is_transient() && !status(422, "").is_transient());
    }
}
