//! The database connections of an instance: few, kept between requests, and replaced when they die.
//!
//! sqlx's own pool pings every connection that is returned to it. That would be a round trip per request, which a
//! function that is frozen between requests cannot afford. This one pings only connections that were idle for a while,
//! and retries statements, if that is safe, when a connection turns out to be dead.

mod adoption;
mod connect;
mod connection;
mod error;
mod locks;
mod migrate;
mod readiness;
mod retry;
mod rights;
mod schema;

use std::sync::Mutex;

use chrono::TimeDelta;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::types::PgInterval;
use tokio::sync::Semaphore;

pub use self::adoption::canonical as canonical_userid;
pub use self::connection::{Connection, Statement};
pub use self::error::DatabaseError;
pub use self::migrate::{MIGRATOR, Migrated, Migration, MigrationError, migrate};
pub use self::readiness::{Readiness, Schema};
pub use self::retry::one_request;
use self::retry::{Idle, Kind};
pub use self::schema::{lines as schema_lines, secure_functions};
use crate::aws::Aws;
use crate::config::{Credentials, DatabaseConfig, Pooler, Timeouts};

/// The connections of one instance.
pub struct Database {
    /// Everything known without AWS.
    options: PgConnectOptions,
    credentials: Credentials,
    aws: Aws,
    /// The options with the secret as last read.
    with_secret: Mutex<Option<PgConnectOptions>>,
    pooler: Pooler,
    timeouts: Timeouts,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

impl Database {
    /// Does not connect yet: a database that is down does not prevent startup.
    #[must_use]
    pub fn new(config: DatabaseConfig) -> Self {
        Self {
            options: config.options,
            credentials: config.credentials,
            aws: Aws::default(),
            with_secret: Mutex::default(),
            pooler: config.pooler,
            timeouts: config.timeouts,
            permits: Semaphore::new(config.connections),
            idle: Mutex::default(),
        }
    }

    /// Runs a statement that only reads. It is sent a second time if its connection dies.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] within the remaining budget of the request.
    pub async fn read<A: Sync, T>(
        &self,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, DatabaseError> {
        self.run(Kind::Read, arguments, statement).await
    }

    /// Runs a statement that writes. It is sent a second time only if the server reports that it did not run or was
    /// rolled back.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] within the remaining budget of the request. Whether it was written is then
    /// unknown.
    pub async fn write<A: Sync, T>(
        &self,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, DatabaseError> {
        self.run(Kind::Write, arguments, statement).await
    }
}

/// A duration as an interval of PostgreSQL, in microseconds: months and days would depend on the calendar.
pub(crate) fn interval(duration: TimeDelta) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: duration.num_microseconds().unwrap_or(i64::MAX),
    }
}
