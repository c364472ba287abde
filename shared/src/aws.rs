//! AWS: secrets in Secrets Manager, IAM tokens for RDS, and the set-up of the SDK. That is done only when a setting
//! needs it, since it costs milliseconds of a cold start.

use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
pub use aws_config::SdkConfig;
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::ProvideRegion as _;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use lambda_http::http::Request;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use tokio::sync::OnceCell;

use crate::config::{self, Environment};

/// Timeout of one call to AWS; an answer takes tens of milliseconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long RDS accepts an IAM token: the maximum, 15 minutes. It is used immediately.
const TOKEN_LIFETIME: Duration = Duration::from_mins(15);

/// Characters to escape in a signed query: all but the unreserved ones (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// AWS did not provide a secret or a token. Names it, never its value.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct AwsError(String);

impl AwsError {
    /// With a description of the problem.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// The contents of a database secret. RDS leaves some members out.
#[derive(Default, Deserialize)]
pub struct DatabaseSecret {
    /// Everything, in the form of `DATABASE_URL`.
    #[serde(skip)]
    pub url: Option<SecretString>,
    /// Host name.
    pub host: Option<String>,
    /// Port, a number or a string.
    #[serde(default, deserialize_with = "port")]
    pub port: Option<u16>,
    /// Name of the database.
    pub dbname: Option<String>,
    /// Role.
    pub username: Option<String>,
    /// The role's password.
    pub password: Option<SecretString>,
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Port {
        Number(u16),
        Text(String),
    }
    match Option::deserialize(deserializer)? {
        None => Ok(None),
        Some(Port::Number(port)) => Ok(Some(port)),
        Some(Port::Text(port)) => port.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// The SDK's configuration (region, credentials, endpoint) from the environment, loaded on first use.
#[derive(Default)]
pub struct Aws(OnceCell<SdkConfig>);

impl Aws {
    /// Reads a secret.
    ///
    /// # Errors
    /// When Secrets Manager cannot be reached, has no such secret or denies access to it.
    pub async fn secret(&self, arn: &str) -> Result<SecretString, AwsError> {
        let client = aws_sdk_secretsmanager::Client::new(self.config().await);
        let answer = client
            .get_secret_value()
            .secret_id(arn)
            .send()
            .await
            .map_err(|error| {
                let error = error.into_service_error();
                let kind = error.meta().code().unwrap_or("not reached").to_owned();
                AwsError(format!("Secrets Manager, {arn}: {kind}"))
            })?;
        answer
            .secret_string
            .map(SecretString::from)
            .ok_or_else(|| AwsError(format!("Secrets Manager, {arn}: the secret is not text")))
    }

    /// Reads the secret of a database: a URL, or the JSON object that RDS writes.
    ///
    /// # Errors
    /// Those of [`Aws::secret`], and when the secret is neither.
    pub async fn database_secret(&self, arn: &str) -> Result<DatabaseSecret, AwsError> {
        let secret = self.secret(arn).await?;
        let text = secret.expose_secret();
        if text.contains("://") && !text.trim_start().starts_with('{') {
            return Ok(DatabaseSecret {
                url: Some(secret),
                ..DatabaseSecret::default()
            });
        }
        // The parser's message could quote the secret.
        serde_json::from_str(text).map_err(|_| {
            AwsError(format!(
                "Secrets Manager, {arn}: neither a URL nor the JSON object of a database"
            ))
        })
    }

    /// Signs a token that RDS accepts as the password of `user`. Signed locally, without a call to AWS.
    ///
    /// # Errors
    /// When there are no credentials or no region.
    pub async fn rds_token(&self, host: &str, port: u16, user: &str) -> Result<SecretString, AwsError> {
        let config = self.config().await;
        let region = config
            .region()
            .ok_or_else(|| AwsError("RDS sign-in: no AWS region".to_owned()))?;
        let provider = config.credentials_provider().ok_or_else(no_credentials)?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|_| no_credentials())?;
        rds_token(&credentials, region.as_ref(), (host, port, user), signing_time())
    }

    async fn config(&self) -> &SdkConfig {
        self.0.get_or_init(|| sdk_config(CALL_TIMEOUT)).await
    }
}

/// Sets up the SDK from the environment: region, credentials, endpoint. `call_timeout` is that of a call with its
/// retries.
pub async fn sdk_config(call_timeout: Duration) -> SdkConfig {
    let https = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder().operation_timeout(call_timeout).build();
    // Not the SDK's default chain of sources: Lambda provides credentials and region in the environment, and the code
    // for other sources (profiles, roles, instance metadata) was a seventh of a function's size.
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(SharedCredentialsProvider::new(
            EnvironmentVariableCredentialsProvider::new(),
        ))
        .http_client(https)
        .timeout_config(timeouts);
    config.set_endpoint_url(config::aws_endpoint_url());
    config.build()
}

fn no_credentials() -> AwsError {
    AwsError("RDS sign-in: no AWS credentials".to_owned())
}

/// A signature is valid for some time by AWS's clock, so it is made with the system's.
#[expect(
    clippy::disallowed_methods,
    reason = "no request's `now` reaches here, see above"
)]
fn signing_time() -> SystemTime {
    SystemTime::now()
}

