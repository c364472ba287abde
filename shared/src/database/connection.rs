//! A connection to PostgreSQL, and how statements are sent over it.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, PgConnection, Postgres};

use crate::config::Pooler;

/// A statement, to be sent with its arguments, possibly twice.
pub type Statement<A, T> = for<'a> fn(&'a mut Connection, &'a A) -> BoxFuture<'a, Result<T, sqlx::Error>>;

/// A connection to PostgreSQL that is safe behind any pooler.
#[derive(Debug)]
pub struct Connection {
    pub(super) inner: PgConnection,
    pub(super) pooler: Pooler,
}

impl Connection {
    /// Behind a pooler that gives each transaction another server connection, the messages of a statement (Parse, Bind)
    /// reach the same server only within an explicit transaction. It contains no SET, which would pin the proxy's
    /// connection: settings are attached to the role.
    pub(super) async fn execute_statement<A: Sync, T>(
        &mut self,
        arguments: &A,
        statement: Statement<A, T>,
    ) -> Result<T, sqlx::Error> {
        if self.pooler == Pooler::None {
            return statement(self, arguments).await;
        }
        self.inner.execute("BEGIN").await?;
        let value = statement(self, arguments).await?;
        self.inner.execute("COMMIT").await?;
        Ok(value)
    }
}

/// Delegates to the inner connection. Behind a pooler, statements are prepared without a name: a named one would
/// outlive the transaction, on a server connection that another client gets next.
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

/// A query that decides for itself whether its prepared statement gets a name.
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
