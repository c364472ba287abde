//! Users: what a valid one is made of, and the statements that read and write one.

mod link;
pub mod operators;
mod own;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::link::{LinkedAccount, confirm_email, find_by_link, set_password_by_link};
pub use self::own::{Change, OwnChange, ProfileChanges, ask_email, delete, set_password, update_profile};
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
        && is_plain_address(&email);
    if shaped { Ok(email) } else { Err(REFUSAL) }
}

/// Whether `text` can be understood only as one address, without a name: it has none of the special characters of RFC
/// 5322 §3.2.3. Otherwise a user whose address is `Call 555 now <somebody@example.com>` could have that sent to
/// somebody.
#[must_use]
pub fn is_plain_address(text: &str) -> bool {
    !text.contains(|c: char| c.is_whitespace() || c.is_control() || "()<>[]:;,\\\"".contains(c))
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
