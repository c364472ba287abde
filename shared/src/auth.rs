//! Protected access: from a request to a live session.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lambda_http::Request;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::AUTHORIZATION;
use uuid::Uuid;

use crate::app::{App, Need, StartError, State};
use crate::attempts::{Attempt, Reservation};
use crate::aws;
use crate::config::{DatabaseConfig, Environment, TokenConfig};
use crate::database::Database;
use crate::error::Error;
use crate::http::event::Gateway;
use crate::sessions;
use crate::telemetry::{LoginWay, SecurityEvent};
use crate::token::{Keys, VerifiedToken};
use crate::users::{Credentials, User};

/// An invalid token, whose claims identify no user.
const NOT_OURS: Error = Error::TokenNotLive { user_id: None };

/// Identifies callers: the state of a function that needs a session and no password.
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
        self.user_of(&token).await
    }

    /// The user whose live session `token` belongs to.
    ///
    /// # Errors
    /// [`Error::TokenNotLive`], or [`Error::Unavailable`] when the database cannot tell.
    pub async fn user_of(&self, token: &VerifiedToken) -> Result<User, Error> {
        let session = self
            .database
            .read(token, |connection, token| {
                Box::pin(sessions::find_live(connection, token))
            })
            .await?
            .ok_or_else(|| not_live(token))?;
        if session.stale {
            self.note_seen(token).await;
        }
        Ok(session.user)
    }

    /// Notes that the session of `token` is used. That this fails, in a database that only reads, must not fail
    /// the request.
    pub async fn note_seen(&self, token: &VerifiedToken) {
        let noted = self.database.write(&token.claims.jti, |connection, session_id| {
            Box::pin(sessions::note_seen(connection, *session_id))
        });
        let _ = noted.await;
    }

    /// The request's bearer token, its signature and claims checked. Its session may be over.
    ///
    /// # Errors
    /// [`Error::NoCredentials`] or [`Error::TokenNotLive`].
    pub fn verified_token(&self, request: &Request, now: DateTime<Utc>) -> Result<VerifiedToken, Error> {
        verified_token(&self.keys, request.headers(), now)
    }
}

/// The bearer token in `headers`, its signature and claims checked with `keys`. Its session may be over.
///
/// # Errors
/// [`Error::NoCredentials`] or [`Error::TokenNotLive`].
pub fn verified_token(keys: &Keys, headers: &HeaderMap, now: DateTime<Utc>) -> Result<VerifiedToken, Error> {
    keys.verify(bearer(headers)?, now).map_err(|_| NOT_OURS)
}

/// The reservation of an attempt that may go on, and the user who is tried. `way` is that of a log-in.
///
/// # Errors
/// [`Error::TooManyAttempts`].
pub fn admitted(
    attempt: Attempt,
    way: Option<LoginWay>,
) -> Result<(Reservation, Option<Box<Credentials>>), Error> {
    match attempt {
        Attempt::Reserved(reservation, found) => Ok((reservation, found)),
        Attempt::TooMany { retry_after, user_id } => Err(Error::TooManyAttempts {
            retry_after,
            event: SecurityEvent::LoginFailMax { user_id, way },
        }),
        Attempt::Busy { user_id } => Err(Error::TooManyAttempts {
            retry_after: 1,
            event: SecurityEvent::TooManyLogins { user_id, way },
        }),
    }
}

/// The session of `token` is over.
#[must_use]
pub fn not_live(token: &VerifiedToken) -> Error {
    Error::TokenNotLive {
        user_id: Some(token.claims.sub),
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

/// Who is calling, as the authorizer tells a gateway and the gateway tells a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose session it is.
    pub user_id: Uuid,
    /// The session.
    pub session_id: Uuid,
    /// What the application lets the user do.
    pub roles: Vec<String>,
}

/// Who is calling, where the gateway's authorizer has let the request pass: for a function behind the authorizer, on an
/// HTTP API or a REST API. `None` where no authorizer was asked.
#[must_use]
pub fn caller(request: &Request) -> Option<Caller> {
    let context = &Gateway::of(request).authorizer;
    let value = |name| {
        let found = context.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    };
    let roles = value("roles").unwrap_or_default().split(',');
    Some(Caller {
        user_id: value("user_id")?.parse().ok()?,
        session_id: value("session_id")?.parse().ok()?,
        roles: roles.filter(|role| !role.is_empty()).map(str::to_owned).collect(),
    })
}

/// The bytes of a b64token (RFC 6750 §2.1) before its padding. A table, since a token has hundreds.
const IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    table
};

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
        return Err(NOT_OURS);
    }
    let Ok(value) = value.to_str() else {
        let bearer = value
            .as_bytes()
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"));
        return Err(if bearer { NOT_OURS } else { Error::NoCredentials });
    };
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") {
        // An HTTP API joins two headers with a comma.
        let second = value.split(',').skip(1).any(|part| {
            let scheme = part.trim_start().split(' ').next().unwrap_or_default();
            scheme.eq_ignore_ascii_case("bearer")
        });
        return Err(if second { NOT_OURS } else { Error::NoCredentials });
    }
    if token.is_empty() {
        return Err(Error::NoCredentials);
    }
    // Anything else than one b64token, a second credential after a comma included.
    let unpadded = token.trim_end_matches('=');
    if !unpadded.is_empty() && unpadded.bytes().all(|byte| IN_TOKEN[usize::from(byte)]) {
        Ok(token)
    } else {
        Err(NOT_OURS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::event;

    const USER: &str = "0b7e6c1a-2f4d-4a83-9c55-1d0f6a7b8c9d";
    const SESSION: &str = "5a0dea8a-2f4d-4a83-9c55-1d0f6a7b8c9d";

    fn of(authorizer: &str) -> Option<Caller> {
        caller(&event::request(&format!(
            r#"{{"requestContext":{{"authorizer":{authorizer}}}}}"#
        )))
    }

    #[test]
    fn a_function_behind_the_authorizer_knows_its_caller_on_an_http_api_and_on_a_rest_api() {
        let context =
            |roles: &str| format!(r#"{{"user_id":"{USER}","session_id":"{SESSION}","roles":"{roles}"}}"#);
        for (roles, expected) in [("", vec![]), ("admin", vec!["admin"]), ("a,b", vec!["a", "b"])] {
            let expected = Caller {
                user_id: USER.parse().unwrap(),
                session_id: SESSION.parse().unwrap(),
                roles: expected.into_iter().map(str::to_owned).collect(),
            };
            assert_eq!(of(&context(roles)), Some(expected.clone()));
            assert_eq!(of(&format!(r#"{{"lambda":{}}}"#, context(roles))), Some(expected));
        }
    }

    #[test]
    fn without_the_authorizer_there_is_no_caller() {
        for authorizer in [
            "null",
            "{}",
            r#"{"jwt":{"claims":{}}}"#,
            r#"{"lambda":null}"#,
            r#"{"user_id":"x","session_id":"y","roles":""}"#,
        ] {
            assert_eq!(of(authorizer), None, "{authorizer}");
        }
        // A client chooses the headers, the body and the query string.
        let sent = format!(r#"{{"user_id":"{USER}","session_id":"{SESSION}","roles":"admin"}}"#);
        let event = format!(
            r#"{{"authorizer":{sent},"headers":{{"authorizer":"x"}},"queryStringParameters":{sent}}}"#
        );
        assert_eq!(caller(&event::request(&event)), None);
    }
}
