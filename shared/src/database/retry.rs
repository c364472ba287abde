//! Running statements: choice of connection, timeouts and retries.

use std::cell::Cell;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use sqlx::Connection as _;
use tokio::time::timeout;

use super::error::Failure;
use super::{Connection, Database, DatabaseError, Statement};
use crate::config::Pooler;

tokio::task_local! {
    static REQUEST: Request;
}

struct Request {
    began: Instant,
    /// How long it has waited for the database.
    waited: Cell<Duration>,
}

/// What a statement may take also where a hash has used up the time of the request: a correct password must not be
/// useless because it is slow to verify.
const AFTER_A_HASH: Duration = Duration::from_millis(300);

/// Runs `work`, whose statements have to end within the time for one request; beyond it they fail with
/// [`DatabaseError::Unavailable`]. The HTTP boundary calls it for each request; elsewhere, each statement has that time
/// for itself.
pub async fn one_request<T>(work: impl Future<Output = T>) -> T {
    let request = Request {
        began: Instant::now(),
        waited: Cell::default(),
    };
    REQUEST.scope(request, work).await
}

pub(super) struct Idle {
    connection: Connection,
    since: SystemTime,
}

/// Whether a statement may be repeated when its connection dies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may: running it twice changes nothing.
    Read,
    /// It may not: running it twice could change something twice.
    Write,
}

impl Database {
    pub(super) async fn run<A: Sync, T>(
        &self,
        kind: Kind,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, DatabaseError> {
        let started = Instant::now();
        let limit = self.timeouts.request;
        let of_request = REQUEST.try_with(|request| {
            let unspent = limit.saturating_sub(request.waited.get());
            limit
                .saturating_sub(request.began.elapsed())
                .max(unspent.min(AFTER_A_HASH))
        });
        let remaining = of_request.unwrap_or(limit);
        let outcome = if remaining.is_zero() {
            // There is no time left to wait for the statement, so it is not sent.
            Err(Failure::Timeout("the database"))
        } else {
            timeout(remaining, self.send(kind, arguments, statement))
                .await
                .unwrap_or(Err(Failure::Timeout("the database")))
        };
        let _ = REQUEST.try_with(|request| request.waited.set(request.waited.get() + started.elapsed()));
        Ok(outcome?)
    }

    /// Sends a statement, and once more where that is safe.
    async fn send<A: Sync, T>(
        &self,
        kind: Kind,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, Failure> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| Failure::Timeout("a connection"))?;
        let connection = self.connection().await?;
        let failure = match self.attempt(connection, arguments, statement).await {
            Err(failure) if failure.has_no_effect() || kind == Kind::Read && failure.lost_connection() => {
                failure
            }
            outcome => return outcome,
        };
        let connection = if failure.is_conflict() {
            self.connection().await?
        } else {
            // Other idle connections are probably dead too, or have outdated plans as well.
            self.idle().clear();
            self.connect().await?
        };
        self.attempt(connection, arguments, statement).await
    }

    async fn attempt<A: Sync, T>(
        &self,
        mut connection: Connection,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, Failure> {
        let answer = connection.execute_statement(arguments, statement);
        let outcome = timeout(self.timeouts.answer, answer).await;
        // A connection abandoned in the middle of an answer is dropped, never passed on to the next request.
        match outcome {
            Ok(Ok(value)) => {
                self.keep(connection);
                Ok(value)
            }
            Ok(Err(error)) => {
                let failure = Failure::Driver(error);
                if !failure.lost_connection()
                    && !failure.needs_new_connection()
                    && self.pooler == Pooler::None
                {
                    self.keep(connection);
                }
                Err(failure)
            }
            Err(_) => Err(Failure::Timeout("the answer to a statement")),
        }
    }

    /// Keeps a connection for the next statement.
    pub(super) fn keep(&self, connection: Connection) {
        self.idle().push(Idle {
            connection,
            since: wall_clock(),
        });
    }

    /// The most recently used connection, or a new one if it died while idle.
    async fn connection(&self) -> Result<Connection, Failure> {
        loop {
            let Some(Idle {
                mut connection,
                since,
            }) = self.idle().pop()
            else {
                return self.connect().await;
            };
            // If the clock was set back, the idle time is unknown, so ping.
            let trusted = wall_clock()
                .duration_since(since)
                .is_ok_and(|idle| idle < self.timeouts.trusted);
            if trusted
                || matches!(
                    timeout(self.timeouts.ping, connection.inner.ping()).await,
                    Ok(Ok(()))
                )
            {
                return Ok(connection);
            }
            self.idle().clear();
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idle time of a connection must include the time that the instance was frozen, which a monotonic clock may leave
/// out. It only decides about a ping, never about anything that a client can see.
#[expect(
    clippy::disallowed_methods,
    reason = "measures idle time across freezes, see above"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
