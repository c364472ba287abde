//! Connections are kept between requests and replaced when they died; what is safe to repeat is repeated.

use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use sqlx::Connection as _;
use tokio::time::timeout;

use super::error::Failure;
use super::{Connection, Database, DatabaseError, Statement};
use crate::config::Pooler;

/// Longest that one `read` or `write` may take in all: waiting, connecting, repeating. Keeps every answer
/// under 3 s, far below the gateway's 30 s.
const BUDGET: Duration = Duration::from_millis(2_600);

/// No answer for longer than the server's own limit means that nobody is there any more.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_700);

/// Longest that a start waits for its connection. A connection takes tens of milliseconds; a start has 10 s.
const CONNECT_AHEAD_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection used more recently than this is trusted without a ping.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Longest that a ping may take before the connection counts as dead.
const PING_TIMEOUT: Duration = Duration::from_millis(400);

/// When the server's farewell comes this soon after a statement was sent on a kept connection, it was already in our
/// receive buffer: the statement never ran, and even one that writes may be sent again.
const FAREWELL: Duration = Duration::from_millis(5);

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
    /// Connects before there is a request, in at most 500 ms, so that the first one need not. A database that cannot be
    /// reached is none of the start's business: the request will find out.
    pub async fn connect_ahead(&self) {
        let connecting = async {
            let _permit = self.permits.acquire().await.ok()?;
            self.connect().await.ok()
        };
        if let Ok(Some(connection)) = timeout(CONNECT_AHEAD_TIMEOUT, connecting).await {
            self.keep(connection);
        }
    }

    pub(super) async fn run<A: Sync, T>(
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
