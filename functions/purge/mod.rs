//! Deletes sessions that ended longer ago than the retention time, stale counts of attempts, networks from which their
//! user has not logged in for a long time, and messages that were not sent. Invoked by a schedule with any event.
//! Idempotent, and safe to run concurrently.

use chrono::TimeDelta;
use serde::Serialize;
use shared::config::{ConfigError, DatabaseConfig, Environment};
use shared::database::{Database, DatabaseError};
use shared::{attempts, outbox, sessions};
use thiserror::Error;

/// Maximum rows deleted by one statement: that takes tens of milliseconds, far below the statement timeout, and holds
/// no lock for long.
const BATCH: u32 = 1_000;

/// Maximum statements of one kind in one run. Half a million rows an hour are twelve times what a million log-ins a day
/// need.
const MAX_BATCHES: u32 = 500;

/// How long messages are kept in the outbox.
const OUTBOX_RETENTION: TimeDelta = TimeDelta::days(30);

/// The result.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    /// Sessions that were deleted.
    pub sessions: u64,
    /// Counts that were deleted.
    pub attempts: u64,
    /// Networks of users that were deleted.
    pub known_networks: u64,
    /// What was to be sent and nobody took.
    pub outbox: u64,
    /// Nothing is left to delete.
    pub complete: bool,
}

/// Why not everything was deleted. The next run continues where this one stopped.
#[derive(Debug, Error)]
pub enum Failure {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be reached or is too slow.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Removes in batches, as the settings in `environment` say: those of the database, and `SESSION_RETENTION_DAYS`, how
/// long a session is kept after its end.
///
/// # Errors
/// A message for the log of the function, without secrets.
pub async fn handle(environment: &Environment) -> Result<Report, Failure> {
    let database = Database::new(DatabaseConfig::from_environment(environment)?);
    let days = environment.number("SESSION_RETENTION_DAYS", 7, 0..=3650)?;
    database.wait_until_reachable().await?;
    let retention = TimeDelta::days(days);
    let (sessions, no_sessions_left) = in_batches(async || {
        database
            .write(&retention, |connection, retention| {
                Box::pin(sessions::purge(connection, *retention, BATCH))
            })
            .await
    })
    .await?;
    let (attempts, no_attempts_left) = in_batches(async || {
        database
            .write(&(), |connection, ()| Box::pin(attempts::purge(connection, BATCH)))
            .await
    })
    .await?;
    let (known_networks, no_networks_left) = in_batches(async || {
        database
            .write(&(), |connection, ()| {
                Box::pin(attempts::purge_known_networks(connection, BATCH))
            })
            .await
    })
    .await?;
    let (outbox, nothing_left_to_send) = in_batches(async || {
        database
            .write(&OUTBOX_RETENTION, |connection, retention| {
                Box::pin(outbox::purge(connection, *retention, BATCH))
            })
            .await
    })
    .await?;
    let report = Report {
        sessions,
        attempts,
        known_networks,
        outbox,
        complete: no_sessions_left && no_attempts_left && no_networks_left && nothing_left_to_send,
    };
    Ok(report)
}

/// How many rows `remove` removed in all, and whether it found fewer than it might have in the end.
async fn in_batches(
    remove: impl AsyncFn() -> Result<u64, DatabaseError>,
) -> Result<(u64, bool), DatabaseError> {
    let mut removed = 0;
    for _ in 0..MAX_BATCHES {
        let batch = remove().await?;
        removed += batch;
        if batch < BATCH.into() {
            return Ok((removed, true));
        }
    }
    Ok((removed, false))
}
