//! Migrations, and the role of the application: what the owner of the schema does.

use std::collections::HashSet;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use thiserror::Error;

use super::Database;
use super::connect::connect_as_owner;
use crate::aws::AwsError;
use crate::roles::{self, SignIn};

/// Every schema change, in order. `migrations/README.md` says how to add one.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Brings the schema of the database at `options` up to date. Harmless when repeated or run twice at once: a lock
/// lets one run after the other.
///
/// # Errors
/// When the database cannot be reached or a migration stops, which then has changed nothing.
pub async fn migrate(options: &PgConnectOptions) -> Result<Migrated, MigrationError> {
    let mut connection = connect_as_owner(options).await?;
    let before: HashSet<i64> = versions(&mut connection).await?.into_iter().collect();
    MIGRATOR.run(&mut connection).await?;
    let after = versions(&mut connection).await?;
    connection.close().await?;
    Ok(Migrated {
        version: after.iter().copied().max().unwrap_or_default(),
        applied: after
            .into_iter()
            .filter(|version| !before.contains(version))
            .collect(),
    })
}

/// The migrations that have run, oldest first.
async fn versions(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let versions = sqlx::query_scalar!("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(connection)
        .await;
    match versions {
        // No table of migrations: none has run.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => Ok(Vec::new()),
        versions => versions,
    }
}

/// What [`migrate`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The versions that ran now, oldest first.
    pub applied: Vec<i64>,
    /// The newest version that has run.
    pub version: i64,
}

/// Why the schema or the application's role could not be brought up to date.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// A migration stopped; what it says is meant for people.
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database cannot be reached or refuses a statement.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// AWS did not give the database's secret.
    #[error("{0}")]
    Aws(#[from] AwsError),
}

impl Database {
    /// Brings the schema up to date, as [`migrate`] does.
    ///
    /// # Errors
    /// Those of [`migrate`], and when AWS does not give the database's secret.
    pub async fn migrate(&self) -> Result<Migrated, MigrationError> {
        migrate(&self.connect_options().await?).await
    }

    /// Creates the application's role, or brings it up to date.
    ///
    /// # Errors
    /// When the database or AWS refuses; then nothing has changed.
    pub async fn grant(&self, role: &str, sign_in: &SignIn) -> Result<(), MigrationError> {
        let mut connection = connect_as_owner(&self.connect_options().await?).await?;
        roles::grant(&mut connection, role, sign_in).await?;
        connection.close().await?;
        Ok(())
    }
}
