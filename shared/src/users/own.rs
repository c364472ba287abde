//! What logged-in users change of their own account.

use sqlx::PgExecutor;

use super::User;
use crate::attempts::Reservation;
use crate::database::interval;
use crate::token::VerifiedToken;

/// What becomes of a member of a profile: left as it is, cleared, or set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// Stays.
    #[default]
    Keep,
    /// Has no value any more.
    Clear,
    /// Has this value.
    Set(String),
}

impl Change {
    fn changes(&self) -> bool {
        *self != Self::Keep
    }

    fn value(&self) -> Option<&str> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }
}

/// What becomes of a profile. Every value has passed its check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `User`")]
pub struct ProfileChanges {
    /// Cleared: the userid.
    pub user_name: Change,
    pub country: Change,
    pub job: Change,
    pub phone: Change,
    pub init_cn_level: Change,
}

/// Changes the profile of the user of the live session that `token` belongs to. `None` when that is not live.
///
/// # Errors
/// The driver's.
pub async fn update_profile(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
    changes: &ProfileChanges,
) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"
        WITH me AS MATERIALIZED (
            SELECT session_id, user_id, last_seen FROM people.live_session
            WHERE session_id = $1 AND user_id IS NOT DISTINCT FROM $2 AND token = $3
              AND ($4::interval IS NULL OR last_seen > now() - $4)
            FOR NO KEY UPDATE
        ), seen AS (
            UPDATE people.user_session s SET last_seen = now()
            FROM me WHERE s.session_id = me.session_id AND me.last_seen < now() - interval '15 minutes'
        )
        UPDATE people."user" u SET
            user_name = CASE WHEN $5 THEN $6 ELSE u.user_name END,
            country = CASE WHEN $7 THEN $8 ELSE u.country END,
            job = CASE WHEN $9 THEN $10 ELSE u.job END,
            phone = CASE WHEN $11 THEN $12 ELSE u.phone END,
            init_cn_level = CASE WHEN $13 THEN $14 ELSE u.init_cn_level END
        FROM me WHERE u.user_id = me.user_id
        RETURNING u.user_id, u.userid, coalesce(u.user_name, u.userid) AS "user_name!", u.country, u.job, u.phone, u.email,
                  u.email_verified_at IS NOT NULL AS "email_verified!", u.init_cn_level, u.roles, u.reg_time
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
        changes.user_name.changes(),
        changes.user_name.value(),
        changes.country.changes(),
        changes.country.value(),
        changes.job.changes(),
        changes.job.value(),
        changes.phone.changes(),
        changes.phone.value(),
        changes.init_cn_level.changes(),
        changes.init_cn_level.value(),
    )
    .fetch_optional(executor)
    .await
}

/// What became of a change that asked for the account's password again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnChange {
    /// Done.
    Done,
    /// The password that was verified is no longer the account's. Nothing was changed.
    PasswordChanged,
    /// The session is over. Nothing was changed.
    NotLive,
}

impl OwnChange {
    fn of(live: bool, done: bool) -> Self {
        match (live, done) {
            (_, true) => Self::Done,
            (true, false) => Self::PasswordChanged,
            (false, false) => Self::NotLive,
        }
    }
}

/// Sets the password of the user of the live session that `token` belongs to, if it is still the one that was verified:
/// the one of `password_version`. Gives the reserved attempt back, ends the user's other sessions, and adds the notice
/// to the owner to the outbox.
///
/// The new version ends the sessions, however many there are; at most 1,000 are also marked as logged out, for readers
/// of the table.
///
/// # Errors
/// The driver's.
pub async fn set_password(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
    password_version: i32,
    password_hash: &str,
    reservation: &Reservation,
) -> Result<OwnChange, sqlx::Error> {
    let attempt = reservation.give_back();
    // The order of locks: attempts, user, sessions, outbox.
    let row = sqlx::query!(
        r#"
        WITH given_back AS MATERIALIZED (
            SELECT people.give_back_attempt($7, $8, $9, $10)
        ), me AS MATERIALIZED (
            SELECT l.session_id, l.user_id, l.password_version FROM given_back, people.live_session l
            WHERE l.session_id = $1 AND l.user_id IS NOT DISTINCT FROM $2 AND l.token = $3
              AND ($4::interval IS NULL OR l.last_seen > now() - $4)
            FOR NO KEY UPDATE OF l
        ), mine AS (
            UPDATE people."user" u SET password_hash = $6, password_version = u.password_version + 1
            FROM me WHERE u.user_id = me.user_id AND me.password_version = $5
            RETURNING u.user_id, u.email, u.password_version
        ), kept AS (
            UPDATE people.user_session s SET password_version = mine.password_version, last_seen = now()
            FROM mine WHERE s.session_id = $1
        ), marked AS (
            UPDATE people.user_session SET logout_time = now()
            WHERE EXISTS (SELECT FROM mine) AND logout_time IS NULL AND session_id = ANY (ARRAY(
                SELECT session_id FROM people.user_session
                WHERE user_id = $2 AND session_id <> $1 AND logout_time IS NULL AND expires_at > now()
                LIMIT 1000))
        ), told AS (
            INSERT INTO people.outbox (kind, user_id, address)
            SELECT 'password_changed', user_id, email FROM mine WHERE email IS NOT NULL
        )
        SELECT EXISTS (SELECT FROM me) AS "live!", EXISTS (SELECT FROM mine) AS "done!"
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
        password_version,
        password_hash,
        &attempt.keys,
        &attempt.forget_after,
        &attempt.cleared,
        attempt.reserved_at,
    )
    .fetch_one(executor)
    .await?;
    Ok(OwnChange::of(row.live, row.done))
}

