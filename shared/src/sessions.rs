//! Sessions: every statement about those of the caller. A token counts only while its row says so.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::attempts::Reservation;
use crate::database::interval;
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
    /// How long it, or another one, may be idle; `None`: as long as it lives.
    pub max_idle: Option<TimeDelta>,
    /// That of the password which was verified. The session is written only if it still is the user's.
    pub password_version: i32,
    /// What the device says of itself: at most 256 code points, no control characters.
    pub user_agent: Option<String>,
    /// The source address of the request.
    pub address: Option<IpAddr>,
}

/// A password hash to be replaced by another, if it is still the one that was verified.
#[derive(Clone)]
pub struct Rehash {
    /// The hash that was verified.
    pub old: String,
    /// The hash to store instead.
    pub new: String,
}

/// Writes a session, gives the reserved attempt back, notes from where the user logged in, and replaces the password
/// hash if asked to; all or nothing, and with the same outcome when repeated. Of more than 100 live sessions of the
/// user, the oldest end. `false` when the user is gone or disabled, or has another password than the one that was
/// verified.
///
/// # Errors
/// The driver's.
pub async fn open(
    executor: impl PgExecutor<'_>,
    session: &NewSession,
    reservation: &Reservation,
    rehash: Option<&Rehash>,
) -> Result<bool, sqlx::Error> {
    let attempt = reservation.give_back();
    // The order of locks: attempts, user, what belongs to the user. A user who is being deleted is waited for, and is
    // gone then: without the lock the session would violate its foreign key.
    let written = sqlx::query!(
        r#"
        WITH given_back AS MATERIALIZED (
            SELECT people.give_back_attempt($7, $8, $9, $10)
        ), mine AS MATERIALIZED (
            SELECT u.user_id, u.password_version FROM given_back, people."user" u
            WHERE u.user_id = $2 AND u.password_version = $12 AND u.disabled_at IS NULL
            FOR NO KEY UPDATE OF u
        ), rehashed AS (
            UPDATE people."user" u SET password_hash = $5
            FROM mine WHERE u.user_id = mine.user_id AND u.password_hash = $6
        ), noted AS (
            INSERT INTO people.known_network (user_id, network, last_login)
            SELECT user_id, $11::text::cidr, now() FROM mine WHERE $11::text IS NOT NULL
            ON CONFLICT ON CONSTRAINT known_network_pkey DO UPDATE SET last_login = excluded.last_login
        ), ended AS (
            UPDATE people.user_session SET logout_time = now()
            WHERE EXISTS (SELECT FROM mine) AND logout_time IS NULL AND session_id = ANY (ARRAY(
                SELECT session_id FROM people.user_session
                WHERE user_id = $2 AND session_id <> $1 AND logout_time IS NULL AND expires_at > now()
                  AND password_version = $12 AND ($13::interval IS NULL OR last_seen > now() - $13)
                ORDER BY login_time DESC OFFSET 99 LIMIT 1000))
        )
        INSERT INTO people.user_session (session_id, user_id, token, expires_at, password_version, user_agent, address)
        SELECT $1, user_id, $3, now() + $4, password_version, $14, $15::text::inet FROM mine
        ON CONFLICT ON CONSTRAINT user_session_pkey DO UPDATE SET token = excluded.token
        "#,
        session.session_id,
        session.user_id,
        session.token.as_str(),
        interval(session.lifetime),
        rehash.map(|rehash| rehash.new.as_str()),
        rehash.map(|rehash| rehash.old.as_str()),
        &attempt.keys,
        &attempt.forget_after,
        &attempt.cleared,
        attempt.reserved_at,
        reservation.network(),
        session.password_version,
        session.max_idle.map(interval),
        session.user_agent,
        session.address.map(|address| address.to_canonical().to_string()),
    )
    .execute(executor)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// A live session's user.
pub struct LiveSession {
    /// Whose it is.
    pub user: User,
    /// It has not been noted for a while that the session is used: see [`note_seen`].
    pub stale: bool,
}

/// Reads the user of the live session that `token` belongs to, unless it was idle for longer than `max_idle`. The row
/// is found by its key: a user's other sessions are not looked at, as the index on `user_id` might be, were it compared
/// by `=`. What is live is what the view `people.live_session` has, written out: it would read the user's row a second
/// time.
///
/// # Errors
/// The driver's.
pub async fn find_live(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
) -> Result<Option<LiveSession>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        SELECT u.user_id, u.userid, coalesce(u.user_name, u.userid) AS "user_name!", u.country, u.job, u.phone, u.email,
               u.email_verified_at IS NOT NULL AS "email_verified!", u.init_cn_level, u.roles, u.reg_time,
               s.last_seen < now() - interval '15 minutes' AS "stale!"
        FROM people.user_session s
        JOIN people."user" u ON u.user_id = s.user_id
        WHERE s.session_id = $1 AND s.user_id IS NOT DISTINCT FROM $2 AND s.token = $3
          AND s.logout_time IS NULL AND s.expires_at > now() AND s.password_version = u.password_version
          AND u.disabled_at IS NULL
          AND ($4::interval IS NULL OR s.last_seen > now() - $4)
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| LiveSession {
        user: User {
            user_id: row.user_id,
            userid: row.userid,
            user_name: row.user_name,
            country: row.country,
            job: row.job,
            phone: row.phone,
            email: row.email,
            email_verified: row.email_verified,
            init_cn_level: row.init_cn_level,
            roles: row.roles,
            reg_time: row.reg_time,
        },
        stale: row.stale,
    }))
}

