//! `POST /user/delete`: deletes the user's own account.

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

use super::own_password::{Owner, login_fail};

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other members are ignored.")]
#[expect(dead_code, reason = "describes")]
struct Deletion {
    /// The current password.
    #[schema(min_length = 1, format = Password, example = "correct horse battery staple")]
    password: String,
}

/// Answers 200 without data.
///
/// # Errors
/// 40001, 40102, 40103, 40301, 41501, 42201, 42901, 50001, 50301.
#[utoipa::path(
    post,
    path = "/user/delete",
    operation_id = "deleteUser",
    tag = "account",
    extensions(("x-codes" = json!([40301, 42901]))),
    summary = "Delete my account",
    description = "Permanently deletes the user and all sessions. The userid becomes available again. A wrong password counts \
        as a failed log-in.",
    request_body = Deletion,
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The account has been deleted.")),
)]
pub async fn handle(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let password = parse(request)?;
    let owner = Owner::verify(app, request, password, now, login_fail).await?;
    let outcome = app
        .database
        .write(&owner, |connection, owner| {
            Box::pin(users::delete(
                connection,
                &owner.token,
                owner.password_version,
                &owner.reservation,
            ))
        })
        .await?;
    owner.check(outcome)?;
    SecurityEvent::UserDeleted {
        user_id: owner.user.user_id,
    }
    .log();
    Reply::success(())
}

fn parse(request: &Request) -> Result<Password, Error> {
    let mut members = Members::of_json(request)?;
    let password = members.required("password", Password::typed);
    members.finish_with(password)
}
