//! Statements: which connection they go over, how long they may take, and which of them are sent again.

use std::cell::Cell;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use sqlx::Connection as _;
use tokio::time::timeout;

use super::error::Failure;
use super::{Connection, Database, DatabaseError, Statement};
use crate::config::Pooler;

/// Longest that one request may wait for the database in all, however many statements it has: for a connection, for
/// answers, for a second try. Keeps every answer under 3 s, far below the gateway's 30 s.
pub const REQUEST_BUDGET: Duration = Duration::from_millis(2_600);
/// No answer for longer than the server's own limit means that nobody is there any more.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_700);
/// A connection used more recently than this is trusted without a ping.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// Longest that a ping may take before the connection counts as dead.
const PING_TIMEOUT: Duration = Duration::from_millis(400);

tokio::task_local! {
    /// How much longer the request that this task answers may wait for the database.
    static REMAINING: Cell<Duration>;
}

/// Runs `work`, all of whose statements together may wait for `budget`; what does not fit is
/// [`DatabaseError::Unavailable`]. Time that `work` spends otherwise, as on a hash, does not count. The boundary wraps
/// each request in it; outside of it, each statement has [`REQUEST_BUDGET`] for itself.
pub async fn within<T>(budget: Duration, work: impl Future<Output = T>) -> T {
    REMAINING.scope(Cell::new(budget), work).await
}

pub(super) struct Idle {
    connection: Connection,
    since: SystemTime,
}

/// What may be done when a connection dies under a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Running it twice changes nothing.
    Read,
    /// Running it twice might.
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
        let budget = REMAINING.try_with(Cell::get).unwrap_or(REQUEST_BUDGET);
        let outcome = if budget.is_zero() {
            // A statement that cannot be waited for is not sent.
            Err(Failure::Timeout("the database"))
        } else {
            timeout(budget, self.send(kind, arguments, statement))
                .await
                .unwrap_or(Err(Failure::Timeout("the database")))
        };
        let _ = REMAINING.try_with(|remaining| remaining.set(budget.saturating_sub(started.elapsed())));
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
            // Other idle connections are probably dead too, or have plans as old.
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
        let outcome = timeout(ANSWER_TIMEOUT, connection.execute_statement(arguments, statement)).await;
        // A connection that was abandoned in the middle of an answer is dropped, never given to the next request.
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

    /// For the next statement.
    pub(super) fn keep(&self, connection: Connection) {
        self.idle().push(Idle {
            connection,
            since: wall_clock(),
        });
    }

    /// The connection used last, or a new one where that died while it was idle.
    async fn connection(&self) -> Result<Connection, Failure> {
        loop {
            let Some(Idle {
                mut connection,
                since,
            }) = self.idle().pop()
            else {
                return self.connect().await;
            };
            // A clock that was set back says nothing, so it counts as long ago.
            let trusted = wall_clock()
                .duration_since(since)
                .is_ok_and(|idle| idle < TRUSTED_FOR);
            if trusted || matches!(timeout(PING_TIMEOUT, connection.inner.ping()).await, Ok(Ok(()))) {
                return Ok(connection);
            }
            self.idle().clear();
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
