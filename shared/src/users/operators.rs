//! What operators do with accounts: every statement of the function `admin`. Each but `import` changes at most one
//! user, by key, and may be repeated. Locks are taken in the order user, sessions, outbox.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{User, UserId};
use crate::database::interval;

/// Maximum users that are found by an e-mail address.
pub const MAX_FOUND: i64 = 20;

/// Whom an operator means.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The user with this key.
    Key(Uuid),
    /// The user with this userid.
    Userid(UserId),
    /// Those with this e-mail address, in any case.
    Email(String),
}

/// A user as operators see one. Has no password hash to leak.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// As the user sees it.
    #[serde(flatten)]
    pub user: User,
    /// Since when nobody can log in.
    pub disabled_at: Option<DateTime<Utc>>,
    /// The last log-in, as far as it is known: sessions and networks are deleted after a while.
    pub last_log_in: Option<DateTime<Utc>>,
    /// Number of live sessions.
    pub live_sessions: i64,
}

/// The users whom `wanted` means, at most [`MAX_FOUND`]: those with a verified address first, then the oldest. Sessions
/// that are idle for longer than `max_idle` are not live.
///
/// # Errors
/// The driver's.
pub async fn find(
    executor: impl PgExecutor<'_>,
    wanted: &Wanted,
    max_idle: Option<TimeDelta>,
) -> Result<Vec<Account>, sqlx::Error> {
    let (user_id, userid, email) = match wanted {
        Wanted::Key(user_id) => (Some(*user_id), None, None),
        Wanted::Userid(userid) => (None, Some(userid.as_str()), None),
        Wanted::Email(email) => (None, None, Some(email.as_str())),
    };
    // One look-up each, so that each uses its index.
    let rows = sqlx::query!(
        r#"
        SELECT u.user_id AS "user_id!", u.userid AS "userid!", coalesce(u.user_name, u.userid) AS "user_name!",
               u.country, u.job, u.phone, u.email,
               u.email_verified_at IS NOT NULL AS "email_verified!", u.init_cn_level, u.roles AS "roles!",
               u.reg_time AS "reg_time!", u.disabled_at,
               greatest(
                   (SELECT max(s.login_time) FROM people.user_session s WHERE s.user_id = u.user_id),
                   (SELECT max(k.last_login) FROM people.known_network k WHERE k.user_id = u.user_id)
               ) AS last_log_in,
               (SELECT count(*) FROM people.live_session l
                WHERE l.user_id = u.user_id AND ($5::interval IS NULL OR l.last_seen > now() - $5)) AS "live_sessions!"
        FROM (
            SELECT * FROM people."user" WHERE user_id = $1
            UNION ALL
            SELECT * FROM people."user" WHERE userid = $2
            UNION ALL
            (SELECT * FROM people."user" WHERE lower(email) = lower($3)
             ORDER BY email_verified_at IS NULL, reg_time, user_id LIMIT $4)
        ) AS u
        ORDER BY u.email_verified_at IS NULL, u.reg_time, u.user_id
        "#,
        user_id,
        userid,
        email,
        MAX_FOUND,
        max_idle.map(interval),
    )
    .fetch_all(executor)
    .await?;
    let accounts = rows.into_iter().map(|row| Account {
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
        disabled_at: row.disabled_at,
        last_log_in: row.last_log_in,
        live_sessions: row.live_sessions,
    });
    Ok(accounts.collect())
}

/// Those of `user_ids` that are no user's, in the same order.
///
/// # Errors
/// The driver's.
pub async fn missing(executor: impl PgExecutor<'_>, user_ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    // A sub-select, which no plan turns into a scan of the table.
    sqlx::query_scalar!(
        r#"
        SELECT given.user_id AS "user_id!"
        FROM unnest($1::uuid[]) WITH ORDINALITY AS given(user_id, place)
        WHERE (SELECT u.user_id FROM people."user" u WHERE u.user_id = given.user_id) IS NULL
        ORDER BY given.place
        "#,
        user_ids,
    )
    .fetch_all(executor)
    .await
}

/// Lets nobody log in as this user or use one of the sessions, or lets them again. `false` when there is no such user.
///
/// # Errors
/// The driver's.
pub async fn set_disabled(
    executor: impl PgExecutor<'_>,
    user_id: Uuid,
    disabled: bool,
) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query!(
        r#"
        UPDATE people."user" SET disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END WHERE user_id = $1
        "#,
        user_id,
        disabled,
    )
    .execute(executor)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Ends all sessions of a user, and those that are being opened. The password stays. `false` when there is no such
