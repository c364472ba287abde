//! What one instance keeps between requests.

use thiserror::Error;

use crate::aws::{self, AwsError};
use crate::config::{Config, ConfigError, Environment, Limits};
use crate::database::Database;
use crate::password::Passwords;
use crate::password_policy::PasswordPolicy;
use crate::token::Keys;

/// Built once, at the cold start, and shared by every request of the instance.
pub struct App {
    /// The connections to PostgreSQL.
    pub database: Database,
    /// Which passwords may be set.
    pub password_policy: PasswordPolicy,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    /// Signs and verifies access tokens.
    pub keys: Keys,
    /// How many attempts are free.
    pub limits: Limits,
}

/// Why there is no [`App`].
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is missing or unusable: to try again would not help.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret could not be had: the next try may have it.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl App {
    /// Reads the settings in `environment`, and the secrets that they name.
    ///
    /// # Errors
    /// Names the setting or the secret.
    pub async fn load(mut environment: Environment) -> Result<Self, StartError> {
        aws::resolve_secret_keys(&mut environment).await?;
        Ok(Self::new(Config::from_environment(&environment)?))
    }

    /// Opens no connection and allocates no hashing memory yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            database: Database::new(config.database),
            password_policy: config.passwords.policy,
            passwords: Passwords::new(config.passwords.parameters),
            keys: Keys::new(&config.tokens),
            limits: config.limits,
        }
    }
}
