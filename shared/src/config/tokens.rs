//! How tokens are signed, and their claims.

use std::time::Duration;

use chrono::TimeDelta;
use jsonwebtoken::Algorithm;
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, Environment};

/// Minimum bytes of a signing key: the size of the hash (RFC 7518 §3.2), here of HS256, which has the smallest.
pub const MIN_KEY_BYTES: usize = 32;

/// How tokens are signed, and their claims.
pub struct TokenConfig {
    /// HS256, HS384 or HS512.
    pub algorithm: Algorithm,
    /// Signs and verifies; at least [`MIN_KEY_BYTES`].
    pub secret_key: SecretString,
    /// Verifies only, so that rotating a key logs nobody out.
    pub previous_secret_key: Option<SecretString>,
    /// The claim `iss`.
    pub issuer: String,
    /// Lifetime of a token and of its session.
    pub lifetime: Duration,
    /// How long a session may be idle; `None`: as long as it lives.
    pub max_idle: Option<TimeDelta>,
}

impl TokenConfig {
    /// The token settings in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or invalid.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        const KEY: &str = "SECRET_KEY";
        const MINUTES: &str = "ACCESS_TOKEN_EXPIRE_MINUTES";
        let secret_key = key(environment, KEY)?.ok_or_else(|| ConfigError::new(KEY, "is missing"))?;
        let previous_secret_key = key(environment, "SECRET_KEY_PREVIOUS")?;
        let algorithm = match environment.text("ALGORITHM") {
            None | Some("HS256") => Algorithm::HS256,
            Some("HS384") => Algorithm::HS384,
            Some("HS512") => Algorithm::HS512,
            Some(_) => return Err(ConfigError::new("ALGORITHM", "must be HS256, HS384 or HS512")),
        };
        let minutes = environment.number(MINUTES, 60, 1..=MAX_LIFETIME_MINUTES)?;
        Ok(Self {
            algorithm,
            // The same key twice (a rotation that has not been carried out yet) counts as one.
            previous_secret_key: previous_secret_key
                .filter(|key| key.expose_secret() != secret_key.expose_secret()),
            secret_key,
            issuer: issuer(environment).to_owned(),
            lifetime: Duration::from_secs(u64::from(minutes) * 60),
            max_idle: max_idle(environment)?,
        })
    }
}

/// The longest lifetime of a token, and the longest that a session may be idle: a year.
pub const MAX_LIFETIME_MINUTES: u32 = 525_600;

/// `SESSION_IDLE_MINUTES`: how long a session may be idle; `None`: as long as it lives.
///
/// # Errors
/// When it is invalid.
pub fn max_idle(environment: &Environment) -> Result<Option<TimeDelta>, ConfigError> {
    const IDLE_MINUTES: &str = "SESSION_IDLE_MINUTES";
    let minutes = environment.number(IDLE_MINUTES, 0, 0..=MAX_LIFETIME_MINUTES)?;
    // `last_seen` lags by up to 15 minutes: a shorter limit would end sessions that are in use.
    if (1..60).contains(&minutes) {
        return Err(ConfigError::new(
            IDLE_MINUTES,
            format!("must be 0, or from 60 to {MAX_LIFETIME_MINUTES}"),
        ));
    }
    Ok((minutes > 0).then(|| TimeDelta::minutes(minutes.into())))
}

pub(super) fn issuer(environment: &Environment) -> &str {
    environment.text("TOKEN_ISSUER").unwrap_or("people")
}

fn key(environment: &Environment, name: &'static str) -> Result<Option<SecretString>, ConfigError> {
    match environment.text(name) {
        Some(key) if key.len() < MIN_KEY_BYTES => Err(ConfigError::new(
            name,
            format!("must have at least {MIN_KEY_BYTES} bytes"),
        )),
        key => Ok(key.map(SecretString::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn tokens(settings: &[(&str, &str)]) -> Result<TokenConfig, String> {
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("SECRET_KEY", KEY);
        TokenConfig::from_environment(&environment).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_contracts() {
        let tokens = tokens(&[]).unwrap();
        assert_eq!(tokens.algorithm, Algorithm::HS256);
        assert_eq!(tokens.lifetime, Duration::from_hours(1));
        assert_eq!(tokens.issuer, "people");
    }

    #[test]
    fn a_session_may_be_idle_for_an_hour_to_a_year_or_without_a_limit() {
        let idle = |minutes| tokens(&[("SESSION_IDLE_MINUTES", minutes)]).map(|tokens| tokens.max_idle);
        assert_eq!(tokens(&[]).unwrap().max_idle, None);
        assert_eq!(idle("0"), Ok(None));
        assert_eq!(idle("60"), Ok(Some(TimeDelta::hours(1))));
        assert_eq!(idle("525600"), Ok(Some(TimeDelta::days(365))));
        for minutes in ["1", "59"] {
            let error = "SESSION_IDLE_MINUTES must be 0, or from 60 to 525600";
            assert_eq!(idle(minutes), Err(error.to_owned()));
        }
        assert!(idle("525601").is_err());
    }

    #[test]
    fn a_previous_key_equal_to_the_current_one_is_ignored() {
        let previous = |key| {
            tokens(&[("SECRET_KEY_PREVIOUS", key)])
                .unwrap()
                .previous_secret_key
        };
        assert!(previous(KEY).is_none());
        assert!(previous(&KEY.replace('f', "g")).is_some());
    }

    #[test]
    fn an_unusable_setting_is_named_and_its_value_is_not_shown() {
        let error = |name, value| tokens(&[(name, value)]).err().unwrap();
        assert_eq!(
            error("SECRET_KEY", &KEY[1..]),
            "SECRET_KEY must have at least 32 bytes"
        );
        assert_eq!(
            error("SECRET_KEY_PREVIOUS", "short"),
            "SECRET_KEY_PREVIOUS must have at least 32 bytes"
        );
        assert_eq!(
            error("ALGORITHM", "none"),
            "ALGORITHM must be HS256, HS384 or HS512"
        );
        for minutes in ["0", "525601", "1.5"] {
            assert_eq!(
                error("ACCESS_TOKEN_EXPIRE_MINUTES", minutes),
                "ACCESS_TOKEN_EXPIRE_MINUTES must be a whole number from 1 to 525600"
            );
        }
    }
}
