//! Links in mails: each opens one page of the application and carries a token in its fragment. A token is a MAC over
//! the state of the account that ends it, so that no token is stored: a new password, a new address or a new hash of
//! the same password makes another state.
//!
//! `base64url(user_id ‖ time ‖ … ‖ tag)`, unpadded (RFC 4648 §5). Neither the database nor the key alone is enough to
//! make one for an account that has a password, since its hash is part of what is signed.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use uuid::Uuid;

use crate::config::TokenConfig;

/// Longest token that is looked at: one with the longest address, 254 code points of 4 bytes, has 1,420 characters.
const MAX_CHARACTERS: usize = 1500;

/// Bytes of a tag: HMAC-SHA256 truncated to 128 bits (RFC 2104 §5).
const TAG: usize = 16;

/// Bytes of the digest of a former address.
const DIGEST: usize = 8;

/// What a link that sets a password is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new password for an account whose owner forgot the old one.
    Reset,
    /// The first password of an account that an operator made.
    Invite,
}

impl Purpose {
    /// How long its links are valid.
    #[must_use]
    pub fn lifetime(self) -> TimeDelta {
        match self {
            Self::Reset => TimeDelta::hours(1),
            Self::Invite => TimeDelta::days(7),
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Reset => b"reset",
            Self::Invite => b"invite",
        }
    }
}

/// How long a link that confirms an address is valid.
pub const EMAIL_LIFETIME: TimeDelta = TimeDelta::hours(24);

/// The state of an account that its links depend on.
#[derive(Clone, Debug)]
pub struct LinkState {
    /// The account.
    pub user_id: Uuid,
    /// Its stored hash, if it has a password.
    pub password_hash: Option<SecretString>,
    /// How often the password has been changed.
    pub password_version: i32,
    /// Its address.
    pub email: Option<String>,
    /// How often the address has been changed.
    pub email_version: i32,
}

/// The token is malformed, forged, expired, used, or superseded. Says no more, since nobody may learn more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a valid link")]
pub struct InvalidLink;

/// The keys that links are signed with: derived from those of access tokens, so that a token of one kind is none of the
/// other.
pub struct LinkKeys {
    current: hmac::Key,
    previous: Option<hmac::Key>,
}

impl LinkKeys {
    /// Derives the keys from the settings.
    #[must_use]
    pub fn new(config: &TokenConfig) -> Self {
        Self {
            current: derive(&config.secret_key),
            previous: config.previous_secret_key.as_ref().map(derive),
        }
    }

    /// A token that sets a password, for a mail that was asked for at `asked_at`. The same request makes the same
    /// token.
    #[must_use]
    pub fn password_token(&self, purpose: Purpose, state: &LinkState, asked_at: DateTime<Utc>) -> String {
        let time = seconds(asked_at);
        let tag = truncated(&self.current, &password_message(purpose, state, time));
        URL_SAFE_NO_PAD.encode([state.user_id.as_bytes(), &time[..], &tag].concat())
    }

    /// A token that makes `address` the one of the account, for a mail that was asked for at `asked_at`.
    #[must_use]
    pub fn email_token(&self, state: &LinkState, address: &str, asked_at: DateTime<Utc>) -> String {
        let claims = EmailClaims {
            time: seconds(asked_at),
            former: digest_of(state.email.as_deref()),
            version: state.email_version.to_be_bytes(),
            address,
        };
        let tag = truncated(&self.current, &email_message(state, &claims));
        let parts = [
            state.user_id.as_bytes(),
            &claims.time[..],
            &claims.former,
            &claims.version,
            address.as_bytes(),
            &tag,
        ];
        URL_SAFE_NO_PAD.encode(parts.concat())
    }

    fn verify(&self, message: &[u8], tag: &[u8; TAG]) -> Result<(), InvalidLink> {
        let matches = |key| bool::from(truncated(key, message).ct_eq(tag));
        if matches(&self.current) || self.previous.as_ref().is_some_and(matches) {
            Ok(())
        } else {
            Err(InvalidLink)
        }
    }
}

/// A well-formed token that sets a password. Whether it is valid depends on its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordToken {
    user_id: Uuid,
    time: [u8; 4],
    tag: [u8; TAG],
}

impl PasswordToken {
    /// Parses the token of a link.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(token: &str) -> Result<Self, InvalidLink> {
        let bytes = decode(token)?;
        let (user_id, rest) = split(&bytes)?;
        let (time, rest) = split(rest)?;
        let tag = rest.try_into().map_err(|_| InvalidLink)?;
        Ok(Self {
            user_id: Uuid::from_bytes(user_id),
            time,
            tag,
        })
    }

    /// The account that it claims to be for.
    #[must_use]
    pub fn user_id(&self) -> Uuid {
        self.user_id
    }

    /// What it is for, if it is valid for an account in this `state` at the time `now`.
    ///
    /// # Errors
    /// When it is forged, expired, or made for another state.
    pub fn verify(
        &self,
        keys: &LinkKeys,
        state: &LinkState,
        now: DateTime<Utc>,
    ) -> Result<Purpose, InvalidLink> {
        let is_valid = |purpose: &Purpose| {
            let message = password_message(*purpose, state, self.time);
            keys.verify(&message, &self.tag).is_ok() && is_fresh(self.time, purpose.lifetime(), now)
        };
        [Purpose::Reset, Purpose::Invite]
            .into_iter()
            .find(is_valid)
            .filter(|_| self.user_id == state.user_id)
            .ok_or(InvalidLink)
    }
}

