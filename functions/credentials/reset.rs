//! `POST /auth/reset`: sets a new password with the link of a mail, and ends all sessions of the user.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::app::App;
use shared::attempts::LoginCounts;
use shared::error::{Error, FieldError};
use shared::http::body::Members;
use shared::http::{self, Reply};
use shared::links::PasswordToken;
use shared::telemetry::SecurityEvent;
use shared::users::{self, UserId};
use utoipa::ToSchema;
use uuid::Uuid;

use super::link;

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other members are ignored.")]
#[expect(dead_code, reason = "describes")]
struct PasswordReset {
    /// The token of the link, from the fragment of its URL.
    #[schema(example = "C35sGi9NSoOcVR0PanuMnWsGo5BzMAhx9EwWjnyUneLHUOYM")]
    token: String,
    /// The new password, by the rules for registration.
    #[schema(min_length = 8, max_length = 128, format = Password, example = "six candles under the bridge")]
    new_password: String,
}

/// Answers 200 without data.
///
/// # Errors
/// 40001, 40401, 41001, 41501, 42201, 50001, 50301.
#[utoipa::path(
    post,
    path = "/auth/reset",
    operation_id = "resetPassword",
    tag = "account",
    extensions(("x-codes" = json!([41001]))),
    summary = "Set a new password with a link",
    description = "Sets the password of the account that the link was sent for, and ends all its sessions. The link works \
        once. It remains valid if the new password is rejected.",
    request_body = PasswordReset,
    responses((status = 200, description = "The password has been changed.")),
)]
pub async fn handle(app: &App, request: &Request, _now: DateTime<Utc>) -> Result<Reply, Error> {
    super::require_mail(app)?;
    let (token, new_password) = parse(request)?;
    let token = PasswordToken::parse(&token).map_err(|_| invalid(None))?;
    let account = link::account(app, token.user_id())
        .await?
        .ok_or_else(|| invalid(None))?;
    let user_id = account.state.user_id;
    token
        .verify(&app.links, &account.state, account.now)
        .map_err(|_| invalid(Some(user_id)))?;
    let context = [
        Some(account.userid.as_str()),
        Some(account.user_name.as_str()),
        account.state.email.as_deref(),
        account.phone.as_deref(),
    ];
    let new_password = app
        .passwords
        .policy()
        .check(&new_password, &context)
        .map_err(|message| {
            Error::Refused(vec![FieldError {
                field: "new_password",
                message,
            }])
        })?;
    let hash = app.passwords.hash(new_password).await?;
    let counts = LoginCounts::new(
        &UserId::canonical(&account.userid),
        http::source_address(request),
        app.limits.failures_per_address,
    );
    let done = app
        .database
        .write(
            &(account.state, hash, counts),
            |connection, (state, hash, counts)| {
                Box::pin(users::set_password_by_link(connection, state, hash, counts))
            },
        )
        .await?;
    if !done {
        return Err(invalid(Some(user_id)));
    }
    SecurityEvent::PasswordChange { user_id }.log();
    Reply::success(())
}

/// Only checks that both are present. The rules for a new password are checked after the link.
fn parse(request: &Request) -> Result<(String, String), Error> {
    let mut members = Members::of_json(request)?;
    let token = members.required("token", |token| Ok(token.to_owned()));
    let new_password = members.required("new_password", |typed| Ok(typed.to_owned()));
    members.finish_with(token.zip(new_password))
}

fn invalid(user_id: Option<Uuid>) -> Error {
    Error::InvalidLink(SecurityEvent::PasswordChangeFail { user_id })
}
