//! Connecting: the current address and credentials, and the settings of a connection.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::error::Failure;
use super::{Connection, Database, DatabaseError};
use crate::aws::DatabaseSecret;
use crate::config::{ConfigError, Credentials, Pooler, Timeouts, connect_options, trust_rds};

/// Timeout for the connection of a migration, which is less urgent than a request.
const OWNER_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a job waits for the database: Aurora Serverless takes about 15 s to resume.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two connection attempts of a job.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// As the server's setting takes it.
pub(super) fn statement_timeout(timeouts: Timeouts) -> String {
    format!("{}ms", timeouts.statement.as_millis())
}

impl Database {
    /// Connects before the first request, within a short time, so that it need not. If the database cannot be reached,
    /// startup continues: the request will try again.
    ///
    /// # Errors
    /// When its secret was read but is invalid.
    pub async fn connect_ahead(&self) -> Result<(), ConfigError> {
        let connecting = async {
            // In `local`, requests may already be running.
            let _permit = self.permits.acquire().await;
            self.connect().await
        };
        match timeout(self.timeouts.connect_ahead, connecting).await {
            Ok(Ok(connection)) => self.keep(connection),
            Ok(Err(Failure::Config(error))) => return Err(error),
            Ok(Err(_)) | Err(_) => {}
        }
        Ok(())
    }

    /// Connects for a job, retrying for up to 30 s while the database resumes, restarts or has no free connection.
    ///
    /// # Errors
    /// When it cannot be reached in that time, or rejects us.
    pub async fn wait_until_reachable(&self) -> Result<(), DatabaseError> {
        let deadline = Instant::now() + RESUME_TIMEOUT;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    self.keep(connection);
                    return Ok(());
                }
                Err(failure) if failure.is_transient() && Instant::now() < deadline => {
                    sleep(RETRY_INTERVAL).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let inner = match self.connect_with(self.connect_options().await?).await {
            // The password may have been rotated: read the secret again, once.
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
            // Overrides the URL. Names are not looked up in schemas that others can write to.
            Pooler::None => options.options([
                ("statement_timeout", &*statement_timeout(self.timeouts)),
                ("search_path", "pg_catalog,pg_temp"),
                // A server that only reads refuses this, and so the connection (25001): after a failover the address
                // may still lead to the former primary, which knows neither the newest sessions nor which have ended.
                ("transaction_read_only", "off"),
            ]),
            // PgBouncer and RDS Proxy reject such options.
            Pooler::Transaction => options,
        };
        let connecting = timeout(self.timeouts.answer, options.connect()).await;
        Ok(connecting.map_err(|_| Failure::Timeout("a connection"))??)
    }

    /// The current address and credentials.
    pub(super) async fn connect_options(&self) -> Result<PgConnectOptions, Failure> {
        match &self.credentials {
            Credentials::Url => Ok(self.options.clone()),
            // Boxed, so that the SDK's large futures do not enlarge every other future.
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

    /// Forgets the secret. Returns whether there was one.
    fn forget_secret(&self) -> bool {
        self.with_secret().take().is_some()
    }

    fn with_secret(&self) -> std::sync::MutexGuard<'_, Option<PgConnectOptions>> {
        self.with_secret.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to change the schema or a role. Settings are made in the transaction, since poolers reject them here.
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

/// `options` overridden by the contents of a secret.
fn with_secret(options: &PgConnectOptions, secret: &DatabaseSecret) -> Result<PgConnectOptions, ConfigError> {
    const ARN: &str = "DATABASE_SECRET_ARN";
    let mut options = options.clone();
    if let Some(url) = &secret.url {
        let stated = connect_options(url.expose_secret())
            .map_err(|problem| ConfigError::new(ARN, format!("names a secret that {problem}")))?;
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
    if options.get_host().is_empty() && options.get_socket().is_none() {
        return Err(ConfigError::new(
            ARN,
            "names a secret without a host, so that DATABASE_URL has to name one",
        ));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseConfig, Environment};

    const ARN: (&str, &str) = (
        "DATABASE_SECRET_ARN",
        "arn:aws:secretsmanager:eu-central-1:1:secret:x",
    );

    fn host(settings: &[(&str, &str)], secret: &DatabaseSecret) -> Result<String, String> {
        let settings: Environment = settings.iter().copied().collect();
        let config = DatabaseConfig::from_environment(&settings).unwrap();
        with_secret(&config.options, secret)
            .map(|options| options.get_host().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_without_a_host_takes_it_from_the_url_and_never_defaults_to_this_machine() {
        let secret = DatabaseSecret {
            username: Some("people".to_owned()),
            ..DatabaseSecret::default()
        };
        assert_eq!(
            host(&[ARN], &secret).unwrap_err(),
            "DATABASE_SECRET_ARN names a secret without a host, so that DATABASE_URL has to name one"
        );
        let url = ("DATABASE_URL", "postgres://db.example/people");
        assert_eq!(host(&[ARN, url], &secret).unwrap(), "db.example");
        let secret = DatabaseSecret {
            host: Some("another.example".to_owned()),
            ..secret
        };
        assert_eq!(host(&[ARN], &secret).unwrap(), "another.example");
        assert_eq!(host(&[ARN, url], &secret).unwrap(), "another.example");
    }

    #[test]
    fn an_unusable_url_in_a_secret_is_not_shown() {
        let secret = DatabaseSecret {
            url: Some("postgres://u:1234/geheim@b/c".into()),
            ..DatabaseSecret::default()
        };
        assert_eq!(
            host(&[ARN], &secret).unwrap_err(),
            "DATABASE_SECRET_ARN names a secret that has an @ behind the host: in user and password write / as %2F, \
             ? as %3F, # as %23, @ as %40"
        );
    }
}
