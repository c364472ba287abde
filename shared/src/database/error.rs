//! Why a statement failed, whether it may be retried, and the error that callers get.

use std::borrow::Cow;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use thiserror::Error;

use super::MigrationError;
use crate::aws::AwsError;
use crate::config::ConfigError;

/// A statement failed.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The database cannot be reached, is too slow, rejects us or has another schema.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The statement is wrong: a defect of ours.
    #[error("statement failed: {0}")]
    Defect(String),
}

/// Why a statement failed.
pub(super) enum Failure {
    Aws(AwsError),
    /// The secret of the database is invalid.
    Config(ConfigError),
    Driver(sqlx::Error),
    /// A timeout, with what was waited for.
    Timeout(&'static str),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl Failure {
    /// The SQLSTATE, if the server reported an error.
    fn sqlstate(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Driver(sqlx::Error::Database(error)) => error.code(),
            _ => None,
        }
    }

    /// The server rejects our password (28P01) or asks for one that we do not have (28000).
    pub(super) fn refuses_password(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("28P01" | "28000"))
    }

    /// The server rejected the statement for a reason that does not apply to a new connection: a plan from before a
    /// migration (0A000), a prepared statement that no longer exists (26000), a primary that became a replica (25006).
    pub(super) fn needs_new_connection(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("0A000" | "26000" | "25006"))
    }

    /// A conflict with another transaction: a serialization failure (40001) or a deadlock (40P01). Only 40003, of the
    /// same class, leaves open whether the statement was committed.
    pub(super) fn is_conflict(&self) -> bool {
        self.sqlstate()
            .is_some_and(|code| code.starts_with("40") && code != "40003")
    }

    /// The server closed the connection deliberately: a restart, a failover, an administrator (57P01 to 57P03), or the
    /// idle session timeout (57P05). It does so before a commit or between transactions, never between a commit and its
    /// confirmation.
    fn is_shutdown(&self) -> bool {
        matches!(
            self.sqlstate().as_deref(),
            Some("57P01" | "57P02" | "57P03" | "57P05")
        )
    }

    /// The statement did not run or was rolled back, so even one that writes may be sent again.
    pub(super) fn has_no_effect(&self) -> bool {
        self.needs_new_connection() || self.is_conflict() || self.is_shutdown()
    }

    /// The failure may be temporary: the database starts, resumes, fails over (25: it only reads) or has no free
    /// connection.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Driver(sqlx::Error::Io(_)) => true,
            _ => self.sqlstate().is_some_and(|code| {
                ["08", "25", "53", "57"]
                    .iter()
                    .any(|class| code.starts_with(class))
            }),
        }
    }

    /// The connection is unusable, as opposed to the statement.
    pub(super) fn lost_connection(&self) -> bool {
        match self {
            Self::Driver(sqlx::Error::Database(error)) => error
                .try_downcast_ref::<PgDatabaseError>()
                .is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
            // sqlx reports a missing row, or a value that it cannot decode, after reading the whole answer.
            Self::Driver(
                sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_),
            ) => false,
            Self::Driver(_) | Self::Timeout(_) | Self::Aws(_) | Self::Config(_) => true,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<Failure> for MigrationError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Aws(error) => Self::Aws(error),
            Failure::Config(error) => Self::Aws(AwsError::new(error.to_string())),
            Failure::Driver(error) => Self::Database(error),
            Failure::Timeout(_) => Self::Database(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

impl From<Failure> for DatabaseError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout(what) => Self::Unavailable(format!("timed out waiting for {what}")),
            Failure::Aws(error) => Self::Unavailable(error.to_string()),
            Failure::Config(error) => Self::Unavailable(error.to_string()),
            Failure::Driver(sqlx::Error::Database(error)) => {
                // The server's message may quote values (`Key (userid)=(…)`), so only code and names are logged.
                let code = error.code().unwrap_or_default().into_owned();
                let constraint = error
                    .constraint()
                    .map(|name| format!(", constraint {name}"))
                    .unwrap_or_default();
                let what = format!("SQLSTATE {code}{constraint}");
                if unavailable(&code) {
                    Self::Unavailable(what)
                } else {
                    Self::Defect(what)
                }
            }
            Failure::Driver(
                error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)),
            ) => Self::Unavailable(error.to_string()),
            Failure::Driver(error) => Self::Defect(error.to_string()),
        }
    }
}

/// SQLSTATEs (PostgreSQL, appendix A) that are due to the database rather than to our statement.
fn unavailable(code: &str) -> bool {
    // Connection, authorization, transaction, resources, intervention (a timeout is 57014), system, internal.
    const CLASSES: [&str; 11] = ["08", "0A", "25", "28", "3D", "40", "53", "55", "57", "58", "XX"];
    // Table, column, schema or function missing or forbidden: the schema is not (yet) the one that this code needs.
    const SCHEMA: [&str; 5] = ["42P01", "42703", "3F000", "42883", "42501"];
    CLASSES.iter().any(|class| code.starts_with(class)) || SCHEMA.contains(&code)
}
