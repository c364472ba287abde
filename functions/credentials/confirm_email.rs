//! `POST /auth/email/confirm`: makes the address that a link was sent to the user's, and verified.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::app::App;
use shared::error::Error;
use shared::http::Reply;
use shared::http::body::Members;
use shared::links::EmailToken;
use shared::telemetry::SecurityEvent;
use shared::users;
use utoipa::ToSchema;
use uuid::Uuid;

use super::link;

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other members are ignored.")]
#[expect(dead_code, reason = "describes")]
struct EmailConfirmation {
    /// The token of the link, from the fragment of its URL.
    #[schema(
        example = "C35sGi9NSoOcVR0PanuMnWsGo5D_jZgZ_A4SvwAAAABhbGljZUBleGFtcGxlLm9yZ3MwCHH0TBaOfJSd4sdQ5gw"
    )]
    token: String,
}

/// Answers 200 without data, also when repeated.
///
/// # Errors
/// 40001, 40401, 41001, 41501, 42201, 50001, 50301.
#[utoipa::path(
    post,
    path = "/auth/email/confirm",
    operation_id = "confirmEmail",
    tag = "account",
    extensions(("x-codes" = json!([41001]))),
    summary = "Confirm an e-mail address with a link",
    description = "The address that the link was sent to becomes the user's, and is verified. May be repeated until the \
        address or the password is changed again.",
    request_body = EmailConfirmation,
    responses((status = 200, description = "The address is verified.")),
)]
pub async fn handle(app: &App, request: &Request, _now: DateTime<Utc>) -> Result<Reply, Error> {
    super::require_mail(app)?;
    let token = parse(request)?;
    let token = EmailToken::parse(&token).map_err(|_| invalid(None))?;
    let account = link::account(app, token.user_id())
        .await?
        .ok_or_else(|| invalid(None))?;
    let user_id = account.state.user_id;
    token
        .verify(&app.links, &account.state, account.now)
        .map_err(|_| invalid(Some(user_id)))?;
    let changed = app
        .database
        .write(&(account.state, token), |connection, (state, token)| {
            Box::pin(users::confirm_email(
                connection,
                state,
                token.address(),
                token.email_version(),
            ))
        })
        .await?
        .ok_or_else(|| invalid(Some(user_id)))?;
    if changed {
        SecurityEvent::UserUpdated { user_id }.log();
    }
    Reply::success(())
}

fn parse(request: &Request) -> Result<String, Error> {
    let mut members = Members::of_json(request)?;
    let token = members.required("token", |token| Ok(token.to_owned()));
    members.finish_with(token)
}

fn invalid(user_id: Option<Uuid>) -> Error {
    Error::InvalidLink(SecurityEvent::LinkRefused { user_id })
}
