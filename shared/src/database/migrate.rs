//! Migrations, and the application's roles: everything that is done as the owner of the schema. One run is one
//! transaction.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError};
use sqlx::{Connection as _, Executor as _, PgConnection};
use thiserror::Error;

use super::connect::{connect_as_owner, statement_timeout};
use super::{Database, adoption, locks, rights, schema};
use crate::aws::AwsError;
use crate::config::Timeouts;
use crate::roles::{self, Role};

/// All migrations, in order. `migrations/README.md` explains how to add one.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Timeout for locks: while a run waits for others, everybody else queues behind it.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// A run: what it may do besides bringing the schema up to date.
pub struct Migration<'a> {
    /// Whether to adopt an earlier back end's tables that have rows, which ends all their sessions.
    pub adopt: bool,
    /// The roles to create or bring up to date.
    pub roles: &'a [Role<'a>],
    /// Timeout for locks.
    pub lock_wait: Duration,
}

impl Default for Migration<'_> {
    /// No roles, no adoption, 5 s for locks.
    fn default() -> Self {
        Self {
            adopt: false,
            roles: &[],
            lock_wait: LOCK_WAIT,
        }
    }
}

/// The result of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The versions applied by this run, oldest first.
    pub applied: Vec<i64>,
    /// The newest version applied.
    pub version: i64,
    /// Human-readable changes to an earlier back end's tables.
    pub adopted: Vec<String>,
    /// Human-readable list of what is left to somebody with more privileges than the owner.
    pub left_to_do: Vec<String>,
}

/// Why a run failed. It has changed nothing.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// Obstacles that have to be removed first.
    #[error("nothing was changed; this has to be fixed first:{}", list(.0))]
    Blocked(Vec<String>),
    /// An earlier back end's tables have rows, and adoption was not requested.
    #[error(
        "nothing was changed: the database has {users} users and {sessions} sessions of an earlier back end. To adopt them, which \
         changes their tables for good and logs everybody out (sessions end, their tokens are erased), {}",
        "set ADOPT=true or pass --adopt"
    )]
    NotAllowedToAdopt {
        /// Number of users.
        users: i64,
        /// Number of sessions.
        sessions: i64,
    },
    /// Timeout while waiting for a lock.
    #[error("nothing was changed; timed out waiting for locks held by others:{}", list(.0))]
    Locked(Vec<String>),
    /// The adopted tables reject what the service writes.
    #[error("nothing was changed: people.\"user\" and people.user_session would refuse what the service writes: {}", describe(.0))]
    Refused(sqlx::Error),
    /// A statement of a migration failed.
    #[error("nothing was changed: migration {version} stopped: {}", describe(error))]
    Stopped {
        /// Its version.
        version: i64,
        /// The error of the server.
        error: sqlx::Error,
    },
    /// The files do not match those that were applied.
    #[error("nothing was changed: {0}")]
    Files(MigrateError),
    /// The database cannot be reached, or a statement failed.
    #[error("{}", describe(.0))]
    Database(#[from] sqlx::Error),
    /// The secret of the database could not be read.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

fn list(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut list, line| {
        let _ = write!(list, "\n- {line}");
        list
    })
}

/// The message of an error, with detail and hint, which the driver's `Display` leaves out.
fn describe(error: &sqlx::Error) -> String {
    let mut text = error.to_string();
    let server_error = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    for more in server_error
        .into_iter()
        .flat_map(|error| [error.detail(), error.hint()])
        .flatten()
    {
        let _ = write!(text, "; {more}");
    }
    text
}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::ExecuteMigration(error, version) => Self::Stopped { version, error },
            MigrateError::Execute(error) => Self::Database(error),
            error => Self::Files(error),
        }
    }
}

/// Brings the schema of the database at `options` up to date, and does nothing else.
///
/// # Errors
/// Those of [`Migration::run`].
pub async fn migrate(options: &PgConnectOptions) -> Result<Migrated, MigrationError> {
    Migration::default().run(options).await
}

/// Settings for every statement of a run, whatever those of the role or the database. Names are looked up in
/// `pg_catalog` only. Not startup options, which poolers reject; and prepared statements left by other clients of a
/// pooler are removed.
const SETTINGS: &str = "
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
    DEALLOCATE ALL;
    SET LOCAL search_path = pg_catalog, pg_temp;
    SET LOCAL client_min_messages = error;
    SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL row_security = off;
    SET LOCAL quote_all_identifiers = off;
    SET LOCAL standard_conforming_strings = on;
    SET LOCAL extra_float_digits = 1;
    SET LOCAL TimeZone = 'UTC';
    SET LOCAL DateStyle = 'ISO, YMD'";

