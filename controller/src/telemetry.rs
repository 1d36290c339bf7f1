//! Owns the log: one subscriber for the process, as text or JSON on stderr.
//!
//! What is logged is an allow-list of our own modules and of two that say why TLS or a kubeconfig is odd. The rest of
//! kube, and vaultrs, rustify and hyper, log bodies and headers, at `warn` too, so that no flag and no variable can
//! switch them on; what they report as errors, we report in our own words.
//!
//! ```text
//! --log-level, --log-format -> start -> tracing events of the allow-list, panics -> stderr
//! ```

use std::{io, panic};

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
};

/// Our own crate: every event of it is written to be read by strangers.
const OURS: &str = "seal_controller";

/// Modules of libraries that may warn. Each was read: none of them formats a request, a response or an object.
const LIBRARIES: [&str; 2] = ["kube_client::client::tls", "kube_client::config"];

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line, its fields at the top.
    Json,
}

/// What is logged: this and whatever is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogLevel {
    /// What only a person can put right.
    Error,
    /// What went wrong and is tried again.
    Warn,
    /// What changed.
    #[default]
    Info,
    /// Every reconcile and why.
    Debug,
    /// Every step.
    Trace,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Somebody else already receives the log of this process.
#[derive(Debug, thiserror::Error)]
#[error("the log is already being written elsewhere")]
pub struct AlreadyStarted(#[source] tracing::subscriber::SetGlobalDefaultError);

/// Starts the log of the process. To be called once, before the first thing worth logging.
///
/// A panic is logged by its place. Its text is only logged where it stands literally in the source, for a formatted
/// one may quote data: the standard library's own, about a string that was cut within a character, quotes the string.
pub fn start(format: LogFormat, level: LogLevel) -> Result<(), AlreadyStarted> {
    tracing::subscriber::set_global_default(subscriber(format, level, io::stderr)).map_err(AlreadyStarted)?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn subscriber<W>(format: LogFormat, level: LogLevel, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A log that cannot be written is no reason to panic, as reporting it to the same place would.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    Registry::default().with(layer.with_filter(allowed(level.into())))
}

fn allowed(level: Level) -> Targets {
    let libraries = LevelFilter::from_level(level).min(LevelFilter::WARN);
    Targets::new().with_target(OURS, level).with_targets(LIBRARIES.map(|target| (target, libraries)))
}

fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let literal = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(text withheld)");
    tracing::error!(place, text = literal, "a fault of the controller: it panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, subscriber::with_default, trace, warn};

    use super::*;

    /// What was logged, as a writer.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(format: LogFormat, level: LogLevel, say: impl FnOnce()) -> String {
        let log = Log::default();
        let writer = log.clone();
        with_default(subscriber(format, level, move || writer.clone()), say);
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_level_lets_a_library_log_what_it_received() {
        let text = log(LogFormat::Text, LogLevel::Trace, || {
            error!(target: "kube_client::client", "hunter2");
            warn!(target: "kube_runtime::watcher", "hunter2");
            warn!(target: "hyper::proto", "hunter2");
            warn!(target: "vaultrs::api", "hunter2");
            error!(target: "rustify", "hunter2");
            info!(target: "kube_client::client::tls", "hunter2");
            warn!(target: "kube_client::client::tls", "stale roots");
            trace!("a step");
        });
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("stale roots") && text.contains("a step"), "{text}");
    }

    #[test]
    fn the_level_is_a_threshold() {
        let said = log(LogFormat::Text, LogLevel::Info, || {
            debug!("quiet");
            info!("loud");
        });
        assert!(said.contains("loud") && !said.contains("quiet"), "{said}");
        let said = log(LogFormat::Text, LogLevel::Error, || warn!(target: "kube_client::config", "quiet"));
        assert_eq!(said, "");
    }

    #[test]
    fn json_is_an_object_a_line_with_its_fields_at_the_top() {
        let text = log(LogFormat::Json, LogLevel::Info, || {
            let _object = tracing::info_span!("reconcile", object = "shop/db").entered();
            info!(reason = "Synced", "written");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!((&line["reason"], &line["message"]), (&"Synced".into(), &"written".into()));
        assert_eq!(line["span"]["object"], "shop/db");
    }

    #[test]
    fn a_panic_that_quotes_data_is_logged_by_its_place_alone() {
        let text = log(LogFormat::Text, LogLevel::Info, || {
            let before = panic::take_hook();
            panic::set_hook(Box::new(log_panic));
            let quoting = panic::catch_unwind(|| panic!("{}", String::from("hunter2")));
            let literal = panic::catch_unwind(|| panic!("length checked above"));
            panic::set_hook(before);
            assert!(quoting.is_err() && literal.is_err());
        });
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("telemetry.rs") && text.contains("length checked above"), "{text}");
    }
}