/// Adds the mail with the link that makes `address` the one of the user of the live session that `token` belongs to, if
/// the password is still the one that was verified. Gives the reserved attempt back. Nothing else changes.
///
/// # Errors
/// The driver's.
pub async fn ask_email(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
    password_version: i32,
    address: &str,
    reservation: &Reservation,
) -> Result<OwnChange, sqlx::Error> {
    let attempt = reservation.give_back();
    let row = sqlx::query!(
        r#"
        WITH given_back AS MATERIALIZED (
            SELECT people.give_back_attempt($7, $8, $9, $10)
        ), me AS MATERIALIZED (
            SELECT l.session_id, l.user_id, l.password_version FROM given_back, people.live_session l
            WHERE l.session_id = $1 AND l.user_id IS NOT DISTINCT FROM $2 AND l.token = $3
              AND ($4::interval IS NULL OR l.last_seen > now() - $4)
            FOR NO KEY UPDATE OF l
        ), seen AS (
            UPDATE people.user_session SET last_seen = now()
            WHERE session_id = (SELECT session_id FROM me) AND last_seen < now() - interval '15 minutes'
        ), asked AS (
            INSERT INTO people.outbox (kind, user_id, address)
            SELECT 'email', user_id, $6 FROM me WHERE password_version = $5
            RETURNING 1
        )
        SELECT EXISTS (SELECT FROM me) AS "live!", EXISTS (SELECT FROM asked) AS "done!"
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
        password_version,
        address,
        &attempt.keys,
        &attempt.forget_after,
        &attempt.cleared,
        attempt.reserved_at,
    )
    .fetch_one(executor)
    .await?;
    Ok(OwnChange::of(row.live, row.done))
}

/// Deletes the user of the live session that `token` belongs to, with all sessions, if the password is still the one
/// that was verified. Gives the reserved attempt back, and adds the notice to the former address and the event for
/// other services to the outbox.
///
/// # Errors
/// The driver's.
pub async fn delete(
    executor: impl PgExecutor<'_>,
    token: &VerifiedToken,
    password_version: i32,
    reservation: &Reservation,
) -> Result<OwnChange, sqlx::Error> {
    let attempt = reservation.give_back();
    let row = sqlx::query!(
        r#"
        WITH given_back AS MATERIALIZED (
            SELECT people.give_back_attempt($6, $7, $8, $9)
        ), me AS MATERIALIZED (
            SELECT l.user_id, l.password_version FROM given_back, people.live_session l
            WHERE l.session_id = $1 AND l.user_id IS NOT DISTINCT FROM $2 AND l.token = $3
              AND ($4::interval IS NULL OR l.last_seen > now() - $4)
            FOR NO KEY UPDATE OF l
        ), gone AS (
            DELETE FROM people."user" u USING me
            WHERE u.user_id = me.user_id AND me.password_version = $5
            RETURNING u.user_id, u.email
        ), told AS (
            INSERT INTO people.outbox (kind, user_id, address) SELECT 'user_deleted', user_id, email FROM gone
        )
        SELECT EXISTS (SELECT FROM me) AS "live!", EXISTS (SELECT FROM gone) AS "done!"
        "#,
        token.claims.jti,
        token.claims.sub,
        token.digest.as_str(),
        token.max_idle.map(interval),
        password_version,
        &attempt.keys,
        &attempt.forget_after,
        &attempt.cleared,
        attempt.reserved_at,
    )
    .fetch_one(executor)
    .await?;
    Ok(OwnChange::of(row.live, row.done))
}
