//! The database of one instance: few connections, kept between requests, replaced when they died.
//!
//! sqlx's own pool pings a connection whenever it is given back, a round trip per request that a function
//! frozen between requests cannot afford. This one pings only a connection that has been idle for a while,
//! and repeats what is safe to repeat when a connection turns out to be dead.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use secrecy::ExposeSecret as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo,
};
use sqlx::{
    ConnectOptions, Connection as _, Describe, Either, Execute, Executor, PgConnection, PgExecutor, Postgres,
};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::aws::{Aws, AwsError, DatabaseSecret};
use crate::config::{Credentials, DatabaseConfig, Pooler, connect_options, trust_rds};
use crate::roles::{self, SignIn};

/// Every schema change, in order. `migrations/README.md` says how to add one.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Longest that one `read` or `write` may take in all: waiting, connecting, repeating. Keeps every answer
/// under 3 s, far below the gateway's 30 s.
const BUDGET: Duration = Duration::from_millis(2_600);
/// The server gives up on a statement after this long. Ours are look-ups by key: milliseconds.
const STATEMENT_TIMEOUT: &str = "1500ms";
/// No answer for longer than the server's own limit means that nobody is there any more.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_700);
/// A connection used more recently than this is trusted without a ping.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// Longest that a ping may take before the connection counts as dead.
const PING_TIMEOUT: Duration = Duration::from_millis(400);
/// When the server's farewell comes this soon after a statement was sent on a kept connection, it was already in our
/// receive buffer: the statement never ran, and even one that writes may be sent again.
const FAREWELL: Duration = Duration::from_millis(5);
/// Longest that a migration waits for a connection. Nobody waits for its answer as for a request's.
const OWNER_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that readiness takes to find out; the contract of `/health` says 2 s.
const READINESS_BUDGET: Duration = Duration::from_millis(1_700);

/// The connections of one instance.
pub struct Database {
    /// All that is known without asking AWS.
    options: PgConnectOptions,
    credentials: Credentials,
    aws: Aws,
    /// With the secret as it was last read.
    with_secret: Mutex<Option<PgConnectOptions>>,
    pooler: Pooler,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: SystemTime,
}

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

/// Connects to change the schema or a role.
async fn connect_as_owner(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = options
        .clone()
        // In `public`, whatever the role is called: a role `people` would find the schema of that name first.
        .options([("search_path", "public")])
        // Without its notices ("already exists, skipping"), which would go to the log.
        .options([("client_min_messages", "warning")])
        .disable_statement_logging();
    let connecting = timeout(OWNER_CONNECT_TIMEOUT, options.connect());
    connecting
        .await
        .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))?
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

/// What `/health` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The database answered.
    pub database_up: bool,
    /// Its schema against what this code needs.
    pub schema: Schema,
}

/// The schema of the database against what this code needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Every migration that this code knows has run.
    Current,
    /// At least one has not.
    Behind,
    /// Could not be found out.
    Unknown,
}

/// One statement, to be sent with its arguments; perhaps twice.
pub type Statement<A, T> = for<'a> fn(&'a mut Connection, &'a A) -> BoxFuture<'a, Result<T, sqlx::Error>>;

/// Sends one statement to be prepared. Its arguments do not matter, nor does its outcome: there are no rows, and a statement
/// that is wrong fails again when it runs.
pub type Preparation = for<'a> fn(Preparing<'a>) -> BoxFuture<'a, ()>;

/// What may be done when a connection dies under a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Running it twice changes nothing.
    Read,
    /// Running it twice might.
    Write,
}

impl Database {
    /// Connects to nothing yet: a database that is down does not stop a start.
    #[must_use]
    pub fn new(config: DatabaseConfig) -> Self {
        Self {
            options: config.options,
            credentials: config.credentials,
            aws: Aws::default(),
            with_secret: Mutex::default(),
            pooler: config.pooler,
            permits: Semaphore::new(config.connections),
            idle: Mutex::default(),
        }
    }

    /// Connects before there is a request and prepares `statements`, so that the first one takes the round trips of every
    /// other. A database that cannot be reached is none of the start's business: the request will find out.
    pub async fn connect_ahead(&self, statements: &[Preparation]) {
        let Ok(_permit) = self.permits.acquire().await else {
            return;
        };
        let Ok(mut connection) = self.connect().await else {
            return;
        };
        // Behind a pooler, no statement outlives its transaction.
        if self.pooler == Pooler::None {
            let preparing = async {
                for prepare in statements {
                    prepare(Preparing(&mut connection.inner)).await;
                }
            };
            if timeout(ANSWER_TIMEOUT, preparing).await.is_err() {
                return;
            }
        }
        self.keep(connection);
    }

