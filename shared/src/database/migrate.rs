//! Migrations, and the role of the application: what the owner of the schema does. One run is one transaction.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError};
use sqlx::{Connection as _, Executor as _, PgConnection};
use thiserror::Error;

use super::connect::{STATEMENT_TIMEOUT, connect_as_owner};
use super::{Database, adoption, locks, rights, schema};
use crate::aws::AwsError;
use crate::roles::{self, Role};

/// Every schema change, in order. `migrations/README.md` says how to add one.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Longest that a run waits for the locks of others, who wait behind it meanwhile.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// One run: what it may do besides bringing the schema up to date.
pub struct Migration<'a> {
    /// Whether it may adopt an earlier back end's tables that have rows: their sessions end for good.
    pub adopt: bool,
    /// The role to be created, or brought up to date.
    pub role: Option<Role<'a>>,
    /// Longest that it waits for the locks of others.
    pub lock_wait: Duration,
}

impl Default for Migration<'_> {
    /// Without a role; adopts no rows; waits 5 s.
    fn default() -> Self {
        Self {
            adopt: false,
            role: None,
            lock_wait: LOCK_WAIT,
        }
    }
}

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The versions that ran now, oldest first.
    pub applied: Vec<i64>,
    /// The newest version that has run.
    pub version: i64,
    /// What was changed in an earlier back end's tables, for people.
    pub adopted: Vec<String>,
    /// What the owner may not do and has to be done by somebody else, for people.
    pub left_to_do: Vec<String>,
}

/// Why a run has changed nothing.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// What has to be done first.
    #[error("nothing was changed, since this is in the way:{}", list(.0))]
    InTheWay(Vec<String>),
    /// An earlier back end's tables have rows, and nobody said that they may be adopted.
    #[error(
        "nothing was changed: the database has {users} users and {sessions} sessions of an earlier back end. To adopt them, which \
         changes their tables for good and logs everybody out (sessions end, their tokens are erased), say so: {}",
        "ADOPT=true, or --adopt"
    )]
    NotAllowedToAdopt {
        /// Rows of the table of users.
        users: i64,
        /// Rows of the table of sessions.
        sessions: i64,
    },
    /// Somebody else holds a lock.
    #[error("nothing was changed: others hold locks that are needed, for longer than this may wait:{}", list(.0))]
    Locked(Vec<String>),
    /// The adopted tables would refuse what the service writes.
    #[error("nothing was changed: people.\"user\" and people.user_session would refuse what the service writes: {}", told(.0))]
    Refused(sqlx::Error),
    /// The server refuses a statement of a file.
    #[error("nothing was changed: migration {version} stopped: {}", told(error))]
    Stopped {
        /// Which file.
        version: i64,
        /// What the server said.
        error: sqlx::Error,
    },
    /// The files are not those that ran here.
    #[error("nothing was changed: {0}")]
    Files(MigrateError),
    /// The database cannot be reached or refuses a statement.
    #[error("{}", told(.0))]
    Database(#[from] sqlx::Error),
    /// AWS did not give the database's secret.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

fn list(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut list, line| {
        let _ = write!(list, "\n- {line}");
        list
    })
}

/// What the server said, with the detail and the hint that the driver's `Display` leaves out.
fn told(error: &sqlx::Error) -> String {
    let mut told = error.to_string();
    let said = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    for more in said
        .into_iter()
        .flat_map(|said| [said.detail(), said.hint()])
        .flatten()
    {
        let _ = write!(told, "; {more}");
    }
    told
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

/// Brings the schema of the database at `options` up to date, as a run that may do nothing else.
///
/// # Errors
/// Those of [`Migration::run`].
pub async fn migrate(options: &PgConnectOptions) -> Result<Migrated, MigrationError> {
    Migration::default().run(options).await
}

/// Of every statement of a run, whatever the settings of the role or the database. Names are looked up in `pg_catalog`
/// alone. No startup options, which poolers refuse; and no prepared statements of others, which poolers leave behind.
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
    /// Brings the schema up to date, and the role if there is one. Harmless when repeated or run twice at once: a lock
    /// lets one run after the other.
    ///
    /// # Errors
    /// When something is in the way, a lock is not to be had, the database cannot be reached or refuses a statement. Then
    /// nothing has changed.
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
                // Fails only with the connection, whose end has the same effect.
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
        if let Some(role) = &self.role {
            obstacles.extend(roles::in_the_way(connection, role).await?);
        }
        nothing_in_the_way(obstacles)?;
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
        nothing_in_the_way(obstacles)?;

        let left_to_do = match &self.role {
            Some(role) => {
                let settings = [
                    ("search_path", "pg_catalog, pg_temp"),
                    ("statement_timeout", STATEMENT_TIMEOUT),
                ];
                let mut relations = schema::names("table");
                relations.extend(schema::names("view"));
                roles::grant(connection, role, &relations, &settings).await?
            }
            None => Vec::new(),
        };
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

    /// Before the first file. What was changed.
    async fn adopt(&self, connection: &mut PgConnection) -> Result<Vec<String>, MigrationError> {
        let (tables, unusable) = adoption::find(connection).await?;
        let oids: Vec<_> = tables.iter().map(|table| table.oid).collect();
        let mut obstacles = rights::taken(connection, &oids).await?;
        if !unusable.is_empty() {
            obstacles.extend(unusable);
            return Err(MigrationError::InTheWay(obstacles));
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
        nothing_in_the_way(obstacles)?;
        Ok(adoption::adopt(connection, &plans).await?)
    }
}

/// Says who holds the locks, where a run gave up waiting for them.
async fn name_holders(connection: &mut PgConnection, error: MigrationError) -> MigrationError {
    let (MigrationError::Database(reason) | MigrationError::Stopped { error: reason, .. }) = &error else {
        return error;
    };
    if !locks::gave_up(reason) {
        return error;
    }
    match locks::holders(connection).await {
        Ok(holders) if holders.is_empty() => {
            MigrationError::Locked(vec!["they have let go by now: try again".to_owned()])
        }
        Ok(holders) => MigrationError::Locked(holders),
        Err(_) => error,
    }
}

fn nothing_in_the_way(obstacles: Vec<String>) -> Result<(), MigrationError> {
    if obstacles.is_empty() {
        Ok(())
    } else {
        Err(MigrationError::InTheWay(obstacles))
    }
}

/// Runs the files that have not run. The driver's table lies in the schema that the search path begins with.
async fn run_files(connection: &mut PgConnection) -> Result<(), MigrationError> {
    connection
        .execute(
            "DO $$ BEGIN IF to_regnamespace('people') IS NULL THEN CREATE SCHEMA people; END IF; END $$;
             SET LOCAL search_path = people, pg_temp",
        )
        .await?;
    // Its own lock would end before the transaction does.
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

/// The migrations that have run, oldest first. The table is the driver's, so this is not checked at compile time.
async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('people._sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM people._sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(connection)
        .await
}

impl Database {
    /// Brings the schema up to date, and the role, as [`Migration::run`] does.
    ///
    /// # Errors
    /// Those of [`Migration::run`], and when AWS does not give the database's secret.
    pub async fn migrate(&self, migration: &Migration<'_>) -> Result<Migrated, MigrationError> {
        migration.run(&self.connect_options().await?).await
    }
}
