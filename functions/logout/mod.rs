//! `POST /auth/logout`: ends the session of the bearer token, which is revoked immediately, everywhere.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::auth::{Authenticator, not_live};
use shared::error::Error;
use shared::http::{Reply, Route};
use shared::sessions;
use shared::telemetry::SecurityEvent;
use utoipa::OpenApi;

/// The routes of the function.
pub static ROUTES: [Route<Authenticator>; 1] = [Route::of::<__path_handle>(|state, request, now| {
    Box::pin(handle(state, request, now))
})];

/// The OpenAPI description of the routes.
#[derive(OpenApi)]
#[openapi(paths(handle))]
pub(crate) struct Description;

/// Answers 200 without data. Of several log-outs with one token, exactly one succeeds.
///
/// # Errors
/// 40102, 40103, 50301.
#[utoipa::path(
    post,
    path = "/auth/logout",
    operation_id = "logout",
    tag = "session",
    summary = "Log out",
    description = "Ends the session of the bearer token, which is revoked immediately, everywhere. Other sessions continue.",
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The session has ended.")),
)]
pub async fn handle(state: &Authenticator, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let token = state.verified_token(request, now)?;
    let ended = state
        .database
        .write(&token, |connection, token| {
            Box::pin(sessions::end(connection, token))
        })
        .await?;
    if !ended {
        return Err(not_live(&token));
    }
    SecurityEvent::TokenRevoked {
        user_id: token.claims.sub,
    }
    .log();
    Reply::success(())
}
