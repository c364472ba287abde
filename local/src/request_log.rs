//! The log on a terminal: one short line per request, with its security events and the start of its id.
//!
//! `16:21:16 200 POST /auth/login 39 ms authn_login_success 5a0dea8a`

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{ChronoLocal, FormatTime as _};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Logs to standard error in this format. Call once, first.
pub fn init() {
    // Fails only if a subscriber is already set; then that one logs.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(RequestLog(io::stderr)));
    shared::telemetry::report_panics();
}

/// A layer that writes the lines to `W`.
pub struct RequestLog<W>(pub W);

/// The fields of a span or an event, as text.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Fields {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// What is known of a request in progress.
#[derive(Default)]
struct Request {
    fields: Fields,
    /// Its security events.
    events: Vec<String>,
}

impl<S, W> Layer<S> for RequestLog<W>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut request = Request::default();
            attributes.record(&mut request.fields);
            span.extensions_mut().insert(request);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(request) = span.extensions_mut().get_mut::<Request>()
        {
            values.record(&mut request.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        // The driver logs messages of the server, which may quote any value.
        if *metadata.level() > tracing::Level::INFO || metadata.target().starts_with("sqlx") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event);
        let mut extensions = span.as_ref().map(|span| span.extensions_mut());
        let request = extensions
            .as_mut()
            .and_then(|extensions| extensions.get_mut::<Request>());
        let line = match (fields.text("message"), request) {
            ("security", Some(request)) => {
                request.events.push(fields.text("event").to_owned());
                return;
            }
            ("request", Some(request)) => request_line(&fields, request),
            _ => other_line(metadata.level().as_str(), &fields),
        };
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = ChronoLocal::new("%H:%M:%S ".to_owned()).format_time(&mut Writer::new(&mut text));
        for c in line.chars() {
            // External input must not start a new line.
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        text.push('\n');
        // Nobody may be reading it.
        let _ = io::Write::write_all(&mut self.0.make_writer(), text.as_bytes());
    }
}

fn request_line(fields: &Fields, request: &Request) -> String {
    let route = request.fields.text("route");
    let mut line = format!("{} {route}", fields.text("status"));
    match fields.text("milliseconds").parse::<f64>() {
        Ok(milliseconds) if milliseconds >= 0.5 => {
            let _ = write!(line, " {milliseconds:.0} ms");
        }
        _ => line.push_str(" <1 ms"),
    }
    for event in &request.events {
        let _ = write!(line, " {event}");
    }
    // The start of the header x-request-id is enough to find the request.
    let id = request.fields.text("request_id");
    let _ = write!(line, " {}", id.get(..8).unwrap_or(id));
    for (name, value) in [
        ("", fields.text("error")),
        ("panic at ", request.fields.text("panic")),
    ] {
        if !value.is_empty() {
            let _ = write!(line, ": {name}{value}");
        }
    }
    line
}

fn other_line(level: &str, fields: &Fields) -> String {
    let mut line = format!("{level} {}", fields.text("message"));
    for (name, value) in fields.0.iter().filter(|(name, _)| **name != "message") {
        let _ = write!(line, " {name}={value}");
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` writes, without the time.
    fn lines(log: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = Registry::default().with(RequestLog(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| {
                let (time, rest) = line.split_once(' ').unwrap();
                let digits: Vec<bool> = time.bytes().map(|b| b.is_ascii_digit()).collect();
                assert_eq!(
                    digits,
                    [true, true, false, true, true, false, true, true],
                    "{line}"
                );
                rest.to_owned()
            })
            .collect()
    }

    #[test]
    fn a_request_is_one_line_with_its_events() {
        let lines = lines(|| {
            let span = tracing::info_span!(
                "request",
                request_id = "5a0dea8a-0000-4000-8000-000000000000",
                route = format_args!("POST /auth/login"),
                panic = tracing::field::Empty,
            );
            let _entered = span.enter();
            tracing::warn!(event = "authn_login_fail", "security");
            tracing::info!(event = "authn_login_success", user_id = "x", "security");
            tracing::debug!("nothing");
            tracing::info!(target: "sqlx::query", "nothing");
            tracing::info!(
                status = 200,
                code = 1,
                milliseconds = 38.6,
                cold = true,
                "request"
            );
        });
        assert_eq!(
            lines,
            ["200 POST /auth/login 39 ms authn_login_fail authn_login_success 5a0dea8a"]
        );
    }

    #[test]
    fn errors_are_at_the_end_of_the_line_and_cannot_break_it() {
        let lines = lines(|| {
            let span = tracing::info_span!(
                "request",
                request_id = "id",
                route = "GET /a\nb",
                panic = tracing::field::Empty
            );
            let _entered = span.enter();
            span.record("panic", "src/a.rs:1:2");
            tracing::error!(
                status = 500,
                milliseconds = 0.1,
                error = "broken\r\n\u{1b}[31m",
                "request"
            );
        });
        assert_eq!(
            lines,
            ["500 GET /a\\nb <1 ms id: broken\\r\\n\\u{1b}[31m: panic at src/a.rs:1:2"]
        );
    }

    #[test]
    fn other_events_are_logged_with_their_fields() {
        let lines = lines(|| tracing::warn!(origin = "https://a.example", "origin refused"));
        assert_eq!(lines, ["WARN origin refused origin=https://a.example"]);
    }
}
