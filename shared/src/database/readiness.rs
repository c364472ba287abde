//! Readiness: whether requests can be served.

use sqlx::PgExecutor;
use tokio::time::timeout;

use super::error::Failure;
use super::{Database, DatabaseError, MIGRATOR};

/// The result of the readiness check, for `/health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The database answered.
    pub database_up: bool,
    /// Its schema, compared with the one that this code needs.
    pub schema: Schema,
    /// Why requests cannot be served, for the log; `None` if they can.
    pub problem: Option<String>,
}

/// The schema of the database, compared with the one that this code needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Every migration known to this code has run.
    Current,
    /// At least one has not.
    Behind,
    /// Could not be determined.
    Unknown,
}

impl Database {
    /// Checks whether requests can be served, in one round trip and a time of its own.
    pub async fn readiness(&self) -> Readiness {
        let known: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
        let count = self.read(&known, |connection, known| {
            Box::pin(count_migrations(connection, known))
        });
        let count = timeout(self.timeouts.readiness, count).await;
        let count = count.unwrap_or(Err(Failure::Timeout("the database").into()));
        let (database_up, schema, problem) = match count {
            Ok(Some(count)) if usize::try_from(count) == Ok(known.len()) => (true, Schema::Current, None),
            Ok(Some(count)) => {
                let problem = format!("{count} of {} migrations have run", known.len());
                (true, Schema::Behind, Some(problem))
            }
            Ok(None) => {
                let problem = "the table of migrations cannot be read".to_owned();
                (true, Schema::Unknown, Some(problem))
            }
            Err(error @ DatabaseError::Defect(_)) => (true, Schema::Unknown, Some(error.to_string())),
            Err(error @ DatabaseError::Unavailable(_)) => (false, Schema::Unknown, Some(error.to_string())),
        };
        Readiness {
            database_up,
            schema,
            problem,
        }
    }
}

/// `None` if the table of migrations cannot be read.
async fn count_migrations(
    executor: impl PgExecutor<'_>,
    versions: &[i64],
) -> Result<Option<i64>, sqlx::Error> {
    // The table is the driver's, so this is not checked at compile time.
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM people._sqlx_migrations WHERE success AND version = ANY($1)",
    )
    .bind(versions)
    .fetch_one(executor)
    .await;
    match count {
        Err(sqlx::Error::Database(error)) => match error.code().as_deref() {
            // No table of migrations: none has run.
            Some("42P01") => Ok(Some(0)),
            Some(code) if code.starts_with("42") => Ok(None),
            _ => Err(sqlx::Error::Database(error)),
        },
        count => count.map(Some),
    }
}