/// A presigned `GET https://host:port/?Action=connect&DBUser=user` of the service `rds-db`, without its scheme.
fn rds_token(
    credentials: &Credentials,
    region: &str,
    (host, port, user): (&str, u16, &str),
    now: SystemTime,
) -> Result<SecretString, AwsError> {
    let failed = |error: &dyn std::error::Error| AwsError(format!("RDS sign-in: {error}"));
    let user = utf8_percent_encode(user, RESERVED);
    let url = format!("https://{host}:{port}/?Action=connect&DBUser={user}");
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(TOKEN_LIFETIME);
    settings.signature_location = SignatureLocation::QueryParams;
    let identity = credentials.clone().into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let signable = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]));
    let signed =
        sign(signable.map_err(|error| failed(&error))?, &parameters).map_err(|error| failed(&error))?;
    let mut request = Request::get(&url).body(()).map_err(|error| failed(&error))?;
    signed.into_parts().0.apply_to_request_http1x(&mut request);
    Ok(request.uri().to_string().trim_start_matches("https://").into())
}

/// `environment` with `SECRET_KEY` and `SECRET_KEY_PREVIOUS` read from the secrets that `SECRET_KEY_ARN` and
/// `SECRET_KEY_PREVIOUS_ARN` name; without these no call is made. A previous key that cannot be read is left out: then
/// only the tokens that it signed are rejected.
///
/// # Errors
/// When the secret of `SECRET_KEY_ARN` cannot be read.
pub async fn with_secret_keys(environment: &Environment) -> Result<Environment, AwsError> {
    let aws = Aws::default();
    let secret = async |name, arn_name| match (environment.text(name), environment.text(arn_name)) {
        (None, Some(arn)) => aws.secret(arn).await.map(Some),
        _ => Ok(None),
    };
    let (current, previous) = tokio::join!(
        secret("SECRET_KEY", "SECRET_KEY_ARN"),
        secret("SECRET_KEY_PREVIOUS", "SECRET_KEY_PREVIOUS_ARN"),
    );
    let mut environment = environment.clone();
    if let Some(key) = current? {
        environment.set_default("SECRET_KEY", key.expose_secret());
    }
    match previous {
        Ok(Some(key)) if key.expose_secret().len() >= config::MIN_KEY_BYTES => {
            environment.set_default("SECRET_KEY_PREVIOUS", key.expose_secret());
        }
        Ok(None) => {}
        Ok(Some(_)) => tracing::error!(
            "the secret of SECRET_KEY_PREVIOUS_ARN is shorter than {} bytes: tokens that it signed are rejected",
            config::MIN_KEY_BYTES
        ),
        Err(error) => {
            tracing::error!(%error, "the previous key cannot be read: tokens that it signed are rejected");
        }
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rds_token_is_the_same_as_the_python_sdks() {
        // 2026-11-23T12:00:00Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(498_732);
        let place = ("people.abc123.eu-central-1.rds.amazonaws.com", 5432, "people_app");
        for (session_token, expected) in [
            (None, include_str!("../testdata/rds_token.txt")),
            (
                Some("session/token+with=signs".to_owned()),
                include_str!("../testdata/rds_token_of_session.txt"),
            ),
        ] {
            let credentials = Credentials::new(
                "AKIDEXAMPLE",
                "wJalrXUtnFEMI/K7MDENG",
                session_token,
                None,
                "test",
            );
            let token = rds_token(&credentials, "eu-central-1", place, now).unwrap();
            assert_eq!(sorted(token.expose_secret()), sorted(expected.trim_end()));
        }
    }

    /// The order of query parameters does not matter.
    fn sorted(token: &str) -> Vec<&str> {
        let mut parts: Vec<_> = token.split(['?', '&']).collect();
        parts.sort_unstable();
        parts
    }
}
