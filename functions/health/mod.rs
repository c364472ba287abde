//! `GET /health`: tells within 2 s whether the service can serve.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::database::{Database, Readiness, Schema};
use shared::error::Error;
use shared::http::{Reply, Route};
use utoipa::{OpenApi, ToSchema};

/// The routes.
pub static ROUTES: [Route<Arc<Database>>; 1] = [Route::of::<__path_handle>(|state, request, now| {
    Box::pin(handle(state, request, now))
})];

/// What the routes say of themselves.
#[derive(OpenApi)]
#[openapi(paths(handle))]
pub(crate) struct Description;

#[derive(Serialize, ToSchema)]
struct Health {
    status: Status,
    database: DatabaseState,
    schema: SchemaState,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Unavailable,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DatabaseState {
    Up,
    Down,
}

/// The database's schema against what the code needs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SchemaState {
    Current,
    Behind,
    Unknown,
}

/// Answers 200 when requests can be served, 503 with the same members when not.
///
/// # Errors
/// None: it tells of them.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "service",
    summary = "Can the service serve?",
    description = "Answers within two seconds.",
    responses(
        (status = 200, description = "It can.", body = Health),
        (status = 503, description = "It cannot, and this is why.", body = Health,
            example = json!({ "status": "unavailable", "database": "down", "schema": "unknown" })),
    ),
)]
pub async fn handle(database: &Database, _request: &Request, _now: DateTime<Utc>) -> Result<Reply, Error> {
    let Readiness {
        database_up,
        schema,
        problem,
    } = database.readiness().await;
    let data = Health {
        status: if problem.is_none() {
            Status::Ok
        } else {
            Status::Unavailable
        },
        database: if database_up {
            DatabaseState::Up
        } else {
            DatabaseState::Down
        },
        schema: match schema {
            Schema::Current => SchemaState::Current,
            Schema::Behind => SchemaState::Behind,
            Schema::Unknown => SchemaState::Unknown,
        },
    };
    match problem {
        None => Reply::success(data),
        Some(problem) => Reply::failure(Error::Unavailable(problem), data),
    }
}