/// A well-formed token that confirms an address. Whether it is valid depends on its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailToken {
    user_id: Uuid,
    time: [u8; 4],
    former: [u8; DIGEST],
    version: [u8; 4],
    address: String,
    tag: [u8; TAG],
}

impl EmailToken {
    /// Parses the token of a link.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(token: &str) -> Result<Self, InvalidLink> {
        let bytes = decode(token)?;
        let (user_id, rest) = split(&bytes)?;
        let (time, rest) = split(rest)?;
        let (former, rest) = split(rest)?;
        let (version, rest) = split(rest)?;
        let (address, tag) = rest.split_last_chunk().ok_or(InvalidLink)?;
        let address = std::str::from_utf8(address).map_err(|_| InvalidLink)?;
        if address.is_empty() || address.contains('\0') {
            return Err(InvalidLink);
        }
        Ok(Self {
            user_id: Uuid::from_bytes(user_id),
            time,
            former,
            version,
            address: address.to_owned(),
            tag: *tag,
        })
    }

    /// The account that it claims to be for.
    #[must_use]
    pub fn user_id(&self) -> Uuid {
        self.user_id
    }

    /// The address that it confirms.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The account's `email_version` before the change.
    #[must_use]
    pub fn email_version(&self) -> i32 {
        i32::from_be_bytes(self.version)
    }

    /// Whether it is valid for an account in this `state` at the time `now`: before the change, or after it, while the
    /// address has not been changed again.
    ///
    /// # Errors
    /// When it is forged, expired, or made for another state.
    pub fn verify(&self, keys: &LinkKeys, state: &LinkState, now: DateTime<Utc>) -> Result<(), InvalidLink> {
        let claims = EmailClaims {
            time: self.time,
            former: self.former,
            version: self.version,
            address: &self.address,
        };
        keys.verify(&email_message(state, &claims), &self.tag)?;
        let version = self.email_version();
        let before = state.email_version == version && digest_of(state.email.as_deref()) == self.former;
        let after = Some(state.email_version) == version.checked_add(1)
            && state.email.as_deref() == Some(&*self.address);
        if self.user_id == state.user_id && (before || after) && is_fresh(self.time, EMAIL_LIFETIME, now) {
            Ok(())
        } else {
            Err(InvalidLink)
        }
    }
}

struct EmailClaims<'a> {
    time: [u8; 4],
    former: [u8; DIGEST],
    version: [u8; 4],
    address: &'a str,
}

fn derive(secret: &SecretString) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, b"people links").as_ref())
}

fn truncated(key: &hmac::Key, message: &[u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    tag.copy_from_slice(&hmac::sign(key, message).as_ref()[..TAG]);
    tag
}

fn password_message(purpose: Purpose, state: &LinkState, time: [u8; 4]) -> Vec<u8> {
    message(&[
        Some(purpose.name()),
        Some(state.user_id.as_bytes()),
        Some(&time),
        Some(&state.password_version.to_be_bytes()),
        hash(state),
        state.email.as_ref().map(String::as_bytes),
    ])
}

fn email_message(state: &LinkState, claims: &EmailClaims<'_>) -> Vec<u8> {
    message(&[
        Some(b"email"),
        Some(state.user_id.as_bytes()),
        Some(&claims.time),
        Some(&state.password_version.to_be_bytes()),
        hash(state),
        Some(&claims.former),
        Some(&claims.version),
        Some(claims.address.as_bytes()),
    ])
}

fn hash(state: &LinkState) -> Option<&[u8]> {
    let hash = state.password_hash.as_ref();
    hash.map(|hash| hash.expose_secret().as_bytes())
}

/// Each part with its length before it, so that no two lists of parts are one message. An absent one differs from an
/// empty one.
fn message(parts: &[Option<&[u8]>]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in parts {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        message.extend(length.to_be_bytes());
        message.extend(part.unwrap_or_default());
    }
    message
}

fn digest_of(address: Option<&str>) -> [u8; DIGEST] {
    let digest = digest::digest(&digest::SHA256, address.unwrap_or_default().as_bytes());
    let mut short = [0; DIGEST];
    short.copy_from_slice(&digest.as_ref()[..DIGEST]);
    short
}

/// Whole seconds since 1970, until 2106.
fn seconds(time: DateTime<Utc>) -> [u8; 4] {
    u32::try_from(time.timestamp()).unwrap_or(u32::MAX).to_be_bytes()
}

fn is_fresh(time: [u8; 4], lifetime: TimeDelta, now: DateTime<Utc>) -> bool {
    let made_at = i64::from(u32::from_be_bytes(time));
    now.timestamp() - made_at < lifetime.num_seconds()
}

/// Strict: no padding, no other characters, no spare bits.
fn decode(token: &str) -> Result<Vec<u8>, InvalidLink> {
    if token.len() > MAX_CHARACTERS {
        return Err(InvalidLink);
    }
    URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidLink)
}

fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), InvalidLink> {
    let (first, rest) = bytes.split_first_chunk().ok_or(InvalidLink)?;
    Ok((*first, rest))
}
