//! What those who follow a link from a mail change of the account that it is for.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::attempts::LoginCounts;
use crate::links::LinkState;

/// An account that a link claims to be for.
pub struct LinkedAccount {
    /// What its links depend on.
    pub state: LinkState,
    /// What its owner logs in as.
    pub userid: String,
    /// Its display name.
    pub user_name: String,
    /// Its telephone number.
    pub phone: Option<String>,
    /// The database's now, by which links expire.
    pub now: DateTime<Utc>,
}

/// Reads the account of a link, unless it is disabled.
///
/// # Errors
/// The driver's.
pub async fn find_by_link(
    executor: impl PgExecutor<'_>,
    user_id: Uuid,
) -> Result<Option<LinkedAccount>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        SELECT userid, coalesce(user_name, userid) AS "user_name!", phone, password_hash, password_version, email,
               email_version, now() AS "now!"
        FROM people."user" WHERE user_id = $1 AND disabled_at IS NULL
        "#,
        user_id,
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| LinkedAccount {
        state: LinkState {
            user_id,
            password_hash: row.password_hash.map(SecretString::from),
            password_version: row.password_version,
            email: row.email,
            email_version: row.email_version,
        },
        userid: row.userid,
        user_name: row.user_name,
        phone: row.phone,
        now: row.now,
    }))
}

/// Sets the password of an account that is still in the `state` for which a link was valid. Its address counts as
/// verified, since the mail arrived there. Ends all its sessions, as [`super::set_password`] does, clears the counts of
/// its userid, and adds the notice to the owner to the outbox. `false` when the state is another: then nothing was
/// changed.
///
/// # Errors
/// The driver's.
pub async fn set_password_by_link(
    executor: impl PgExecutor<'_>,
    state: &LinkState,
    password_hash: &str,
    counts: &LoginCounts,
) -> Result<bool, sqlx::Error> {
    // The order of locks: attempts, user, sessions, outbox.
    sqlx::query_scalar!(
        r#"
        WITH counts AS MATERIALIZED (
            SELECT key FROM people.attempt WHERE key = ANY ($7) ORDER BY key FOR UPDATE
        ), mine AS (
            UPDATE people."user" u SET password_hash = $2, password_version = u.password_version + 1,
                email_verified_at = coalesce(u.email_verified_at, now())
            FROM (SELECT count(*) FROM counts) AS locked
            WHERE u.user_id = $1 AND u.password_version = $3 AND u.password_hash IS NOT DISTINCT FROM $4
              AND u.email_version = $5 AND u.email = $6 AND u.disabled_at IS NULL
            RETURNING u.user_id, u.email
        ), cleared AS (
            DELETE FROM people.attempt a USING counts WHERE a.key = counts.key AND EXISTS (SELECT FROM mine)
        ), marked AS (
            UPDATE people.user_session SET logout_time = now()
            WHERE EXISTS (SELECT FROM mine) AND logout_time IS NULL AND session_id = ANY (ARRAY(
                SELECT session_id FROM people.user_session
                WHERE user_id = $1 AND logout_time IS NULL AND expires_at > now()
                LIMIT 1000))
        ), told AS (
            INSERT INTO people.outbox (kind, user_id, address) SELECT 'password_changed', user_id, email FROM mine
        )
        SELECT EXISTS (SELECT FROM mine) AS "done!"
        "#,
        state.user_id,
        password_hash,
        state.password_version,
        state.password_hash.as_ref().map(ExposeSecret::expose_secret),
        state.email_version,
        state.email,
        &counts.keys_of_userid(),
    )
    .fetch_one(executor)
    .await
}

/// Makes `address` the verified one of an account whose password is that of `state`, and whose address has been changed
/// `email_version` times, or once more, to this one: then this is a repetition, and changes nothing. Adds the notice to
/// a former address to the outbox. Returns whether anything was changed; `None` when the account is in another state.
///
/// # Errors
/// The driver's.
pub async fn confirm_email(
    executor: impl PgExecutor<'_>,
    state: &LinkState,
    address: &str,
    email_version: i32,
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        WITH former AS MATERIALIZED (
            SELECT user_id, email, email_version FROM people."user"
            WHERE user_id = $1 AND password_version = $2 AND password_hash IS NOT DISTINCT FROM $3 AND disabled_at IS NULL
            FOR NO KEY UPDATE
        ), mine AS (
            UPDATE people."user" u SET email = $4, email_version = u.email_version + 1, email_verified_at = now()
            FROM former WHERE u.user_id = former.user_id AND former.email_version = $5
            RETURNING u.user_id
        ), told AS (
            INSERT INTO people.outbox (kind, user_id, address)
            SELECT 'email_changed', f.user_id, f.email FROM former f JOIN mine USING (user_id)
            WHERE lower(f.email) <> lower($4)
        )
        SELECT CASE
                   WHEN EXISTS (SELECT FROM mine) THEN true
                   WHEN EXISTS (SELECT FROM former WHERE email_version = $5 + 1 AND email = $4) THEN false
               END AS changed
        "#,
        state.user_id,
        state.password_version,
        state.password_hash.as_ref().map(ExposeSecret::expose_secret),
        address,
        email_version,
    )
    .fetch_one(executor)
    .await
}
