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
        /// Kubernetes' text. It may quote what was sent: see [`ApiError::of_secret_write`].
        message: String,
        /// The types of its causes, and the fields that they name.
        causes: Vec<(String, String)>,
    },
    /// No answer within the deadline.
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// The connection to the API server failed.
    #[error("the connection to the API server failed")]
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

    /// As the answer to a write of a Secret may be told.
    ///
    /// Admission sees the Secret and says what it likes, a value escaped or cut short as well. So of its words only the
    /// name of who spoke is kept. Of a `.dockerconfigjson` that is no JSON, validation itself tells the first byte; the
    /// fields that it names suffice.
    pub fn of_secret_write(mut self) -> Self {
        if let Self::Status { reason, message, causes, .. } = &mut self {
            if !REASONS.contains(&reason.as_str()) {
                "Unknown".clone_into(reason);
            }
            if message.starts_with(WEBHOOK) {
                // Its own words, too.
                causes.iter_mut().for_each(|(_, field)| field.clear());
            }
            *message = refused_by(message).unwrap_or_default();
        }
        self
    }

    /// Whether admission refused, and said so: after [`Self::of_secret_write`], only a name is left of a text.
    pub fn names_who_refuses(&self) -> bool {
        matches!(self, Self::Status { message, .. } if !message.is_empty())
    }

    /// With another name in the text.
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        if let Self::Status { message, .. } = &mut self {
            *message = message.replace(from, to);
        }
        self
    }

    /// For people: Kubernetes' own text, shortened, or the fields that it found fault with.
    ///
    /// Where the request held a Secret, ask [`ApiError::of_secret_write`] first.
    pub fn text(&self) -> String {
        let Self::Status { message, causes, .. } = self else { return self.to_string() };
        if !message.is_empty() {
            return message.chars().take(512).collect();
        }
        let fields: Vec<_> = causes.iter().map(|(_, field)| field.as_str()).filter(|field| !field.is_empty()).collect();
        if fields.is_empty() { self.to_string() } else { format!("{self}, at {}", fields.join(", ")) }
    }
}

/// How the text begins where a webhook refuses; Kubernetes sees to that.
const WEBHOOK: &str = "admission webhook \"";
/// How it begins where a webhook that must be asked does not answer.
const DEAD_WEBHOOK: &str = "Internal error occurred: failed calling webhook \"";
/// Kubernetes' own reasons; a webhook can give any other.
const REASONS: [&str; 19] = [
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedMediaType",
];

/// Who refuses a Secret, out of Kubernetes' text. What quota and rights say is Kubernetes' own, and is kept whole.
fn refused_by(message: &str) -> Option<String> {
    if let Some(rest) = message.strip_prefix(WEBHOOK) {
        let (name, _) = rest.split_once('"')?;
        return Some(format!("admission webhook {name} refuses the Secret"));
    }
    if let Some(rest) = message.strip_prefix(DEAD_WEBHOOK) {
        let (name, _) = rest.split_once('"')?;
        return Some(format!("admission webhook {name} does not answer"));
    }
    let (_, cause) = message.strip_prefix("secrets \"")?.split_once("\" is forbidden: ")?;
    if let Some(rest) = cause.strip_prefix("ValidatingAdmissionPolicy '") {
        let (name, _) = rest.split_once('\'')?;
        return Some(format!("ValidatingAdmissionPolicy {name} refuses the Secret"));
    }
    let is_own = ["exceeded quota: ", "User \""].iter().any(|start| cause.starts_with(start));
    is_own.then(|| message.to_owned())
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
            message: String::new(),
            causes: vec![(cause.into(), "data[password]".into())],
        }
    }

    fn told(code: u16, reason: &str, message: &str) -> String {
        let causes = vec![(String::new(), "data[password]".to_owned())];
        let error = ApiError::Status { code, reason: reason.to_owned(), message: message.to_owned(), causes };
        error.of_secret_write().text()
    }

    #[test]
    fn of_what_admission_says_of_a_secret_only_its_name_is_told() {
        for words in ["hunter2", r"line\nhunter2 escaped", "hunte", "secrets \"db\" is forbidden: User \"hunter2"] {
            let denied = format!("admission webhook \"policy.example.org\" denied the request: {words}");
            assert_eq!(told(403, "hunter2", &denied), "admission webhook policy.example.org refuses the Secret");
            let denied = format!(
                "secrets \"db\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {words}"
            );
            assert_eq!(told(422, "Invalid", &denied), "ValidatingAdmissionPolicy p refuses the Secret");
        }
        let dead = "Internal error occurred: failed calling webhook \"policy.example.org\": it says hunter2";
        assert_eq!(told(500, "InternalError", dead), "admission webhook policy.example.org does not answer");
        assert_eq!(told(403, "hunter2", "somebody says hunter2"), "403 Unknown, at data[password]");
        let quoting = ApiError::Status {
            code: 403,
            reason: "Forbidden".into(),
            message: "admission webhook \"policy.example.org".into(),
            causes: vec![(String::new(), "hunter2".into())],
        };
        assert_eq!(quoting.of_secret_write().text(), "403 Forbidden");
    }

    #[test]
    fn of_a_secret_that_is_invalid_only_the_fields_are_told() {
        let message = "Secret \"db\" is invalid: data[password]: Invalid value: \"h\"";
        assert_eq!(told(422, "Invalid", message), "422 Invalid, at data[password]");
    }

    #[test]
    fn quota_and_rights_are_told_in_full() {
        for message in [
            "secrets \"db\" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=5, limited: secrets=5",
            "secrets \"db\" is forbidden: User \"u\" cannot patch resource \"secrets\" in API group \"\" in the namespace \"n\"",
        ] {
            assert_eq!(told(403, "Forbidden", message), message);
        }
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