/// Notes that a session is used, unless that was noted within the last 15 minutes.
///
/// # Errors
/// The driver's.
pub async fn note_seen(executor: impl PgExecutor<'_>, session_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE people.user_session SET last_seen = now() \
         WHERE session_id = $1 AND last_seen < now() - interval '15 minutes'",
        session_id,
    )
    .execute(executor)
    .await?;
    Ok(())
}

// The statements below that write lock the user's row and the session's, in this order, before they decide: a change of
// the password that is under way is waited for, and no two statements of one user's sessions wait for each other.

/// Ends the live session that `token` belongs to. `false` when there is none (any more): of two at once, one gets
/// `true`.
///
/// # Errors
/// The driver's.
pub async fn end(executor: impl PgExecutor<'_>, token: &VerifiedToken) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query!(
        r#"
        WITH me AS MATERIALIZED (
            SELECT session_id FROM people.live_session
            WHERE session_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND token = $3
              AND ($4::interval IS NULL OR last_seen > now() - $4)
            FOR NO KEY UPDATE
        )
        UPDATE people.user_session s SET logout_time = now() FROM me WHERE s.session_id = me.session_id
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
    )
    .execute(executor)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// A live session as its owner sees it.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, ToSchema)]
#[schema(description = "A live session, as its owner sees it.")]
pub struct Session {
    /// To end it by.
    #[schema(example = "5a0dea8a-2f4d-4a83-9c55-1d0f6a7b8c9d")]
    pub session_id: Uuid,
    /// It is that of the request.
    #[schema(example = true)]
    pub current: bool,
    /// When it was opened, by the database's clock.
    #[schema(example = "2026-11-25T08:30:00.123456Z")]
    pub login_time: DateTime<Utc>,
    /// When it was last used. May lag by 15 minutes.
    #[schema(example = "2026-11-25T08:45:00.123456Z")]
    pub last_seen: DateTime<Utc>,
    /// When it ends by itself.
    #[schema(example = "2026-11-25T09:30:00.123456Z")]
    pub expires_at: DateTime<Utc>,
    /// What the device said of itself when it logged in.
    #[schema(
        required = true,
        example = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
    )]
    pub user_agent: Option<String>,
    /// The address from which it was opened.
    #[schema(required = true, example = "203.0.113.7")]
    pub address: Option<String>,
}

/// A user's live sessions.
pub struct Sessions {
    /// Newest log-in first, at most 100, that of the request among them.
    pub sessions: Vec<Session>,
    /// As [`LiveSession::stale`].
    pub stale: bool,
}

/// Lists the live sessions of the user of the one that `token` belongs to. `None` when that is not live.
///
/// # Errors
/// The driver's.
pub async fn list(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
) -> Result<Option<Sessions>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        SELECT session_id AS "session_id!", current AS "current!", login_time AS "login_time!",
               last_seen AS "last_seen!", expires_at AS "expires_at!", user_agent, host(address) AS address,
               current AND last_seen < now() - interval '15 minutes' AS "stale!"
        FROM (
            SELECT l.*, l.session_id = $1 AS current
            FROM people.live_session l
            WHERE l.user_id = $2 AND ($4::interval IS NULL OR l.last_seen > now() - $4)
              AND EXISTS (
                  SELECT FROM people.live_session me
                  WHERE me.session_id = $1 AND me.user_id IS NOT DISTINCT FROM $2 AND me.token = $3
                    AND ($4::interval IS NULL OR me.last_seen > now() - $4)
              )
            ORDER BY current DESC, l.login_time DESC
            LIMIT 100
        ) AS newest
        ORDER BY login_time DESC, session_id
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
    )
    .fetch_all(executor)
    .await?;
    let stale = rows.iter().any(|row| row.stale);
    let sessions = rows.into_iter().map(|row| Session {
        session_id: row.session_id,
        current: row.current,
        login_time: row.login_time,
        last_seen: row.last_seen,
        expires_at: row.expires_at,
        user_agent: row.user_agent,
        address: row.address,
    });
    let sessions: Vec<_> = sessions.collect();
    // A live session is in its own list.
    Ok((!sessions.is_empty()).then_some(Sessions { sessions, stale }))
}

