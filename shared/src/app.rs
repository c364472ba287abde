//! The state that an instance keeps between requests. Each function builds only what its routes need.

use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use crate::attempts::OwnAttempts;
use crate::aws::{self, AwsError};
use crate::config::{
    Config, ConfigError, DatabaseConfig, Environment, Limits, LinkPages, LinkScheme, PasswordConfig,
    TokenConfig, TrustedProxy, origins_from_environment,
};
use crate::database::Database;
use crate::links::LinkKeys;
use crate::origins::Origins;
use crate::password::Passwords;
use crate::token::Keys;

/// The state that a function keeps between requests.
pub trait State: Sized + Send + Sync + 'static {
    /// The resources that it needs.
    const NEEDS: &'static [Need];

    /// Reads its settings from `environment`, and the secrets named there. Does not connect to the database yet.
    fn load(environment: &Environment) -> impl Future<Output = Result<Self, StartError>> + Send;

    /// The corresponding part of `app`, for a process that serves all functions.
    fn part_of(app: &App) -> Self;

    /// The database to connect to before the first request.
    fn database(&self) -> &Database;
}

/// A resource of a function, for which it needs settings, secrets, memory or permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// The database, as the application role.
    Database,
    /// The database, as its owner.
    DatabaseOwner,
    /// The keys that sign access tokens.
    Keys,
    /// Memory to hash passwords.
    Passwords,
}

/// The whole state, for functions that check passwords and sign tokens.
#[derive(Clone)]
pub struct App {
    /// The connections to PostgreSQL.
    pub database: Arc<Database>,
    /// Hashes and verifies passwords.
    pub passwords: Arc<Passwords>,
    /// Signs and verifies access tokens.
    pub keys: Arc<Keys>,
    /// How many attempts are allowed without a delay.
    pub limits: Limits,
    /// The proxy whose source addresses are trusted.
    pub trusted_proxy: TrustedProxy,
    /// Its attempts to log in.
    pub attempts: Arc<OwnAttempts>,
    /// Origins whose web pages may call the service.
    pub origins: Origins,
    /// Makes and verifies the links in mails.
    pub links: Arc<LinkKeys>,
    /// Where links in mails lead; `None` if no mails are sent: then the endpoints that need them do not exist.
    pub mail: Option<LinkPages>,
}

/// Why a function cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is missing or invalid: a retry would not help.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret could not be read: a retry may succeed.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl App {
    /// Opens no connection and allocates no memory for hashes yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            links: Arc::new(LinkKeys::new(&config.tokens)),
            mail: config.mail,
            database: Arc::new(Database::new(config.database)),
            passwords: Arc::new(Passwords::new(&config.passwords)),
            keys: Arc::new(Keys::new(&config.tokens)),
            limits: config.limits,
            trusted_proxy: config.trusted_proxy,
            attempts: Arc::default(),
            origins: config.origins,
        }
    }
}

impl State for App {
    const NEEDS: &'static [Need] = &[Need::Database, Need::Keys, Need::Passwords];

    async fn load(environment: &Environment) -> Result<Self, StartError> {
        Ok(Self::new(Config {
            database: DatabaseConfig::from_environment(environment)?,
            passwords: PasswordConfig::from_environment(environment)?,
            limits: Limits::from_environment(environment)?,
            trusted_proxy: TrustedProxy::from_environment(environment)?,
            origins: origins_from_environment(environment)?,
            mail: LinkPages::from_environment(environment, LinkScheme::Https)?,
            tokens: TokenConfig::from_environment(&aws::with_secret_keys(environment).await?)?,
        }))
    }

    fn part_of(app: &App) -> Self {
        app.clone()
    }

    fn database(&self) -> &Database {
        &self.database
    }
}

impl State for Arc<Database> {
    const NEEDS: &'static [Need] = &[Need::Database];

    async fn load(environment: &Environment) -> Result<Self, StartError> {
        Ok(Self::new(Database::new(DatabaseConfig::from_environment(
            environment,
        )?)))
    }

    fn part_of(app: &App) -> Self {
        app.database.clone()
    }

    fn database(&self) -> &Database {
        self
    }
}
