//! Settings, one module for each thing that is configured. Only this module reads the environment, once, at startup. A
//! missing or invalid setting stops startup with a message that names it and never shows its value.

mod database;
mod environment;
mod limits;
mod mail;
mod passwords;
mod tokens;
mod trusted_proxy;

use thiserror::Error;

pub use database::{Credentials, DatabaseConfig, Pooler, Timeouts, connect_options, trust_rds};
pub use environment::Environment;
pub(crate) use environment::aws_endpoint_url;
pub use limits::Limits;
pub use mail::{LinkPages, LinkScheme, mail_is_set_up};
pub use passwords::PasswordConfig;
pub use tokens::{MAX_LIFETIME_MINUTES, MIN_KEY_BYTES, TokenConfig, max_idle};
pub use trusted_proxy::TrustedProxy;

use crate::origins::Origins;

/// All settings, for a process that serves every function on a developer's machine.
pub struct Config {
    /// How to reach PostgreSQL.
    pub database: DatabaseConfig,
    /// How tokens are signed, and their claims.
    pub tokens: TokenConfig,
    /// Which passwords are accepted, and how they are hashed.
    pub passwords: PasswordConfig,
    /// How many attempts are allowed without a delay.
    pub limits: Limits,
    /// The proxy whose source addresses are trusted.
    pub trusted_proxy: TrustedProxy,
    /// Origins whose web pages may call the service.
    pub origins: Origins,
    /// Where links in mails lead; `None` if no mails are sent.
    pub mail: Option<LinkPages>,
}

impl Config {
    /// The settings in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or invalid.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            database: DatabaseConfig::from_environment(environment)?,
            tokens: TokenConfig::from_environment(environment)?,
            passwords: PasswordConfig::from_environment(environment)?,
            limits: Limits::from_environment(environment)?,
            trusted_proxy: TrustedProxy::from_environment(environment)?,
            origins: origins_from_environment(environment)?,
            mail: LinkPages::from_environment(environment, LinkScheme::HttpToo)?,
        })
    }
}

/// None unless `CORS_ALLOWED_ORIGINS` is set.
pub(crate) fn origins_from_environment(environment: &Environment) -> Result<Origins, ConfigError> {
    const ORIGINS: &str = "CORS_ALLOWED_ORIGINS";
    environment
        .text(ORIGINS)
        .map_or(Ok(Origins::Listed(Vec::new())), Origins::parse)
        .map_err(|problem| ConfigError::new(ORIGINS, problem))
}

/// A missing or invalid setting.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{name} {problem}")]
pub struct ConfigError {
    /// The environment variable.
    pub name: &'static str,
    /// What is wrong with it, never its value.
    pub problem: String,
}

impl ConfigError {
    /// A problem with the setting `name`.
    pub fn new(name: &'static str, problem: impl Into<String>) -> Self {
        Self {
            name,
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_is_named() {
        let error = |environment: &[(&str, &str)]| {
            Config::from_environment(&environment.iter().copied().collect())
                .err()
                .unwrap()
                .to_string()
        };
        assert_eq!(error(&[]), "DATABASE_URL is missing");
        assert_eq!(error(&[("DATABASE_URL", "")]), "DATABASE_URL is missing");
        assert_eq!(
            error(&[("DATABASE_URL", "postgres://a@b/c")]),
            "SECRET_KEY is missing"
        );
    }
}
