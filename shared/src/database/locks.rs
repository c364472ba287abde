//! Locks, with a limit on waiting for others, and the names of those who hold them.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};

/// Key of the advisory lock: any number that nothing else uses, here the name of this service.
const LOCK: i64 = 0x0070_656f_706c_6500;

/// Waits for other runs, and makes them wait until the transaction ends.
pub(super) async fn one_at_a_time(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK)
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks tables (given as SQL) exclusively. Waits at most `wait` in total: everybody who wants to use them after us,
/// even to read, queues behind us.
pub(super) async fn exclusively(
    connection: &mut PgConnection,
    tables: &[String],
    wait: Duration,
) -> Result<(), sqlx::Error> {
    if tables.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SET LOCAL statement_timeout = {}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; SET LOCAL statement_timeout = 0",
        wait.as_millis(),
        tables.join(", ")
    );
    connection.execute(&*sql).await?;
    Ok(())
}

/// Whether a statement failed because of a lock: a lock timeout, a statement timeout or a deadlock.
pub(super) fn gave_up(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "57014" | "40P01"))
}

/// Describes who holds a lock on a table of the schema `people` or runs migrations, oldest transaction first.
pub(super) async fn holders(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    transaction
        .execute("SET LOCAL search_path = pg_catalog, pg_temp")
        .await?;
    sqlx::query_scalar!(
        r#"
        SELECT CASE WHEN l.pid IS NULL THEN format('a prepared transaction (pg_prepared_xacts) on %s', of)
               ELSE format('process %s (application "%s", role %s) on %s, its transaction %s', l.pid, application_name, usename,
                           of, coalesce('is ' || date_trunc('second', age) || ' old', 'of an age that this role cannot see'))
               END AS "line!"
        FROM (
            SELECT l.pid, string_agg(DISTINCT coalesce(format('people.%I', c.relname), 'the migrations'), ', ') AS of
            FROM pg_locks l
            LEFT JOIN pg_class c ON c.oid = l.relation
            WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (
                  l.locktype = 'relation' AND c.relnamespace = to_regnamespace('people') AND c.relkind = 'r'
                  OR l.locktype = 'advisory' AND l.objsubid = 1
                     AND (l.classid::bigint << 32) + l.objid::bigint = $1
              )
            GROUP BY l.pid
        ) l
        LEFT JOIN pg_stat_activity a ON a.pid = l.pid,
        LATERAL (SELECT clock_timestamp() - a.xact_start AS age) t
        ORDER BY a.xact_start NULLS LAST
        LIMIT 5
        "#,
        LOCK
    )
    .fetch_all(&mut *transaction)
    .await
}