impl Migration<'_> {
    /// Brings the schema up to date, and the roles. Idempotent, and safe to run concurrently: a lock
    /// serializes runs.
    ///
    /// # Errors
    /// When there are obstacles, a lock cannot be acquired, the database cannot be reached or a statement fails.
    /// Nothing has changed then.
    pub async fn run(&self, options: &PgConnectOptions) -> Result<Migrated, MigrationError> {
        let mut connection = connect_as_owner(options).await?;
        let mut transaction = connection.begin().await?;
        let outcome = match self.run_in(&mut transaction).await {
            Ok(migrated) => {
                transaction.execute("DEALLOCATE ALL").await?;
                transaction.commit().await?;
                Ok(migrated)
            }
            Err(error) => {
                // Fails only if the connection is lost, which has the same effect.
                let _ = transaction.rollback().await;
                Err(name_holders(&mut connection, error).await)
            }
        };
        let _ = connection.close().await;
        outcome
    }

    async fn run_in(&self, connection: &mut PgConnection) -> Result<Migrated, MigrationError> {
        connection.execute(SETTINGS).await?;
        let lock_timeout = format!("SET LOCAL lock_timeout = {}", self.lock_wait.as_millis());
        connection.execute(&*lock_timeout).await?;
        locks::one_at_a_time(connection).await?;

        let mut obstacles = rights::missing(connection).await?;
        for role in self.roles {
            obstacles.extend(roles::obstacles(connection, role).await?);
        }
        check_obstacles(obstacles)?;
        let before = applied(connection).await?;
        let adopted = if before.is_empty() {
            self.adopt(connection).await?
        } else {
            if before.len() < MIGRATOR.iter().count() {
                let tables = schema::tables(connection).await?;
                locks::exclusively(connection, &tables, self.lock_wait).await?;
            }
            Vec::new()
        };
        run_files(connection).await?;
        if !adopted.is_empty() {
            let written = adoption::try_to_write(connection).await;
            written.map_err(MigrationError::Refused)?;
        }
        schema::secure_functions(connection, &schema::names("function")).await?;
        let mut obstacles = schema::missing(connection).await?;
        obstacles.extend(schema::refusing(connection).await?);
        check_obstacles(obstacles)?;

        let settings = [
            ("search_path", "pg_catalog, pg_temp"),
            ("statement_timeout", &*statement_timeout(Timeouts::default())),
        ];
        let mut relations = schema::names("table");
        relations.extend(schema::names("view"));
        let mut left_to_do = Vec::new();
        for role in self.roles {
            left_to_do = roles::grant(connection, role, &relations, &settings).await?;
        }
        let after = applied(connection).await?;
        Ok(Migrated {
            version: after.iter().copied().max().unwrap_or_default(),
            applied: after
                .into_iter()
                .filter(|version| !before.contains(version))
                .collect(),
            adopted,
            left_to_do,
        })
    }

    /// Adopts the tables of an earlier back end, before the first file. Returns what was changed.
    async fn adopt(&self, connection: &mut PgConnection) -> Result<Vec<String>, MigrationError> {
        let (tables, unusable) = adoption::find(connection).await?;
        let oids: Vec<_> = tables.iter().map(|table| table.oid).collect();
        let mut obstacles = rights::taken(connection, &oids).await?;
        if !unusable.is_empty() {
            obstacles.extend(unusable);
            return Err(MigrationError::Blocked(obstacles));
        }
        if !self.adopt {
            let [mut users, mut sessions] = [0, 0];
            for table in &tables {
                let rows = if table.is_of_users() {
                    &mut users
                } else {
                    &mut sessions
                };
                *rows = adoption::rows_of(connection, table).await?;
            }
            if users + sessions > 0 {
                return Err(MigrationError::NotAllowedToAdopt { users, sessions });
            }
        }
        let labels: Vec<String> = tables.iter().map(|table| table.label.clone()).collect();
        locks::exclusively(connection, &labels, self.lock_wait).await?;
        let mut plans = Vec::new();
        for table in tables {
            plans.push(adoption::plan(connection, table, &mut obstacles).await?);
        }
        check_obstacles(obstacles)?;
        Ok(adoption::adopt(connection, &plans).await?)
    }
}

/// Replaces a timeout for locks by an error that names their holders.
async fn name_holders(connection: &mut PgConnection, error: MigrationError) -> MigrationError {
    let (MigrationError::Database(reason) | MigrationError::Stopped { error: reason, .. }) = &error else {
        return error;
    };
    if !locks::gave_up(reason) {
        return error;
    }
    match locks::holders(connection).await {
        Ok(holders) if holders.is_empty() => MigrationError::Locked(vec![
            "they have been released in the meantime: try again".to_owned(),
        ]),
        Ok(holders) => MigrationError::Locked(holders),
        Err(_) => error,
    }
}

fn check_obstacles(obstacles: Vec<String>) -> Result<(), MigrationError> {
    if obstacles.is_empty() {
        Ok(())
    } else {
        Err(MigrationError::Blocked(obstacles))
    }
}

/// Applies pending files. The driver creates its table in the first schema of the search path.
async fn run_files(connection: &mut PgConnection) -> Result<(), MigrationError> {
    connection
        .execute(
            "DO $$ BEGIN IF to_regnamespace('people') IS NULL THEN CREATE SCHEMA people; END IF; END $$;
             SET LOCAL search_path = people, pg_temp",
        )
        .await?;
    // The driver's own lock would be released before the end of the transaction.
    let files = Migrator {
        migrations: Cow::Borrowed(&MIGRATOR.migrations),
        locking: false,
        ..Migrator::DEFAULT
    };
    files.run_direct(connection).await?;
    connection
        .execute("SET LOCAL search_path = pg_catalog, pg_temp")
        .await?;
    Ok(())
}

/// The applied versions, oldest first. The table is the driver's, so this is not checked at compile time.
async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('people._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM people._sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(connection)
        .await
}

impl Database {
    /// Brings the schema up to date, and the roles, as [`Migration::run`] does.
    ///
    /// # Errors
    /// Those of [`Migration::run`], and when the secret of the database cannot be read.
    pub async fn migrate(&self, migration: &Migration<'_>) -> Result<Migrated, MigrationError> {
        migration.run(&self.connect_options().await?).await
    }
}
