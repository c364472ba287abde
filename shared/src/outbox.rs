//! The outbox: every statement on `people.outbox`. What writes into it is part of the statements that it tells about.

use chrono::TimeDelta;
use sqlx::PgExecutor;

use crate::database::interval;

/// Removes at most `most` of the rows that were not taken within `retention`, oldest first. How many it removed: fewer than
/// `most` when no others are left, except those that are being taken.
///
/// # Errors
/// The driver's.
pub async fn purge(
    executor: impl PgExecutor<'_>,
    retention: TimeDelta,
    most: u32,
) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        r#"
        DELETE FROM people.outbox
        WHERE outbox_id IN (
            SELECT outbox_id FROM people.outbox
            WHERE asked_at < now() - $1::interval
            ORDER BY asked_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        )
        "#,
        interval(retention),
        i64::from(most),
    )
    .execute(executor)
    .await?;
    Ok(removed.rows_affected())
}
