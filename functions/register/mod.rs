//! `POST /user/register`: creates a user, without logging in.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::app::{self, App, Need, StartError};
use shared::attempts::{self, Count, Registration};
use shared::config::{DatabaseConfig, Environment, Limits, PasswordConfig};
use shared::database::Database;
use shared::error::Error;
use shared::http::body::Members;
use shared::http::{self, Reply, Route};
use shared::password::{Password, Passwords};
use shared::password_policy::PasswordPolicy;
use shared::telemetry::SecurityEvent;
use shared::users::{self, NewUser, User, UserId};
use utoipa::{OpenApi, ToSchema};

/// The routes of the function.
pub static ROUTES: [Route<State>; 1] = [Route::of::<__path_handle>(|state, request, now| {
    Box::pin(handle(state, request, now))
})];

/// The OpenAPI description of the routes.
#[derive(OpenApi)]
#[openapi(paths(handle))]
pub(crate) struct Description;

/// The state for a registration: no keys, since no session is opened.
pub struct State {
    database: Arc<Database>,
    passwords: Arc<Passwords>,
    limits: Limits,
}

impl app::State for State {
    const NEEDS: &'static [Need] = &[Need::Database, Need::Passwords];

    async fn load(environment: &Environment) -> Result<Self, StartError> {
        Ok(Self {
            database: Arc::new(Database::new(DatabaseConfig::from_environment(environment)?)),
            passwords: Arc::new(Passwords::new(&PasswordConfig::from_environment(environment)?)),
            limits: Limits::from_environment(environment)?,
        })
    }

    fn part_of(app: &App) -> Self {
        Self {
            database: app.database.clone(),
            passwords: app.passwords.clone(),
            limits: app.limits,
        }
    }

    fn database(&self) -> &Database {
        &self.database
    }
}

#[derive(Serialize, ToSchema)]
struct Registered {
    user_info: User,
}

/// The members of the body, for the OpenAPI description. [`parse`] takes them one by one, since it has to name all that
/// are rejected.
#[derive(ToSchema)]
#[schema(
    description = "Other members are ignored. Optional members may be null or empty; surrounding white space is removed."
)]
#[expect(dead_code, reason = "describes")]
struct RegisterBody {
    /// The name to log in with. Case and width do not matter: `Alice`, `ALICE` and `Ａlice` are one account. No white
    /// space, control or invisible characters, and no mixed scripts except Latin with Han, kana, Bopomofo or Hangul.
    #[schema(min_length = 1, max_length = 64, example = "alice")]
    userid: String,
    /// Any characters except NUL. Must not be a common password or a simple variation of one, nor easily guessed from
    /// userid, user name, e-mail, phone or the service's name. A deployment may require more than 8 characters.
    #[schema(min_length = 8, max_length = 128, format = Password, example = "correct horse battery staple")]
    password: String,
    /// The display name; by default the userid as typed. Needs a visible character, no control characters.
    #[schema(max_length = 64, example = "Alice")]
    user_name: Option<String>,
    /// No control characters.
    #[schema(max_length = 64, example = "DE")]
    country: Option<String>,
    /// No control characters.
    #[schema(max_length = 64, example = "engineer")]
    job: Option<String>,
    /// Digits, spaces and `+ ( ) - .`, also full-width.
    #[schema(max_length = 32, example = "+49 30 123456")]
    phone: Option<String>,
    /// An e-mail address.
    #[schema(
        max_length = 254,
        pattern = r"^(\s*[^\s@]+@[^\s@.]+(\.[^\s@.]+)+\s*)?$",
        example = "alice@example.com"
    )]
    email: Option<String>,
    /// The level of Chinese at the start. No control characters.
    #[schema(max_length = 32, example = "HSK 2")]
    init_cn_level: Option<String>,
}

/// Answers 200 with `user_info`.
///
/// # Errors
/// 40001, 40901, 41501, 42201, 42901, 50001, 50301.
#[utoipa::path(
    post,
    path = "/user/register",
    operation_id = "register",
    tag = "account",
    extensions(("x-codes" = json!([40901, 42901]))),
    summary = "Register",
    description = "Creates a user, but does not log in: that is a separate request.",
    request_body = RegisterBody,
    responses((status = 200, description = "The user has been registered.", body = Registered)),
)]
pub async fn handle(state: &State, request: &Request, _now: DateTime<Utc>) -> Result<Reply, Error> {
    let (user, password) = parse(request, state.passwords.policy())?;
    let count = Count::of_registrations(
        http::source_address(request),
        state.limits.registrations_per_address_per_hour,
    );
    let reserved = state
        .database
        .write(&(count, &user.userid), |connection, (count, userid)| {
            Box::pin(attempts::reserve_registration(connection, count.as_ref(), userid))
        })
        .await?;
    match reserved {
        Registration::Reserved => {}
        Registration::Taken => return Err(Error::UseridTaken),
        Registration::TooMany { retry_after } => {
            return Err(Error::TooManyAttempts {
                retry_after,
                event: SecurityEvent::TooManyRegistrations,
            });
        }
    }
    let hash = state.passwords.hash(password).await?;
    let user = state
        .database
        .write(&(user, hash), |connection, (user, hash)| {
            Box::pin(users::insert(connection, user, hash))
        })
        .await?
        .ok_or(Error::UseridTaken)?;
    SecurityEvent::UserCreated {
        user_id: user.user_id,
    }
    .log();
    Reply::success(Registered { user_info: user })
}

fn parse(request: &Request, policy: &PasswordPolicy) -> Result<(NewUser, Password), Error> {
    let mut members = Members::of_json(request)?;
    let typed = members.required("userid", |typed| {
        UserId::new(typed).map(|userid| (userid, typed.to_owned()))
    });
    let given_name = members.optional("user_name", users::user_name);
    let country = members.optional_text("country", users::country_or_job);
    let job = members.optional_text("job", users::country_or_job);
    let phone = members.optional_text("phone", users::phone);
    let email = members.optional("email", users::email);
    let init_cn_level = members.optional_text("init_cn_level", users::init_cn_level);
    let context = [
        typed.as_ref().map(|(userid, _)| userid.as_str()),
        given_name.as_deref(),
        email.as_deref(),
        phone.as_deref(),
    ];
    let password = members.required("password", |typed| policy.check(typed, &context));
    let ((userid, as_typed), password) = members.finish_with(typed.zip(password))?;
    // The typed form may be longer than the canonical one.
    let user_name = given_name
        .or_else(|| users::user_name(&as_typed).ok())
        .unwrap_or_else(|| userid.as_str().to_owned());
    Ok((
        NewUser {
            userid,
            user_name,
            country,
            job,
            phone,
            email,
            init_cn_level,
        },
        password,
    ))
}
