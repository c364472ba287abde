//! Users: what a valid one is made of, and every statement on `people."user"`.

pub mod operators;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::attempts::Reservation;
use crate::database::interval;
use crate::token::VerifiedToken;
use crate::unicode;
use crate::validation::ValidationError;

/// What people type to log in, in its canonical form: NFKC, lower case, NFKC.
///
/// `Alice`, `ALICE` and `Ａlice` (full width) are one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserId(String);

impl UserId {
    /// The form in which `typed` is stored and looked up. Never refuses: old users of the Python back end have names
    /// that registration would refuse today.
    #[must_use]
    pub fn canonical(typed: &str) -> Self {
        // Lower-casing can undo NFKC and folding in one pass is not stable, hence the second pass.
        Self(typed.nfkc().collect::<String>().to_lowercase().nfkc().collect())
    }

    /// A userid that a new user may have.
    ///
    /// # Errors
    /// When it is empty, over 64 code points, has a code point that cannot be seen or typed reliably, begins with a
    /// combining mark, or mixes scripts.
    pub fn new(typed: &str) -> Result<Self, ValidationError> {
        let canonical = Self::canonical(typed);
        let userid = canonical.as_str();
        if userid.is_empty() || userid.chars().count() > 64 {
            return Err(ValidationError::Length(1, 64));
        }
        if !userid.chars().all(unicode::is_visible) {
            return Err(ValidationError::Invisible);
        }
        if userid.starts_with(unicode::is_combining_mark) {
            return Err(ValidationError::CombiningMark);
        }
        if !unicode::is_highly_restrictive(userid) {
            return Err(ValidationError::MixedScripts);
        }
        Ok(canonical)
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A display name: 1 to 64 code points without control characters, something visible among them.
///
/// # Errors
/// When it is empty, too long, has a control character or nothing to be seen.
pub fn user_name(given: &str) -> Result<String, ValidationError> {
    let name = text(given, 64)?;
    if name.is_empty() {
        Err(ValidationError::Length(1, 64))
    } else if name.chars().any(unicode::is_visible) {
        Ok(name)
    } else {
        Err(ValidationError::NothingVisible)
    }
}

/// Free text of at most `max` code points, without control characters and surrounding white space.
fn text(given: &str, max: usize) -> Result<String, ValidationError> {
    let given = given.trim();
    if given.chars().any(char::is_control) {
        return Err(ValidationError::Control);
    }
    if given.chars().count() > max {
        return Err(ValidationError::TooLong(max));
    }
    Ok(given.to_owned())
}

/// A country or a job: at most 64 code points.
///
/// # Errors
/// When it is too long or has a control character.
pub fn country_or_job(given: &str) -> Result<String, ValidationError> {
    text(given, 64)
}

/// The level of Chinese at which a person starts: at most 32 code points.
///
/// # Errors
/// When it is too long or has a control character.
pub fn init_cn_level(given: &str) -> Result<String, ValidationError> {
    text(given, 32)
}

/// A telephone number as people write it: at most 32 of `+0-9 ()-.` in NFKC, full-width ones too.
///
/// # Errors
/// When it is too long or has another character.
pub fn phone(given: &str) -> Result<String, ValidationError> {
    let phone = text(given, 32)?;
    let plain: String = phone.nfkc().collect();
    if !plain.chars().all(|c| c.is_ascii_digit() || "+ ()-.".contains(c)) {
        return Err(ValidationError::Phone);
    }
    // One character may become several: "⑴" is "(1)".
    text(&plain, 32).map(|_| phone)
}

/// Something shaped like an e-mail address: `local@domain.tld`, at most 254 characters (RFC 5321 §4.5.3.1.3).
///
/// # Errors
/// When it is not.
pub fn email(given: &str) -> Result<String, ValidationError> {
    const REFUSAL: ValidationError = ValidationError::Email(254);
    let email = text(given, 254).map_err(|_| REFUSAL)?;
    let (local, domain) = email.rsplit_once('@').ok_or(REFUSAL)?;
    let shaped = !local.is_empty()
        && !local.contains('@')
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
        && !email.chars().any(char::is_whitespace);
    if shaped { Ok(email) } else { Err(REFUSAL) }
}

/// A user as clients see one: `user_info`. Has no password hash to leak.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, ToSchema)]
#[schema(description = "A user, as clients see one.")]
pub struct User {
    /// Primary key, made by the database.
    #[schema(example = "0b7e6c1a-2f4d-4a83-9c55-1d0f6a7b8c9d")]
    pub user_id: Uuid,
    /// Canonical, unique.
    #[schema(example = "alice")]
    pub userid: String,
    /// Display name.
    #[schema(example = "Alice")]
    pub user_name: String,
    /// As the user stated it.
    #[schema(required = true, example = "DE")]
    pub country: Option<String>,
    /// As the user stated it.
    #[schema(required = true, example = "engineer")]
    pub job: Option<String>,
    /// As the user stated it.
    #[schema(required = true, example = "+49 30 123456")]
    pub phone: Option<String>,
    /// As the user stated it.
    #[schema(required = true, example = "alice@example.com")]
    pub email: Option<String>,
    /// Somebody has followed a link that was sent there.
    #[schema(example = false)]
    pub email_verified: bool,
    /// The level of Chinese at which the user starts, as stated.
    #[schema(required = true, example = "HSK 2")]
    pub init_cn_level: Option<String>,
    /// What the application lets the user do; what each means is its own affair.
    #[schema(example = json!(["teacher"]))]
    pub roles: Vec<String>,
    /// When the account was made, by the database's clock.
    #[schema(example = "2026-11-25T08:30:00.123456Z")]
    pub reg_time: DateTime<Utc>,
}

/// A user to be written. Every value has passed its check.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields of `User`")]
pub struct NewUser {
    pub userid: UserId,
    pub user_name: String,
    pub country: Option<String>,
    pub job: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    pub init_cn_level: Option<String>,
}

/// Writes a user. `None` when the userid is taken.
///
/// # Errors
/// The driver's.
pub async fn insert(
    executor: impl PgExecutor<'_>,
    user: &NewUser,
    password_hash: &str,
) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"
        INSERT INTO people."user"
            (userid, user_name, country, job, phone, email, init_cn_level, password_hash)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT ON CONSTRAINT user_userid_key DO NOTHING
        RETURNING user_id, userid, user_name AS "user_name!", country, job, phone, email,
                  email_verified_at IS NOT NULL AS "email_verified!", init_cn_level, roles, reg_time
        "#,
        user.userid.as_str(),
        user.user_name,
        user.country,
        user.job,
        user.phone,
        user.email,
        user.init_cn_level,
        password_hash,
    )
    .fetch_optional(executor)
    .await
}

/// A user with what verifies the password.
pub struct Credentials {
    /// Whom the password would log in.
    pub user: User,
    /// A PHC string or a bcrypt hash; none for an account without a password.
    pub password_hash: Option<String>,
    /// How often the password has been changed. A session counts only while it has the same number.
    pub password_version: i32,
    /// Nobody can log in, whatever the password.
    pub disabled: bool,
}

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
/// The new version ends the sessions, however many there are; at most 1,000 are also marked as logged out, for readers of
/// the table.
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

/// Deletes the user of the live session that `token` belongs to, with all sessions, if the password is still the one that
/// was verified. Gives the reserved attempt back, and adds the notice to the former address and the event for other services
/// to the outbox.
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
