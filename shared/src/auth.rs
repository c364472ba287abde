//! Protected access: from a request to a live session.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lambda_http::Request;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::AUTHORIZATION;

use crate::app::{App, Need, StartError, State};
use crate::aws;
use crate::config::{DatabaseConfig, Environment, TokenConfig};
use crate::database::Database;
use crate::error::Error;
use crate::sessions;
use crate::token::{Keys, VerifiedToken};
use crate::users::User;

/// What tells who is calling: the state of a function that needs a session and no password.
pub struct Authenticator {
    /// The connections to PostgreSQL.
    pub database: Arc<Database>,
    /// Verifies access tokens.
    pub keys: Arc<Keys>,
}

impl Authenticator {
    /// The user whose live session the request's bearer token belongs to. What a protected route calls first.
    ///
    /// # Errors
    /// [`Error::NoCredentials`], [`Error::TokenNotLive`], or [`Error::Unavailable`] when the database cannot tell.
    pub async fn require_session(&self, request: &Request, now: DateTime<Utc>) -> Result<User, Error> {
        let token = self.verified_token(request, now)?;
        self.database
            .read(&token, |connection, token| {
                Box::pin(sessions::find_live_user(connection, token))
            })
            .await?
            .ok_or(Error::TokenNotLive)
    }

    /// The request's bearer token, its signature and claims checked. Its session may be over.
    ///
    /// # Errors
    /// [`Error::NoCredentials`] or [`Error::TokenNotLive`].
    pub fn verified_token(&self, request: &Request, now: DateTime<Utc>) -> Result<VerifiedToken, Error> {
        self.keys
            .verify(bearer(request.headers())?, now)
            .map_err(|_| Error::TokenNotLive)
    }
}

impl State for Authenticator {
    const NEEDS: &'static [Need] = &[Need::Database, Need::Keys];

    async fn load(environment: &Environment) -> Result<Self, StartError> {
        let database = DatabaseConfig::from_environment(environment)?;
        let tokens = TokenConfig::from_environment(&aws::with_secret_keys(environment).await?)?;
        Ok(Self {
            database: Arc::new(Database::new(database)),
            keys: Arc::new(Keys::new(&tokens)),
        })
    }

    fn part_of(app: &App) -> Self {
        Self {
            database: app.database.clone(),
            keys: app.keys.clone(),
        }
    }

    fn database(&self) -> &Database {
        &self.database
    }
}

/// The bearer token in the `Authorization` header (RFC 6750 §2.1), the only place where one is looked for.
///
/// # Errors
/// [`Error::NoCredentials`] without the header or with another scheme; [`Error::TokenNotLive`] when it is malformed or
/// there are two.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(Error::NoCredentials);
    };
    if values.next().is_some() {
        return Err(Error::TokenNotLive);
    }
    let Ok(value) = value.to_str() else {
        let bearer = value
            .as_bytes()
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"));
        return Err(if bearer {
            Error::TokenNotLive
        } else {
            Error::NoCredentials
        });
    };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") {
        // An HTTP API joins two headers with a comma.
        let second = value.split(',').skip(1).any(|part| {
            let scheme = part.trim_start().split(' ').next().unwrap_or_default();
            scheme.eq_ignore_ascii_case("bearer")
        });
        return Err(if second {
            Error::TokenNotLive
        } else {
            Error::NoCredentials
        });
    }
    if token.is_empty() {
        return Err(Error::NoCredentials);
    }
    // Anything else than one b64token, a second credential after a comma included.
    let unpadded = token.trim_end_matches('=');
    if !unpadded.is_empty()
        && unpadded
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
    {
        Ok(token)
    } else {
        Err(Error::TokenNotLive)
    }
}
