//! Events for other services, through EventBridge.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::Builder;
use aws_sdk_eventbridge::config::retry::RetryConfig;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::aws::SdkConfig;

use super::delivery::{Outcome, Problem};

/// The most entries of one call.
pub(super) const BATCH: usize = 10;

/// The source of every event, by which rules select them.
const SOURCE: &str = "people";

/// An event.
#[derive(Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    kind: String,
    detail: Map<String, Value>,
}

/// EventBridge, and the bus that all events are put on.
pub(super) struct EventBridge {
    client: Client,
    bus: String,
}

impl EventBridge {
    pub(super) fn new(sdk: &SdkConfig, bus: &str) -> Self {
        // `deliver` tries again.
        let config = Builder::from(sdk).retry_config(RetryConfig::disabled());
        Self {
            client: Client::from_conf(config.build()),
            bus: bus.to_owned(),
        }
    }

    /// Puts at most [`BATCH`] events on the bus. Each of them may be refused by itself.
    pub(super) async fn put(&self, events: &[Event]) -> Vec<Outcome> {
        let entry = |event: &Event| {
            PutEventsRequestEntry::builder()
                .source(SOURCE)
                .detail_type(&event.kind)
                .detail(Value::Object(event.detail.clone()).to_string())
                .event_bus_name(&self.bus)
                .build()
        };
        let call = self
            .client
            .put_events()
            .set_entries(Some(events.iter().map(entry).collect()));
        match call.send().await {
            // In the order of the entries.
            Ok(answer) => (0..events.len())
                .map(|at| match answer.entries().get(at) {
                    Some(entry) if entry.event_id().is_some() => Outcome::Delivered,
                    entry => {
                        let code = entry.and_then(|entry| entry.error_code()).unwrap_or("no answer");
                        Outcome::Later(format!("EventBridge: {code}"))
                    }
                })
                .collect(),
            Err(error) => {
                let Problem { code, temporary } = Problem::of(&error);
                let problem = format!("EventBridge: {code}");
                let outcome = if temporary { Outcome::Later } else { Outcome::Stop };
                events.iter().map(|_| outcome(problem.clone())).collect()
            }
        }
    }
}
