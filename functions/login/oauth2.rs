//! `POST /auth/token`: the OAuth2 token endpoint for the resource owner password grant (RFC 6749 §4.3), for Swagger's
//! Authorize button and stock clients.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use lambda_http::Request;
use lambda_http::http::StatusCode;
use serde::Serialize;
use shared::app::App;
use shared::error::Error;
use shared::http::Reply;
use shared::http::body::{self, MediaType};
use shared::password::Password;
use shared::telemetry::LoginWay;
use shared::users::UserId;
use utoipa::ToSchema;

use super::LogIn;

/// Answers a form like `POST /auth/login`, and rejects other media types.
///
/// # Errors
/// 41501, 42901, 50001, 50301.
#[utoipa::path(
    post,
    path = "/auth/token",
    operation_id = "token",
    tag = "session",
    extensions(("x-codes" = json!([42901]))),
    summary = "Log in as an OAuth2 client",
    description = "The OAuth2 token endpoint for the resource owner password grant (RFC 6749 §4.3), with that standard's \
        answers. A form that a page of another origin sends is refused; such a page logs in with JSON.",
    request_body(content((LoginForm = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "The session is open.", content(
            (super::Grant = "application/x-www-form-urlencoded"),
        )),
        (status = 400, description = "The request is invalid, or userid or password is wrong.", content(
            (Refusal = "application/x-www-form-urlencoded"),
        )),
    ),
)]
pub async fn handle(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    match MediaType::of(request)? {
        MediaType::Form => answer(app, request, now).await,
        MediaType::Json => Err(Error::UnsupportedMediaType),
    }
}

/// Answers with the objects of RFC 6749: §5.1 on success, §5.2 for client errors.
///
/// # Errors
/// 42901, 50001, 50301.
pub(crate) async fn answer(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    // A form needs no preflight, so any page can make a browser send one.
    if app.origins.refuse(request) {
        let foreign = OAuth2Error(Code::InvalidRequest, "A page of another origin sent the form.");
        return refuse(foreign, Error::MalformedBody);
    }
    let parameters = match parse(body::bytes(request)) {
        Ok(parameters) => parameters,
        Err(error) => return refuse(error, Error::MalformedBody),
    };
    let attempt = LogIn::of(request, parameters.userid, parameters.password, LoginWay::Form);
    match super::log_in(app, attempt, now).await {
        Ok((_, token)) => Reply::json(StatusCode::OK, 1, &super::Grant::of(app, &token)),
        Err(error @ Error::WrongCredentials { .. }) => refuse(
            OAuth2Error(Code::InvalidGrant, "The username or the password is wrong."),
            error,
        ),
        Err(error @ Error::AccountDisabled { .. }) => {
            refuse(OAuth2Error(Code::InvalidGrant, "The account is disabled."), error)
        }
        Err(error) => Err(error),
    }
}

struct Parameters {
    userid: UserId,
    password: Password,
}

/// The error, and a fixed message for developers.
struct OAuth2Error(Code, &'static str);

/// The values of `error` (RFC 6749 §5.2).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OAuth2ErrorCode)]
enum Code {
    InvalidGrant,
    InvalidRequest,
    UnsupportedGrantType,
}

/// The parameters of the form, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other parameters are ignored. Empty parameters count as absent.")]
#[expect(dead_code, reason = "describes")]
pub(crate) struct LoginForm {
    grant_type: Option<GrantType>,
    /// The userid.
    #[schema(min_length = 1, example = "alice")]
    username: String,
    #[schema(min_length = 1, format = Password, example = "correct horse battery staple")]
    password: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes")]
enum GrantType {
    Password,
}

fn parse(form: &[u8]) -> Result<Parameters, OAuth2Error> {
    let form: HashMap<String, String> = body::form_parameters(form).map_err(|_| {
        OAuth2Error(
            Code::InvalidRequest,
            "The form is malformed or repeats a parameter.",
        )
    })?;
    if form
        .get("grant_type")
        .is_some_and(|grant_type| grant_type != "password")
    {
        return Err(OAuth2Error(
            Code::UnsupportedGrantType,
            "The grant_type must be password.",
        ));
    }
    let (Some(username), Some(password)) = (form.get("username"), form.get("password")) else {
        return Err(OAuth2Error(
            Code::InvalidRequest,
            "The username or the password is missing.",
        ));
    };
    let unusable = |_| {
        OAuth2Error(
            Code::InvalidRequest,
            "The username or the password has a NUL character.",
        )
    };
    Ok(Parameters {
        userid: super::parse_userid(username).map_err(unusable)?,
        password: Password::typed(password).map_err(unusable)?,
    })
}

#[derive(Serialize, ToSchema)]
#[schema(as = OAuth2Error)]
pub(crate) struct Refusal {
    error: Code,
    /// A short message for developers.
    #[schema(example = "The username or the password is wrong.")]
    error_description: &'static str,
}

fn refuse(OAuth2Error(error, error_description): OAuth2Error, cause: Error) -> Result<Reply, Error> {
    let body = Refusal {
        error,
        error_description,
    };
    Ok(Reply::json(StatusCode::BAD_REQUEST, cause.code(), &body)?.caused_by(cause))
}