    /// Runs a statement that only reads. It is sent a second time if its connection dies under it.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] within 2.6 s.
    pub async fn read<A: Sync, T>(
        &self,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, DatabaseError> {
        self.run(Kind::Read, arguments, statement).await
    }

    /// Runs a statement that writes. It is sent a second time only if it cannot have run the first time.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] within 2.6 s; whether it was written is then unknown.
    pub async fn write<A: Sync, T>(
        &self,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, DatabaseError> {
        self.run(Kind::Write, arguments, statement).await
    }

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

    /// Finds out in one round trip and at most 1.7 s whether requests can be served.
    pub async fn readiness(&self) -> Readiness {
        let down = Readiness {
            database_up: false,
            schema: Schema::Unknown,
        };
        let up = |schema| Readiness {
            database_up: true,
            schema,
        };
        let known: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
        let count = self.read(&known, |connection, known| {
            Box::pin(count_migrations(connection, known))
        });
        match timeout(READINESS_BUDGET, count).await {
            Ok(Ok(Some(count))) if usize::try_from(count) == Ok(known.len()) => up(Schema::Current),
            Ok(Ok(Some(_))) => up(Schema::Behind),
            Ok(Ok(None) | Err(DatabaseError::Defect(_))) => up(Schema::Unknown),
            Ok(Err(DatabaseError::Unavailable(_))) | Err(_) => down,
        }
    }

    async fn run<A: Sync, T>(
        &self,
        kind: Kind,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, DatabaseError> {
        timeout(BUDGET, async {
            let _permit = self
                .permits
                .acquire()
                .await
                .map_err(|_| Failure::Silence("closed"))?;
            let (connection, kept) = match self.kept_connection().await {
                Some(connection) => (connection, true),
                None => (self.connect().await?, false),
            };
            let started = Instant::now();
            match self.attempt(connection, arguments, statement).await {
                Err(failure)
                    if failure.did_not_run()
                        || failure.lost_connection()
                            && (kind == Kind::Read
                                || kept && failure.is_farewell() && started.elapsed() < FAREWELL) =>
                {
                    // What killed one kept connection has killed its neighbours.
                    self.idle().clear();
                    self.attempt(self.connect().await?, arguments, statement).await
                }
                outcome => outcome,
            }
        })
        .await
        .unwrap_or(Err(Failure::Silence("no answer in time")))
        .map_err(DatabaseError::from)
    }

    async fn attempt<A: Sync, T>(
        &self,
        mut connection: Connection,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, Failure> {
        let outcome = timeout(ANSWER_TIMEOUT, connection.execute_statement(arguments, statement)).await;
        // A connection that was abandoned in the middle of an answer is dropped, never given to the next request.
        match outcome {
            Ok(Ok(value)) => {
                self.keep(connection);
                Ok(value)
            }
            Ok(Err(error)) => {
                let failure = Failure::Driver(error);
                if !failure.lost_connection() && !failure.did_not_run() && self.pooler == Pooler::None {
                    self.keep(connection);
                }
                Err(failure)
            }
            Err(_) => Err(Failure::Silence("no answer to a statement")),
        }
    }

    /// For the next request.
    fn keep(&self, connection: Connection) {
        self.idle().push(Idle {
            connection,
            since: wall_clock(),
        });
    }

    /// The connection used last, unless it died while it was idle.
    async fn kept_connection(&self) -> Option<Connection> {
        loop {
            let Idle {
                mut connection,
                since,
            } = self.idle().pop()?;
            // A clock that was set back says nothing, so it counts as long ago.
            let trusted = wall_clock()
                .duration_since(since)
                .is_ok_and(|idle| idle < TRUSTED_FOR);
            if trusted || matches!(timeout(PING_TIMEOUT, connection.inner.ping()).await, Ok(Ok(()))) {
                return Some(connection);
            }
            self.idle().clear();
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let inner = match self.connect_with(self.connect_options().await?).await {
            // A password that was rotated: the secret is read again, once.
            Err(failure) if failure.refuses_password() && self.forget_secret() => {
                self.connect_with(self.connect_options().await?).await?
            }
            outcome => outcome?,
        };
        Ok(Connection {
            inner,
            pooler: self.pooler,
        })
    }

    async fn connect_with(&self, options: PgConnectOptions) -> Result<PgConnection, Failure> {
        let options = options
            .application_name("people")
            .extra_float_digits(None)
            .disable_statement_logging();
        let options = match self.pooler {
            Pooler::None => options.options([("statement_timeout", STATEMENT_TIMEOUT)]),
            // What PgBouncer and RDS Proxy do not let through is left out behind them.
            Pooler::Transaction => options,
        };
        let connecting = timeout(ANSWER_TIMEOUT, options.connect()).await;
        Ok(connecting.map_err(|_| Failure::Silence("no answer to a connection attempt"))??)
    }

    /// Address and credentials, as they are now.
    async fn connect_options(&self) -> Result<PgConnectOptions, AwsError> {
        match &self.credentials {
            Credentials::Url => Ok(self.options.clone()),
            // Boxed, so that the SDK's large futures are not part of everybody's.
            Credentials::Iam => {
                let (host, port) = (self.options.get_host(), self.options.get_port());
                let token = Box::pin(self.aws.rds_token(host, port, self.options.get_username())).await?;
                Ok(self.options.clone().password(token.expose_secret()))
            }
            Credentials::Secret(arn) => {
                let known = self.with_secret().clone();
                if let Some(options) = known {
                    return Ok(options);
                }
                let secret = Box::pin(self.aws.database_secret(arn)).await?;
                let options = with_secret(&self.options, &secret)?;
                *self.with_secret() = Some(options.clone());
                Ok(options)
            }
        }
    }

    /// Whether there was a secret to forget.
    fn forget_secret(&self) -> bool {
        self.with_secret().take().is_some()
    }

    fn with_secret(&self) -> std::sync::MutexGuard<'_, Option<PgConnectOptions>> {
        self.with_secret.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `options` with what a secret states in the place of theirs.
fn with_secret(options: &PgConnectOptions, secret: &DatabaseSecret) -> Result<PgConnectOptions, AwsError> {
    let mut options = options.clone();
    if let Some(url) = &secret.url {
        let stated = connect_options(url.expose_secret())
            .map_err(|problem| AwsError::new(format!("the secret of the database {problem}")))?;
        options = stated;
    }
    let DatabaseSecret {
        host,
        port,
        dbname,
        username,
        password,
        ..
    } = secret;
    if let Some(host) = host {
        options = trust_rds(options.host(host));
    }
    if let Some(port) = port {
        options = options.port(*port);
    }
    if let Some(dbname) = dbname {
        options = options.database(dbname);
    }
    if let Some(username) = username {
        options = options.username(username);
    }
    if let Some(password) = password {
        options = options.password(password.expose_secret());
    }
    Ok(options)
}

/// `None` when the table of migrations is not one that we may or can read.
async fn count_migrations(
    executor: impl PgExecutor<'_>,
    versions: &[i64],
) -> Result<Option<i64>, sqlx::Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM _sqlx_migrations WHERE success AND version = ANY($1)"#,
        versions
    )
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

/// Has the statement of [`Database::readiness`] prepared.
#[must_use]
pub fn prepare_readiness(connection: Preparing<'_>) -> BoxFuture<'_, ()> {
    Box::pin(async {
        let _ = count_migrations(connection, &[]).await;
    })
}

/// How long a connection was idle must include the time that the instance was frozen, which a monotonic clock may
/// leave out. It decides on a ping, never on anything that a client sees.
#[expect(
    clippy::disallowed_methods,
    reason = "measures idle time across freezes, see above"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Why a statement has no outcome.
enum Failure {
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
    fn refuses_password(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("28P01" | "28000"))
    }

    /// The server refused the statement for a reason that a new connection does not have: a plan from before a
    /// migration (0A000), a prepared statement that is gone (26000), a primary that became a replica (25006).
    fn did_not_run(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("0A000" | "26000" | "25006"))
    }

    /// The server ended the connection on purpose: a restart, a failover, an administrator (57P01 to 57P03). It says so
    /// instead of running the statement, never after it.
    fn is_farewell(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("57P01" | "57P02" | "57P03"))
    }

    /// The connection is of no use any more, as opposed to the statement.
    fn lost_connection(&self) -> bool {
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

/// One connection to PostgreSQL, safe behind every pooler.
#[derive(Debug)]
pub struct Connection {
    inner: PgConnection,
    pooler: Pooler,
}

impl Connection {
    /// Behind a pooler that hands each transaction another server connection, the messages of one statement (Parse,
    /// Bind) reach the same server only within an explicit transaction.
    async fn execute_statement<A: Sync, T>(
        &mut self,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, sqlx::Error> {
        if self.pooler == Pooler::None {
            return statement(self, arguments).await;
        }
        let begin = format!("BEGIN; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'");
        self.inner.execute(begin.as_str()).await?;
        let value = statement(self, arguments).await?;
        self.inner.execute("COMMIT").await?;
        Ok(value)
    }
}

/// Everything goes to the inner connection; behind a pooler with a statement that is prepared without a name, since
/// a name would outlive the transaction on a server connection that the next client gets.
impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let named = self.pooler == Pooler::None;
        self.inner.fetch_many(Named { query, named })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let named = self.pooler == Pooler::None;
        self.inner.fetch_optional(Named { query, named })
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.inner.prepare_with(sql, parameters)
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.inner.describe(sql)
    }
}

/// A connection on which statements are prepared and not run: no rows, no changes.
#[derive(Debug)]
pub struct Preparing<'c>(&'c mut PgConnection);

impl<'c> Executor<'c> for Preparing<'c> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let prepared = self.fetch_optional(query);
        Box::pin(stream::once(prepared).filter_map(async |outcome| outcome.err().map(Err)))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move { self.0.prepare(query.sql()).await.map(|_| None) })
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.0.prepare_with(sql, parameters)
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.0.describe(sql)
    }
}

/// A query with its own answer to whether its prepared statement gets a name.
struct Named<E> {
    query: E,
    named: bool,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Named<E> {
    fn sql(&self) -> &'q str {
        self.query.sql()
    }

    fn statement(&self) -> Option<&PgStatement<'q>> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.named && self.query.persistent()
    }
}
