//! Sessions: every statement on `people.user_session`. A token counts only while its row says so.

use chrono::TimeDelta;
use sqlx::PgExecutor;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use crate::attempts::Reservation;
use crate::token::{TokenDigest, VerifiedToken};
use crate::users::User;

/// A session to be written at login.
#[derive(Clone)]
pub struct NewSession {
    /// Made by us and signed into the token, so that the statement may be repeated.
    pub session_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The token that it belongs to.
    pub token: TokenDigest,
    /// How long it lives, from the database's now.
    pub lifetime: TimeDelta,
}

/// A password hash to be replaced by another, if it is still the one that was verified.
#[derive(Clone)]
pub struct Rehash {
    /// The hash that was verified.
    pub old: String,
    /// The hash to store instead.
    pub new: String,
}

/// Writes a session, gives the reserved attempt back and replaces the password hash if asked to; all or nothing.
/// `false` when the user is gone.
///
/// # Errors
/// The driver's.
pub async fn open(
    executor: impl PgExecutor<'_>,
    session: &NewSession,
    reservation: &Reservation,
    rehash: Option<&Rehash>,
) -> Result<bool, sqlx::Error> {
    let (cleared, refunded, reserved_at, last_since) = reservation.refund();
    let written = sqlx::query!(
        r#"
        WITH rehashed AS (
            UPDATE people."user" SET password_hash = $5
            WHERE user_id = $2 AND password_hash = $6
        )
        INSERT INTO people.user_session (session_id, user_id, token, expires_at)
        SELECT $1, u.user_id, $3, now() + $4
        FROM people."user" u, people.refund_attempt($7, $8, $9, $10)
        WHERE u.user_id = $2
        ON CONFLICT ON CONSTRAINT user_session_pkey DO UPDATE SET token = excluded.token
        "#,
        session.session_id,
        session.user_id,
        session.token.as_str(),
        interval(session.lifetime),
        rehash.map(|rehash| rehash.new.as_str()),
        rehash.map(|rehash| rehash.old.as_str()),
        &cleared,
        refunded,
        reserved_at,
        last_since,
    )
    .execute(executor)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Reads the user of the live session that `token` belongs to. The row is found by its key: a user's other sessions are not
/// looked at, as the index on `user_id` might be, were it compared by `=`.
///
/// # Errors
/// The driver's.
pub async fn find_live_user(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"
        SELECT u.user_id, u.userid, coalesce(u.user_name, u.userid) AS "user_name!", u.country, u.job, u.phone,
               u.email, u.init_cn_level, u.reg_time
        FROM people.user_session s
        JOIN people."user" u ON u.user_id = s.user_id
        WHERE s.session_id = $1 AND s.user_id IS NOT DISTINCT FROM $2 AND s.token = $3
          AND s.logout_time IS NULL AND s.expires_at > now()
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
    )
    .fetch_optional(executor)
    .await
}

/// Ends the live session that `token` belongs to, found as above. `false` when there is none (any more): of two at once, one gets `true`.
///
/// # Errors
/// The driver's.
pub async fn end(executor: impl PgExecutor<'_>, token: &VerifiedToken) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query!(
        r#"
        UPDATE people.user_session SET logout_time = now()
        WHERE session_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND token = $3
          AND logout_time IS NULL AND expires_at > now()
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
    )
    .execute(executor)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Removes at most `most` of the sessions that ended over `retention` ago, oldest first. How many it removed: fewer than
/// `most` when no others are left, but for those that somebody else is removing at this moment.
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
        DELETE FROM people.user_session
        WHERE session_id IN (
            SELECT session_id FROM people.user_session
            WHERE least(logout_time, expires_at) < now() - $1::interval
            ORDER BY least(logout_time, expires_at)
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

/// Months and days of an interval depend on the calendar, microseconds do not.
fn interval(duration: TimeDelta) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: duration.num_microseconds().unwrap_or(i64::MAX),
    }
}
