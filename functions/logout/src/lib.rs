//! `POST /auth/logout`: ends the session of the bearer token, which is dead at once, everywhere.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::app::App;
use shared::error::Error;
use shared::http::{Endpoint, Reply};
use shared::telemetry::SecurityEvent;
use shared::{auth, sessions};

/// The route.
pub static ENDPOINT: Endpoint = Endpoint {
    method: "POST",
    path: "/auth/logout",
    headers: &[],
    handler: |app, request, now| Box::pin(handle(app, request, now)),
};

/// Answers 200 without data. Of several log-outs of one token one succeeds.
///
/// # Errors
/// 40102, 40103, 50301.
#[utoipa::path(
    post,
    path = "/auth/logout",
    operation_id = "logout",
    tag = "session",
    summary = "Log out",
    description = "Ends the session of the bearer token, which is dead at once, everywhere. Other sessions stay.",
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The session has ended.")),
)]
pub async fn handle(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let token = auth::verified_token(app, request, now)?;
    let ended = app
        .database
        .write(&token, |connection, token| {
            Box::pin(sessions::end(connection, token))
        })
        .await?;
    if !ended {
        return Err(Error::TokenNotLive);
    }
    SecurityEvent::TokenRevoked {
        user_id: token.claims.sub,
    }
    .log();
    Reply::success(())
}
