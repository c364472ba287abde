//! `GET /auth/me`: tells who the bearer token belongs to.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::app::App;
use shared::error::Error;
use shared::http::{Endpoint, Reply};
use shared::users::User;
use shared::{auth, sessions};
use uuid::Uuid;

/// The route.
pub static ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/auth/me",
    headers: &[],
    statements: &[sessions::prepare_find_live_user],
    handler: |app, request, now| Box::pin(handle(app, request, now)),
};

#[derive(Serialize)]
struct Me {
    user_id: Uuid,
    user_info: User,
}

/// Answers 200 with `user_id` and `user_info`.
///
/// # Errors
/// 40102, 40103, 50301.
pub async fn handle(app: &App, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let user = auth::require_session(app, request, now).await?;
    Reply::success(Me {
        user_id: user.user_id,
        user_info: user,
    })
}
