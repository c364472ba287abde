//! `POST /auth/login`, `POST /auth/token`: exchange userid and password for an access token.

pub mod oauth2;

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::app::App;
use shared::attempts::{self, LoginCounts, Reservation};
use shared::auth::admitted;
use shared::error::Error;
use shared::http::body::{MediaType, Members};
use shared::http::{self, Reply, Route};
use shared::password::{Password, Verdict};
use shared::sessions::{self, NewSession, Rehash};
use shared::telemetry::{LoginWay, SecurityEvent};
use shared::token::AccessToken;
use shared::users::{Credentials, User, UserId};
use shared::validation::ValidationError;
use utoipa::{OpenApi, ToSchema};
use uuid::Uuid;

/// RFC 6749 §5.1 requires it besides `cache-control`.
const HEADERS: &[(&str, &str)] = &[("pragma", "no-cache")];

/// The routes of the function.
pub static ROUTES: [Route<App>; 2] = [
    Route::of::<__path_handle>(|state, request, now| Box::pin(handle(state, request, now)))
        .with_headers(HEADERS),
    Route::of::<oauth2::__path_handle>(|state, request, now| Box::pin(oauth2::handle(state, request, now)))
        .with_headers(HEADERS),
];

/// The OpenAPI description of the routes.
#[derive(OpenApi)]
#[openapi(paths(handle, oauth2::handle))]
pub(crate) struct Description;

/// The members of a successful response of an OAuth2 token endpoint (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
struct Grant<'a> {
    /// For the header `Authorization`, after `Bearer `.
    #[schema(example = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6IjEifQ.eyJzdWIiOiIxIn0.c2lnbmF0dXJl")]
    access_token: &'a str,
    #[schema(pattern = "^bearer$", example = "bearer")]
    token_type: &'static str,
    /// Seconds.
    #[schema(minimum = 60, example = 3600)]
    expires_in: i64,
}

impl<'a> Grant<'a> {
    fn of(app: &App, token: &'a AccessToken) -> Self {
        Self {
            access_token: token.expose(),
            token_type: "bearer",
            expires_in: app.keys.lifetime().num_seconds(),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct LoggedIn<'a> {
    #[serde(flatten)]
    grant: Grant<'a>,
    user_info: &'a User,
}

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other members are ignored.")]
#[expect(dead_code, reason = "describes")]
struct LoginBody {
    /// As registered; case and width do not matter.
    #[schema(min_length = 1, example = "alice")]
    userid: String,
    /// As registered.
    #[schema(min_length = 1, format = Password, example = "correct horse battery staple")]
    password: String,
}

/// Answers 200 with an access token and `user_info`. Also accepts a form, like the token endpoint, which is
/// undocumented: this was its path in the earlier back end.
///
/// # Errors
/// 40001, 40101, 40302, 41501, 42201, 42901, 50001, 50301.
#[utoipa::path(
    post,
    path = "/auth/login",
    operation_id = "login",
    tag = "session",
    extensions(("x-codes" = json!([40101, 40302, 42901]))),
    summary = "Log in",
    description = "Opens a session; earlier sessions continue.",
    request_body = LoginBody,
    responses((status = 200, description = "The session is open.", body = LoggedIn)),
)]
pub async fn handle(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    match MediaType::of(request)? {
        MediaType::Json => {
            let (userid, password) = parse(request)?;
            let attempt = LogIn::of(request, userid, password, LoginWay::Json);
            let (user, token) = log_in(app, attempt, now).await?;
            Reply::success(LoggedIn {
                grant: Grant::of(app, &token),
                user_info: &user,
            })
        }
        MediaType::Form => oauth2::answer(app, request, now).await,
    }
}

fn parse(request: &Request) -> Result<(UserId, Password), Error> {
    let mut members = Members::of_json(request)?;
    let userid = members.required("userid", parse_userid);
    let password = members.required("password", Password::typed);
    members.finish_with(userid.zip(password))
}

/// Rejects only what cannot be looked up, not what registration rejects: old userids may not satisfy its rules.
fn parse_userid(typed: &str) -> Result<UserId, ValidationError> {
    match typed {
        "" => Err(ValidationError::Empty),
        typed if typed.contains('\0') => Err(ValidationError::Nul),
        typed => Ok(UserId::canonical(typed)),
    }
}

