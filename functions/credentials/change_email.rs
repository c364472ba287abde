//! `POST /auth/email`: asks for a mail with a link that makes an address the user's.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::app::App;
use shared::error::Error;
use shared::http::Reply;
use shared::http::body::Members;
use shared::password::Password;
use shared::users;
use utoipa::ToSchema;

use super::own_password::{Owner, login_fail};

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other members are ignored.")]
#[expect(dead_code, reason = "describes")]
struct EmailChange {
    /// The address; the present one to verify it.
    #[schema(
        max_length = 254,
        pattern = r"^\s*[^\s@]+@[^\s@.]+(\.[^\s@.]+)+\s*$",
        example = "alice@example.com"
    )]
    email: String,
    /// The current password.
    #[schema(min_length = 1, format = Password, example = "correct horse battery staple")]
    current_password: String,
}

/// Answers 200 without data. Nothing changes until the link in the mail is followed.
///
/// # Errors
/// 40001, 40102, 40103, 40301, 40401, 41501, 42201, 42901, 50001, 50301.
#[utoipa::path(
    post,
    path = "/auth/email",
    operation_id = "changeEmail",
    tag = "account",
    extensions(("x-codes" = json!([40301, 42901]))),
    summary = "Verify or change my e-mail address",
    description = "Sends a mail with a link to that address. Nothing changes until the link is followed; it is valid for 24 \
        hours. A wrong current password counts as a failed log-in.",
    request_body = EmailChange,
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "A mail is sent.")),
)]
pub async fn handle(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    super::require_mail(app)?;
    let (email, current) = parse(request)?;
    let owner = Owner::verify(app, request, current, now, login_fail).await?;
    let email = match users::email(&email) {
        Ok(email) => email,
        Err(message) => return Err(owner.refuse(app, "email", message).await),
    };
    let outcome = app
        .database
        .write(&(&owner, email), |connection, (owner, email)| {
            Box::pin(users::ask_email(
                connection,
                &owner.token,
                owner.password_version,
                email,
                &owner.reservation,
            ))
        })
        .await?;
    owner.check(outcome)?;
    Reply::success(())
}

/// Only checks that both are present. The shape of the address is checked after the attempt is counted.
fn parse(request: &Request) -> Result<(String, Password), Error> {
    let mut members = Members::of_json(request)?;
    let email = members.required("email", |typed| Ok(typed.to_owned()));
    let current = members.required("current_password", Password::typed);
    members.finish_with(email.zip(current))
}
