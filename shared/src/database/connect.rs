//! Connecting: address and credentials as they are now, and the settings of a connection.

use std::sync::PoisonError;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::time::timeout;

use super::error::Failure;
use super::retry::ANSWER_TIMEOUT;
use super::{Connection, Database};
use crate::aws::{AwsError, DatabaseSecret};
use crate::config::{Credentials, Pooler, connect_options, trust_rds};

/// The server gives up on a statement after this long. Ours are look-ups by key: milliseconds.
pub(super) const STATEMENT_TIMEOUT: &str = "1500ms";

/// Longest that a migration waits for a connection. Nobody waits for its answer as for a request's.
const OWNER_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Database {
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let inner = match self.connect_with(self.connect_options().await?).await {
            // A password that was rotated: the secret is read again, once.
            Err(failure) if failure.refuses_password() && self.forget_secret() => {
                self.connect_with(self.connect_options().await?).await?
            }
            outcome => outcome?,
        };
        Ok(Connection {
            inner,
            pooler: self.pooler,
        })
    }

    async fn connect_with(&self, options: PgConnectOptions) -> Result<PgConnection, Failure> {
        let options = options
            .application_name("people")
            .extra_float_digits(None)
            .disable_statement_logging();
        let options = match self.pooler {
            // Nothing is looked up where others may put something. Wins over what a URL says.
            Pooler::None => options.options([
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("search_path", "pg_catalog,pg_temp"),
            ]),
            // What PgBouncer and RDS Proxy do not let through is left out behind them.
            Pooler::Transaction => options,
        };
        let connecting = timeout(ANSWER_TIMEOUT, options.connect()).await;
        Ok(connecting.map_err(|_| Failure::Silence("no answer to a connection attempt"))??)
    }

    /// Address and credentials, as they are now.
    pub(super) async fn connect_options(&self) -> Result<PgConnectOptions, AwsError> {
        match &self.credentials {
            Credentials::Url => Ok(self.options.clone()),
            // Boxed, so that the SDK's large futures are not part of everybody's.
            Credentials::Iam => {
                let (host, port) = (self.options.get_host(), self.options.get_port());
                let token = Box::pin(self.aws.rds_token(host, port, self.options.get_username())).await?;
                Ok(self.options.clone().password(token.expose_secret()))
            }
            Credentials::Secret(arn) => {
                let known = self.with_secret().clone();
                if let Some(options) = known {
                    return Ok(options);
                }
                let secret = Box::pin(self.aws.database_secret(arn)).await?;
                let options = with_secret(&self.options, &secret)?;
                *self.with_secret() = Some(options.clone());
                Ok(options)
            }
        }
    }

    /// Whether there was a secret to forget.
    fn forget_secret(&self) -> bool {
        self.with_secret().take().is_some()
    }

    fn with_secret(&self) -> std::sync::MutexGuard<'_, Option<PgConnectOptions>> {
        self.with_secret.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to change the schema or a role. Settings are made in the transaction: poolers refuse them here.
pub(super) async fn connect_as_owner(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = options
        .clone()
        .application_name("people migrate")
        .extra_float_digits(None)
        .disable_statement_logging();
    let connecting = timeout(OWNER_CONNECT_TIMEOUT, options.connect());
    connecting
        .await
        .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))?
}

/// `options` with what a secret states in the place of theirs.
fn with_secret(options: &PgConnectOptions, secret: &DatabaseSecret) -> Result<PgConnectOptions, AwsError> {
    let mut options = options.clone();
    if let Some(url) = &secret.url {
        let stated = connect_options(url.expose_secret())
            .map_err(|problem| AwsError::new(format!("the secret of the database {problem}")))?;
        options = stated;
    }
    let DatabaseSecret {
        host,
        port,
        dbname,
        username,
        password,
        ..
    } = secret;
    if let Some(host) = host {
        options = trust_rds(options.host(host));
    }
    if let Some(port) = port {
        options = options.port(*port);
    }
    if let Some(dbname) = dbname {
        options = options.database(dbname);
    }
    if let Some(username) = username {
        options = options.username(username);
    }
    if let Some(password) = password {
        options = options.password(password.expose_secret());
    }
    Ok(options)
}
