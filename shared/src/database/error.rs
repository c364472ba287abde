//! Why a statement has no outcome, for the retry and for callers.

use std::borrow::Cow;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use thiserror::Error;

use crate::aws::AwsError;

/// A statement that the database did not answer with rows.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The database cannot be reached, is too slow, refuses us or has another schema.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The statement is wrong: a defect of ours.
    #[error("statement failed: {0}")]
    Defect(String),
}

/// Why a statement has no outcome.
pub(super) enum Failure {
    Aws(AwsError),
    Driver(sqlx::Error),
    Silence(&'static str),
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
    /// What the server said, as a code; none when it said nothing.
    fn sqlstate(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Driver(sqlx::Error::Database(error)) => error.code(),
            _ => None,
        }
    }

    /// The server does not take our password (28P01), or asks for one that we have not (28000).
    pub(super) fn refuses_password(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("28P01" | "28000"))
    }

    /// The server refused the statement for a reason that a new connection does not have: a plan from before a
    /// migration (0A000), a prepared statement that is gone (26000), a primary that became a replica (25006).
    pub(super) fn did_not_run(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("0A000" | "26000" | "25006"))
    }

    /// The server ended the connection on purpose: a restart, a failover, an administrator (57P01 to 57P03). It says so
    /// instead of running the statement, never after it.
    pub(super) fn is_farewell(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("57P01" | "57P02" | "57P03"))
    }

    /// The connection is of no use any more, as opposed to the statement.
    pub(super) fn lost_connection(&self) -> bool {
        match self {
            Self::Driver(sqlx::Error::Database(error)) => error
                .try_downcast_ref::<PgDatabaseError>()
                .is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
            // sqlx reports a missing row and a value it cannot decode after the answer was read to its end.
            Self::Driver(
                sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_),
            ) => false,
            Self::Driver(_) | Self::Silence(_) | Self::Aws(_) => true,
        }
    }
}

impl From<Failure> for DatabaseError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Silence(what) => Self::Unavailable(what.to_owned()),
            Failure::Aws(error) => Self::Unavailable(error.to_string()),
            Failure::Driver(sqlx::Error::Database(error)) => {
                // The server's own text may quote values (`Key (userid)=(…)`), so the log gets its code and names only.
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

/// SQLSTATEs (PostgreSQL, appendix A) that say something about the database rather than about our statement.
fn unavailable(code: &str) -> bool {
    // Connection, authorization, transaction, resources, intervention (a timeout is 57014), system, internal.
    const CLASSES: [&str; 11] = ["08", "0A", "25", "28", "3D", "40", "53", "55", "57", "58", "XX"];
    // Table, column, schema, function missing or forbidden: the schema is not (yet) the one this code needs.
    const SCHEMA: [&str; 5] = ["42P01", "42703", "3F000", "42883", "42501"];
    CLASSES.iter().any(|class| code.starts_with(class)) || SCHEMA.contains(&code)
}