/// A request to log in.
struct LogIn {
    userid: UserId,
    password: Password,
    source: Option<IpAddr>,
    user_agent: Option<String>,
    way: LoginWay,
}

impl LogIn {
    fn of(request: &Request, userid: UserId, password: Password, way: LoginWay) -> Self {
        Self {
            userid,
            password,
            source: http::source_address(request),
            user_agent: http::user_agent(request),
            way,
        }
    }
}

/// Verifies the password and opens a session. For an unknown userid, a wrong password and an account without a
/// password, work, round trips and response are the same.
async fn log_in(app: &App, attempt: LogIn, now: DateTime<Utc>) -> Result<(User, AccessToken), Error> {
    let LogIn {
        userid,
        password,
        source,
        user_agent,
        way,
    } = attempt;
    let turn = app.attempts.turn().await;
    let (reservation, found) = reserve(app, &userid, source, way).await?;
    let stored = found.as_ref().and_then(|found| found.password_hash.clone());
    let verdict = app
        .passwords
        .verify(password, stored.clone(), reservation.hash_kinds.clone())
        .await?;
    drop(turn);
    let user_id = found.as_ref().map(|found| found.user.user_id);
    let (Some(found), Some(old), Verdict::Right { replacement }) = (found, stored, verdict) else {
        app.attempts.note_failure(reservation);
        return Err(Error::WrongCredentials { user_id, way });
    };
    let Credentials {
        user,
        password_version,
        disabled,
        ..
    } = *found;
    let user_id = user.user_id;
    if disabled {
        app.attempts.note_failure(reservation);
        return Err(Error::AccountDisabled { user_id, way });
    }
    let failures = reservation.failures;
    let session_id = Uuid::new_v4();
    let token = app
        .keys
        .sign(session_id, user_id, &user.userid, now)
        .map_err(|error| Error::Defect(format!("signing: {error}")))?;
    let session = NewSession {
        session_id,
        user_id,
        token: token.digest(),
        lifetime: app.keys.lifetime(),
        max_idle: app.keys.max_idle(),
        password_version,
        user_agent,
        address: source,
    };
    let rehash = replacement.map(|new| Rehash { old, new });
    if !open_session(app, &session, &reservation, rehash).await? {
        // In the meantime the user was deleted or disabled, or the password was changed.
        return Err(Error::WrongCredentials { user_id: None, way });
    }
    SecurityEvent::LoginSuccess { user_id, way }.log();
    if failures > 0 {
        SecurityEvent::LoginSuccessAfterFail {
            user_id,
            way,
            failures,
        }
        .log();
    }
    Ok((user, token))
}

/// Counts the attempt and reads the user.
async fn reserve(
    app: &App,
    userid: &UserId,
    source: Option<IpAddr>,
    way: LoginWay,
) -> Result<(Reservation, Option<Box<Credentials>>), Error> {
    let counts = LoginCounts::new(userid, source, app.limits.failures_per_address);
    let counts = &counts;
    let attempt = app.attempts.reserve(counts, |failed| {
        Box::pin(async move {
            app.database
                .write(
                    &(counts, userid, failed),
                    |connection, (counts, userid, failed)| {
                        Box::pin(attempts::reserve_login(connection, counts, userid, failed))
                    },
                )
                .await
        })
    });
    admitted(attempt.await?, Some(way))
}

/// Writes the session and, in the same round trip, gives the attempt back and replaces an outdated hash. `false` if the
/// password is no longer valid.
async fn open_session(
    app: &App,
    session: &NewSession,
    reservation: &Reservation,
    rehash: Option<Rehash>,
) -> Result<bool, Error> {
    let write = async |rehash: Option<Rehash>| {
        app.database
            .write(
                &(session, reservation, rehash),
                |connection, (session, reservation, rehash)| {
                    Box::pin(sessions::open(connection, session, reservation, rehash.as_ref()))
                },
            )
            .await
    };
    let replaces = rehash.is_some();
    let mut opened = write(rehash).await;
    if opened.is_err() && replaces {
        // If the hash cannot be replaced, write only the session: the log-in must not fail. The session's id makes that
        // safe if the first statement did succeed.
        opened = write(None).await;
    }
    Ok(opened?)
}
