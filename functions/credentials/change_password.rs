//! `POST /auth/password`: sets a new password, and ends the user's other sessions.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::app::App;
use shared::error::Error;
use shared::http::Reply;
use shared::http::body::Members;
use shared::password::Password;
use shared::telemetry::SecurityEvent;
use shared::users;
use utoipa::ToSchema;
use uuid::Uuid;

use super::own_password::Owner;

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other members are ignored.")]
#[expect(dead_code, reason = "describes")]
struct PasswordChange {
    /// The current password.
    #[schema(min_length = 1, format = Password, example = "correct horse battery staple")]
    current_password: String,
    /// The new password, by the rules for registration.
    #[schema(min_length = 8, max_length = 128, format = Password, example = "six candles under the bridge")]
    new_password: String,
}

/// Answers 200 without data.
///
/// # Errors
/// 40001, 40102, 40103, 40301, 41501, 42201, 42901, 50001, 50301.
#[utoipa::path(
    post,
    path = "/auth/password",
    operation_id = "changePassword",
    tag = "account",
    extensions(("x-codes" = json!([40301, 42901]))),
    summary = "Change my password",
    description = "Sets a new password. All other sessions of the user end, including one that is being opened with the old \
        password; the current session continues. A wrong current password counts as a failed log-in.",
    request_body = PasswordChange,
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The password has been changed.")),
)]
pub async fn handle(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let (current, new) = parse(request)?;
    let owner = Owner::verify(app, request, current, now, wrong).await?;
    let user = &owner.user;
    let context = [
        Some(user.userid.as_str()),
        Some(user.user_name.as_str()),
        user.email.as_deref(),
        user.phone.as_deref(),
    ];
    let new = match app.passwords.policy().check(&new, &context) {
        Ok(new) => new,
        Err(message) => return Err(owner.refuse(app, "new_password", message).await),
    };
    let hash = app.passwords.hash(new).await?;
    let outcome = app
        .database
        .write(&(&owner, hash), |connection, (owner, hash)| {
            Box::pin(users::set_password(
                connection,
                &owner.token,
                owner.password_version,
                hash,
                &owner.reservation,
            ))
        })
        .await?;
    owner.check(outcome)?;
    SecurityEvent::PasswordChange {
        user_id: owner.user.user_id,
    }
    .log();
    Reply::success(())
}

/// Only checks that both are present. The rules for a new password are checked after the attempt is counted.
fn parse(request: &Request) -> Result<(Password, String), Error> {
    let mut members = Members::of_json(request)?;
    let current = members.required("current_password", Password::typed);
    let new = members.required("new_password", |typed| Ok(typed.to_owned()));
    members.finish_with(current.zip(new))
}

fn wrong(user_id: Uuid) -> SecurityEvent {
    SecurityEvent::PasswordChangeFail {
        user_id: Some(user_id),
    }
}
