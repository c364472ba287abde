//! The log as one JSON object per line. The format of `tracing_subscriber` keeps the fields of a span as JSON text, and
//! parses it again for each line: with that, logging took a quarter of the instructions of `me`.

use std::fmt;
use std::io::Write as _;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// A layer that writes the lines to `W`: time, level, the fields of the event, and as `span` those of the innermost
/// span.
pub struct JsonLog<W>(pub W);

/// Members of a JSON object, without its braces. The writer escapes names and values.
#[derive(Default)]
struct Members(Vec<u8>);

impl Members {
    fn add(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.start(name);
        // Text, numbers and truth values, written to memory: this does not fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    fn add_object(&mut self, name: &str, members: &Self) {
        self.start(name);
        self.0.push(b'{');
        self.0.extend_from_slice(&members.0);
        self.0.push(b'}');
    }

    fn start(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
        let _ = serde_json::to_writer(&mut self.0, name);
        self.0.push(b':');
    }
}

impl Visit for Members {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format_args!("{value:?}"));
    }
}

impl<S, W> Layer<S> for JsonLog<W>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut members = Members(Vec::with_capacity(256));
            members.add("name", span.name());
            attributes.record(&mut members);
            span.extensions_mut().insert(members);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(members) = span.extensions_mut().get_mut::<Members>()
        {
            values.record(members);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut timestamp = String::with_capacity(27);
        // Writing to a String does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let mut line = Members(Vec::with_capacity(512));
        line.add("timestamp", &timestamp);
        line.add("level", metadata.level().as_str());
        event.record(&mut line);
        if let Some(span) = context.event_span(event)
            && let Some(members) = span.extensions().get::<Members>()
        {
            line.add_object("span", members);
        }
        let mut line = line.0;
        line.insert(0, b'{');
        line.extend_from_slice(b"}\n");
        // There is nowhere else to report that this fails.
        let _ = self.0.make_writer_for(metadata).write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::telemetry::subscriber;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` writes, without the time.
    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(subscriber(move || writer.clone()), log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let without_time = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            let time = time.as_str().unwrap();
            assert!(
                time.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(time).is_ok(),
                "{time}"
            );
            line
        };
        text.lines().map(without_time).collect()
    }

    #[test]
    fn a_line_has_the_fields_of_the_event_and_of_the_innermost_span() {
        let lines = lines(|| {
            let _outer = tracing::info_span!("outer", unseen = 1).entered();
            let span =
                tracing::info_span!("request", id = %"a\"b", late = tracing::field::Empty, none = None::<u8>);
            let _inner = span.enter();
            tracing::info!(status = 200_u16, took = 0.5, below = -1, cold = true, error = ?"x\n", "done");
            span.record("late", "now");
            tracing::error!(none = None::<&str>, nan = f64::NAN, "again");
        });
        let first = json!({ "name": "request", "id": "a\"b" });
        let second = json!({ "name": "request", "id": "a\"b", "late": "now" });
        assert_eq!(
            lines,
            [
                json!({
                    "level": "INFO", "status": 200, "took": 0.5, "below": -1, "cold": true, "error": "\"x\\n\"",
                    "message": "done", "span": first
                }),
                json!({ "level": "ERROR", "nan": null, "message": "again", "span": second }),
            ]
        );
    }

    #[test]
    fn what_the_driver_says_and_what_only_developers_need_is_not_logged() {
        let lines = lines(|| {
            tracing::debug!("hidden");
            tracing::error!(target: "sqlx::query", "hidden");
            tracing::error!(target: "lambda_runtime::layers::panic", "hidden");
            tracing::warn!("seen");
        });
        assert_eq!(lines, [json!({ "level": "WARN", "message": "seen" })]);
    }

    proptest! {
        /// Whatever a client sends, it is one value of one line.
        #[test]
        fn a_value_cannot_leave_its_member(value in "(?s).*") {
            let lines = lines(|| {
                let _span = tracing::info_span!("request", value, shown = %value).entered();
                tracing::info!(value, shown = %value, "request");
            });
            let span = json!({ "name": "request", "value": value, "shown": value });
            prop_assert_eq!(
                lines,
                [json!({ "level": "INFO", "value": value, "shown": value, "message": "request", "span": span })]
            );
        }
    }
}
