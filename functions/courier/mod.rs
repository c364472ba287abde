//! Sends what `outbox` has taken out of the database: mails through SES, and events through EventBridge. The Lambda
//! service invokes it with the answer of `outbox`, and twice more if it fails. It has no database and no secret.
//!
//! An invocation sends each mail once. What fails temporarily is tried again; if it keeps failing, so does the
//! invocation. Then the next one repeats all of it: a mail that is sent twice contains the same link.

mod delivery;
mod events;
mod mails;

use std::time::Duration;

use chrono::{DateTime, Utc};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::aws;
use shared::config::{ConfigError, Environment};
use shared::http::{cannot_start, now};
use shared::telemetry;
use thiserror::Error;
use tokio::time::Instant;

use delivery::{Tally, deliver};
use events::{Event, EventBridge};
use mails::{Mail, Ses};

/// Timeout of one call to SES or EventBridge: an answer takes tens of milliseconds. A mail that was accepted after it
/// is sent again.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The last call begins so much before the invocation is cut off that it ends in time, and that the outcome can be
/// logged.
const RESERVE: Duration = CALL_TIMEOUT.saturating_add(Duration::from_secs(1));

/// Runs the function until the instance is shut down.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run() -> Result<(), lambda_runtime::Error> {
    telemetry::init(telemetry::standard_output);
    let courier = Courier::new(&Environment::of_process()).await;
    let courier = &courier.unwrap_or_else(|error| cannot_start(&error));
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let until = last_call(event.context.deadline, now());
        let outcome = courier.handle(event.payload, until).await;
        outcome.map_err(|failure| failure.to_string())
    }))
    .await
}

/// When the last call may begin. `deadline`: milliseconds since 1970.
fn last_call(deadline: u64, now: DateTime<Utc>) -> Instant {
    let elapsed = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    let left = Duration::from_millis(deadline.saturating_sub(elapsed));
    // An instance lives for hours, so no deadline is a day away.
    Instant::now() + left.saturating_sub(RESERVE).min(Duration::from_hours(24))
}

/// What the Lambda service sends to a destination, as far as it is needed.
#[derive(Deserialize)]
struct Invocation {
    #[serde(rename = "responsePayload")]
    answer: Answer,
}

/// The answer of `outbox`.
#[derive(Deserialize)]
struct Answer {
    mails: Vec<Mail>,
    events: Vec<Event>,
}

/// What became of an answer of `outbox`.
#[derive(Debug, Serialize)]
struct Report {
    /// Mails that SES accepted.
    sent: usize,
    /// Mails that SES refused for good, or that cannot be sent since mail is not set up.
    dropped: usize,
    /// Events that EventBridge accepted.
    events: usize,
}

/// Why the Lambda service has to repeat the invocation.
#[derive(Debug, Error)]
enum Failure {
    /// Its message quotes nothing: the event contains addresses and links.
    #[error("not an answer of outbox, wrapped as for a destination")]
    UnknownEvent,
    #[error("mails left: {0}, events left: {1}")]
    Left(usize, usize),
}

/// The clients of an instance.
struct Courier {
    /// None unless mail is set up.
    ses: Option<Ses>,
    event_bridge: EventBridge,
}

impl Courier {
    async fn new(environment: &Environment) -> Result<Self, ConfigError> {
        let bus = environment.text("EVENT_BUS");
        let bus = bus.ok_or_else(|| ConfigError::new("EVENT_BUS", "is missing"))?;
        let sdk = aws::sdk_config(CALL_TIMEOUT).await;
        Ok(Self {
            ses: environment.text("MAIL_FROM").map(|sender| Ses::new(&sdk, sender)),
            event_bridge: EventBridge::new(&sdk, bus),
        })
    }

    /// Sends an answer of `outbox`, and logs one line, besides one for each mail that is dropped.
    async fn handle(&self, event: Value, until: Instant) -> Result<Report, Failure> {
        let Ok(Invocation { answer }) = serde_json::from_value(event) else {
            let failure = Failure::UnknownEvent;
            tracing::error!(error = %failure, "courier");
            return Err(failure);
        };
        // Events first: nobody can ask for them again.
        let events = deliver(answer.events, events::BATCH, until, async |events| {
            self.event_bridge.put(events).await
        })
        .await;
        let mails = self.send(answer.mails, until).await;
        let report = Report {
            sent: mails.delivered,
            dropped: mails.dropped,
            events: events.delivered,
        };
        let (sent, dropped, put, left) = (
            report.sent,
            report.dropped,
            report.events,
            mails.left + events.left,
        );
        if left == 0 {
            tracing::info!(sent, dropped, events = put, left, "courier");
            return Ok(report);
        }
        let reasons: Vec<_> = [events.problem, mails.problem].into_iter().flatten().collect();
        tracing::error!(
            sent,
            dropped,
            events = put,
            left,
            error = reasons.join(", "),
            "courier"
        );
        Err(Failure::Left(mails.left, events.left))
    }

    async fn send(&self, mails: Vec<Mail>, until: Instant) -> Tally {
        if let Some(ses) = &self.ses {
            return deliver(mails, 1, until, async |mails| ses.send(mails).await).await;
        }
        if !mails.is_empty() {
            tracing::error!(
                mails = mails.len(),
                error = "MAIL_FROM is missing",
                "mails dropped"
            );
        }
        Tally {
            dropped: mails.len(),
            ..Tally::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_call_begins_early_enough_to_end_before_the_deadline() {
        let now = DateTime::from_timestamp_millis(1_000_000).unwrap();
        let seconds_left = |deadline| (last_call(deadline, now) - Instant::now()).as_secs();
        assert_eq!(seconds_left(1_120_000), 114);
        assert_eq!(seconds_left(1_005_000), 0);
        assert_eq!(seconds_left(0), 0);
        assert_eq!(seconds_left(u64::MAX), 24 * 3600);
    }
}
