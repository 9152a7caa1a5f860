//! What a daemon tells of itself: structured events on standard error, as text for people or as JSON lines.
//!
//! Metrics are the gateway's; the output of functions is not telemetry, it has a store of its own.

use serde::Deserialize;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

/// `[log]`: the daemons' own log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: Format,
    /// A level for all, or for some parts: `info`, `info,gateway=debug,runtime=trace`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Why a text names no format.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a log is written as `text` or as `json`, not as {0:?}")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(FormatError(text.to_owned())),
        }
    }
}

/// Why telemetry could not be started.
#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error("the log level {level:?} is not one of error, warn, info, debug and trace, nor a list of PART=LEVEL")]
    Level { level: String },
    #[error("telemetry is already running in this process")]
    Running(#[source] TryInitError),
}

/// Starts writing this process's events to standard error.
pub fn start(log: &Log) -> Result<(), TelemetryError> {
    let filter = filter(&log.level).ok_or_else(|| TelemetryError::Level { level: log.level.clone() })?;
    let registry = tracing_subscriber::registry().with(layer(log.format).with_filter(filter));
    registry.try_init().map_err(TelemetryError::Running)
}

/// A word that is neither a level nor PART=LEVEL would name a part, and so silence all others: a slip, not a wish.
fn filter(level: &str) -> Option<Targets> {
    let is_clear = |directive: &str| directive.contains('=') || directive.parse::<LevelFilter>().is_ok();
    if level.split(',').all(is_clear) { level.parse().ok() } else { None }
}

fn layer(format: Format) -> Box<dyn Layer<Registry> + Send + Sync> {
    match format {
        Format::Text => text(io::stderr, io::stderr().is_terminal()).boxed(),
        Format::Json => json(io::stderr).boxed(),
    }
}

fn text<S, W>(writer: W, colours: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> fmt::MakeWriter<'a> + 'static,
{
    fmt::layer().with_writer(writer).with_ansi(colours)
}

fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> fmt::MakeWriter<'a> + 'static,
{
    fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_writer(writer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(layer: impl FnOnce(Page) -> Box<dyn Layer<Registry> + Send + Sync>) -> String {
        let page = Page::default();
        let subscriber = tracing_subscriber::registry().with(layer(page.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::info!(function = "resize", "a start"));
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn events_are_lines_with_fields() {
        let line = written(|page| text(move || page.clone(), false).boxed());
        assert!(line.ends_with("a start function=\"resize\"\n"), "{line}");
        let line = written(|page| json(move || page.clone()).boxed());
        assert!(line.contains(r#""message":"a start","function":"resize""#), "{line}");
    }

    #[test]
    fn levels_and_formats_are_checked() {
        for level in ["loud", "info,gateway", "gateway=loud"] {
            let log = Log { level: level.to_owned(), ..Log::default() };
            assert!(matches!(start(&log), Err(TelemetryError::Level { .. })), "{level}");
        }
        assert!(filter("info,gateway=debug").is_some());
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("xml".parse::<Format>().is_err());
    }
}
