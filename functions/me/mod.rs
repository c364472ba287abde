//! `GET /auth/me`: returns the user of the bearer token.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::auth::Authenticator;
use shared::error::Error;
use shared::http::{Reply, Route};
use shared::users::User;
use utoipa::{OpenApi, ToSchema};
use uuid::Uuid;

/// The routes of the function.
pub static ROUTES: [Route<Authenticator>; 1] = [Route::of::<__path_handle>(|state, request, now| {
    Box::pin(handle(state, request, now))
})];

/// The OpenAPI description of the routes.
#[derive(OpenApi)]
#[openapi(paths(handle))]
pub(crate) struct Description;

#[derive(Serialize, ToSchema)]
struct Me {
    #[schema(example = "0b7e6c1a-2f4d-4a83-9c55-1d0f6a7b8c9d")]
    user_id: Uuid,
    user_info: User,
}

/// Answers 200 with `user_id` and `user_info`.
///
/// # Errors
/// 40102, 40103, 50301.
#[utoipa::path(
    get,
    path = "/auth/me",
    operation_id = "me",
    tag = "session",
    summary = "Who am I?",
    description = "Returns the user of the bearer token.",
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The token is live.", body = Me)),
)]
pub async fn handle(state: &Authenticator, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let user = state.require_session(request, now).await?;
    Reply::success(Me {
        user_id: user.user_id,
        user_info: user,
    })
}