/// user.
///
/// The new version ends the sessions, however many there are; at most 1,000 are also marked as logged out, for readers
/// of the table.
///
/// # Errors
/// The driver's.
pub async fn end_sessions(executor: impl PgExecutor<'_>, user_id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        WITH mine AS (
            UPDATE people."user" SET password_version = password_version + 1 WHERE user_id = $1 RETURNING user_id
        ), marked AS (
            UPDATE people.user_session SET logout_time = now()
            WHERE EXISTS (SELECT FROM mine) AND logout_time IS NULL AND session_id = ANY (ARRAY(
                SELECT session_id FROM people.user_session
                WHERE user_id = $1 AND logout_time IS NULL AND expires_at > now()
                LIMIT 1000))
        )
        SELECT EXISTS (SELECT FROM mine) AS "done!"
        "#,
        user_id,
    )
    .fetch_one(executor)
    .await
}

/// Replaces the roles of a user. Whether they changed; `None` when there is no such user.
///
/// # Errors
/// The driver's.
pub async fn set_roles(
    executor: impl PgExecutor<'_>,
    user_id: Uuid,
    roles: &[String],
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        UPDATE people."user" u SET roles = $2
        FROM (SELECT user_id, roles FROM people."user" WHERE user_id = $1 FOR NO KEY UPDATE) AS before
        WHERE u.user_id = before.user_id
        RETURNING before.roles <> $2 AS "changed!"
        "#,
        user_id,
        roles,
    )
    .fetch_optional(executor)
    .await
}

/// Replaces the e-mail address of a user by one that nobody has verified, which ends the links that were sent for the
/// former one. The former address, if it is another, is told. `false` when there is no such user.
///
/// # Errors
/// The driver's.
pub async fn set_email(
    executor: impl PgExecutor<'_>,
    user_id: Uuid,
    email: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        WITH before AS MATERIALIZED (
            SELECT user_id, email FROM people."user" WHERE user_id = $1 FOR NO KEY UPDATE
        ), mine AS (
            UPDATE people."user" u
            SET email = $2, email_verified_at = NULL, email_version = u.email_version + 1
            FROM before WHERE u.user_id = before.user_id
            RETURNING u.user_id
        ), told AS (
            INSERT INTO people.outbox (kind, user_id, address)
            SELECT 'email_changed', user_id, email FROM before WHERE lower(email) <> lower($2)
        )
        SELECT EXISTS (SELECT FROM mine) AS "done!"
        "#,
        user_id,
        email,
    )
    .fetch_one(executor)
    .await
}

/// What became of a mail that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is in the outbox.
    Done,
    /// The user is disabled.
    Disabled,
    /// The user has no e-mail address.
    NoAddress,
}

/// Asks for a mail to a user with a link that sets a new password. `None` when there is no such user.
///
/// # Errors
/// The driver's.
pub async fn ask_reset(executor: impl PgExecutor<'_>, user_id: Uuid) -> Result<Option<Asked>, sqlx::Error> {
    let user = sqlx::query!(
        r#"
        WITH asked AS MATERIALIZED (
            SELECT user_id, disabled_at IS NOT NULL AS disabled, email IS NOT NULL AS has_address
            FROM people."user" WHERE user_id = $1
        ), told AS (
            INSERT INTO people.outbox (kind, user_id)
            SELECT 'reset', user_id FROM asked WHERE has_address AND NOT disabled
        )
        SELECT disabled AS "disabled!", has_address AS "has_address!" FROM asked
        "#,
        user_id,
    )
    .fetch_optional(executor)
    .await?;
    Ok(user.map(|user| match (user.disabled, user.has_address) {
        (true, _) => Asked::Disabled,
        (false, false) => Asked::NoAddress,
        (false, true) => Asked::Done,
    }))
}

/// Deletes a user with all sessions, and adds the notice to the address and the event for other services to the outbox.
/// `false` when there is no such user.
///
/// # Errors
/// The driver's.
pub async fn delete(executor: impl PgExecutor<'_>, user_id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        WITH gone AS (
            DELETE FROM people."user" WHERE user_id = $1 RETURNING user_id, email
        ), told AS (
            INSERT INTO people.outbox (kind, user_id, address) SELECT 'user_deleted', user_id, email FROM gone
        )
        SELECT EXISTS (SELECT FROM gone) AS "done!"
        "#,
        user_id,
    )
    .fetch_one(executor)
    .await
}

/// A user to be invited. Every value has passed its check.
#[derive(Clone, Debug)]
pub struct Invited {
    /// Not taken yet, or nothing happens.
    pub userid: UserId,
    /// The display name.
    pub user_name: String,
    /// Where the invitation goes.
    pub email: String,
}