/// What became of another session that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedOne {
    /// It has ended.
    Ended,
    /// The user has no live session of that id.
    NotFound,
    /// The session of the request itself is not live.
    NotLive,
}

/// Ends the session `other` of the user of the live session that `token` belongs to, which is another one.
///
/// # Errors
/// The driver's.
pub async fn end_one(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
    other: Uuid,
) -> Result<EndedOne, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        WITH me AS MATERIALIZED (
            SELECT session_id, user_id, last_seen, password_version FROM people.live_session
            WHERE session_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND token = $3
              AND ($4::interval IS NULL OR last_seen > now() - $4)
            FOR NO KEY UPDATE
        ), ended AS (
            UPDATE people.user_session s SET logout_time = now() FROM me
            WHERE s.session_id = $5 AND s.session_id <> me.session_id AND s.user_id = me.user_id
              AND s.logout_time IS NULL AND s.expires_at > now() AND s.password_version = me.password_version
              AND ($4::interval IS NULL OR s.last_seen > now() - $4)
            RETURNING 1
        ), seen AS (
            UPDATE people.user_session s SET last_seen = now() FROM me, ended
            WHERE s.session_id = me.session_id AND me.last_seen < now() - interval '15 minutes'
        )
        SELECT EXISTS (SELECT FROM me) AS "live!", EXISTS (SELECT FROM ended) AS "ended!"
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
        other,
    )
    .fetch_one(executor)
    .await?;
    Ok(match (row.live, row.ended) {
        (_, true) => EndedOne::Ended,
        (true, false) => EndedOne::NotFound,
        (false, false) => EndedOne::NotLive,
    })
}

/// How many sessions ended.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq, ToSchema)]
pub struct EndedOthers {
    /// Those that were live.
    #[schema(minimum = 0, maximum = 1000, example = 2)]
    pub ended: i64,
    /// There may be others: ask again.
    #[schema(example = false)]
    pub more: bool,
}

/// Ends the other sessions of the user of the live session that `token` belongs to, at most 1,000 of them. `None` when
/// that is not live.
///
/// # Errors
/// The driver's.
pub async fn end_others(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
) -> Result<Option<EndedOthers>, sqlx::Error> {
    // Those that are idle or of an earlier password end too, after the others, and are not counted. The sub-select is
    // no correlated one: it is carried out once.
    let row = sqlx::query!(
        r#"
        WITH me AS MATERIALIZED (
            SELECT session_id, last_seen, password_version FROM people.live_session
            WHERE session_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND token = $3
              AND ($4::interval IS NULL OR last_seen > now() - $4)
            FOR NO KEY UPDATE
        ), ended AS (
            UPDATE people.user_session s SET logout_time = now() FROM me
            WHERE s.logout_time IS NULL AND s.session_id = ANY (ARRAY(
                SELECT session_id FROM people.user_session
                WHERE user_id = $2 AND session_id <> $1 AND logout_time IS NULL AND expires_at > now()
                ORDER BY password_version DESC LIMIT 1000))
            RETURNING s.password_version = me.password_version AND ($4::interval IS NULL OR s.last_seen > now() - $4) AS live
        ), seen AS (
            UPDATE people.user_session s SET last_seen = now() FROM me
            WHERE s.session_id = me.session_id AND me.last_seen < now() - interval '15 minutes'
        )
        SELECT EXISTS (SELECT FROM me) AS "live!", count(*) FILTER (WHERE live) AS "ended!", count(*) = 1000 AS "more!"
        FROM ended
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
    )
    .fetch_one(executor)
    .await?;
    Ok(row.live.then_some(EndedOthers {
        ended: row.ended,
        more: row.more,
    }))
}

/// Removes at most `most` of the sessions that ended over `retention` ago, oldest first. How many it removed: fewer
/// than `most` when no others are left, except those that a concurrent run is removing.
///
/// # Errors
/// The driver's.
pub async fn purge(
    executor: impl PgExecutor<'_>,
    retention: TimeDelta,
    most: u32,
) -> Result<u64, sqlx::Error> {
    // ARRAY, so that the rows are found by their keys also where the plan does not know how many there are.
    let removed = sqlx::query!(
        r#"
        DELETE FROM people.user_session
        WHERE session_id = ANY (ARRAY(
            SELECT session_id FROM people.user_session
            WHERE least(logout_time, expires_at) < now() - $1::interval
            ORDER BY least(logout_time, expires_at)
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ))
        "#,
        interval(retention),
        i64::from(most),
    )
    .execute(executor)
    .await?;
    Ok(removed.rows_affected())
}