/// Writes a user without a password, and asks for the mail with a link that sets the first one. `None` when the userid
/// is taken.
///
/// # Errors
/// The driver's.
pub async fn invite(executor: impl PgExecutor<'_>, invited: &Invited) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        WITH made AS (
            INSERT INTO people."user" (userid, user_name, email) VALUES ($1, $2, $3)
            ON CONFLICT ON CONSTRAINT user_userid_key DO NOTHING
            RETURNING user_id
        ), told AS (
            INSERT INTO people.outbox (kind, user_id) SELECT 'invite', user_id FROM made
        )
        SELECT user_id FROM made
        "#,
        invited.userid.as_str(),
        invited.user_name,
        invited.email,
    )
    .fetch_optional(executor)
    .await
}

/// A user of another system. Every value has passed its check.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the table")]
pub struct Imported {
    /// Its place among those that were given.
    pub index: usize,
    /// That of the other system, if it is to be kept.
    pub user_id: Option<Uuid>,
    /// Canonical.
    pub userid: String,
    pub user_name: String,
    pub country: Option<String>,
    pub job: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    pub email_verified_at: Option<DateTime<Utc>>,
    pub init_cn_level: Option<String>,
    pub roles: Vec<String>,
    /// `None`: now.
    pub reg_time: Option<DateTime<Utc>>,
    pub disabled_at: Option<DateTime<Utc>>,
    pub password_hash: Option<String>,
}

/// What became of users to be imported.
#[derive(Debug, Default)]
pub struct Import {
    /// Key and userid of those that were written.
    pub made: Vec<(Uuid, String)>,
    /// Places of those whose userid a user had before.
    pub present: Vec<usize>,
    /// Places of those whose key another user has. If there is one, nobody was written.
    pub taken: Vec<usize>,
}

/// Writes the users in `users`, a JSON array of [`Imported`], unless `dry_run`; those who are there already are passed
/// over. `None` when somebody else has just written one of their keys: then nothing was written, and trying again shows
/// who is there now.
///
/// # Errors
/// The driver's.
pub async fn import(
    executor: impl PgExecutor<'_>,
    users: &str,
    dry_run: bool,
) -> Result<Option<Import>, sqlx::Error> {
    // Sub-selects rather than joins, which would scan the table. In the order of userids: concurrent imports of the
    // same users wait for each other instead of making a deadlock.
    let row = sqlx::query!(
        r#"
        WITH given AS MATERIALIZED (
            SELECT given.*,
                   (SELECT u.user_id FROM people."user" u WHERE u.userid = given.userid) IS NOT NULL AS present,
                   coalesce((SELECT u.userid <> given.userid FROM people."user" u WHERE u.user_id = given.user_id), false) AS taken
            FROM jsonb_to_recordset($1::text::jsonb) AS given(
                index bigint, user_id uuid, userid text, user_name text, country text, job text, phone text, email text,
                email_verified_at timestamptz, init_cn_level text, roles text[], reg_time timestamptz, disabled_at timestamptz,
                password_hash text)
        ), made AS (
            INSERT INTO people."user"
                (user_id, userid, user_name, country, job, phone, email, email_verified_at, init_cn_level, roles, reg_time,
                 disabled_at, password_hash)
            SELECT coalesce(user_id, gen_random_uuid()), userid, user_name, country, job, phone, email, email_verified_at,
                   init_cn_level, roles, coalesce(reg_time, now()), disabled_at, password_hash
            FROM given
            WHERE NOT $2 AND NOT EXISTS (SELECT FROM given WHERE taken)
            ORDER BY userid
            ON CONFLICT ON CONSTRAINT user_userid_key DO NOTHING
            RETURNING user_id, userid
        )
        SELECT ARRAY(SELECT index FROM given WHERE present ORDER BY index) AS "present!",
               ARRAY(SELECT index FROM given WHERE taken ORDER BY index) AS "taken!",
               ARRAY(SELECT user_id FROM made) AS "user_ids!",
               ARRAY(SELECT userid FROM made) AS "userids!"
        "#,
        users,
        dry_run,
    )
    .fetch_one(executor)
    .await;
    let row = match row {
        Err(sqlx::Error::Database(error)) if error.constraint() == Some("user_pkey") => return Ok(None),
        row => row?,
    };
    let places = |places: Vec<i64>| {
        places
            .into_iter()
            .filter_map(|place| usize::try_from(place).ok())
            .collect()
    };
    Ok(Some(Import {
        made: row.user_ids.into_iter().zip(row.userids).collect(),
        present: places(row.present),
        taken: places(row.taken),
    }))
}
