//! `GET /health`: reports within 2 s whether requests can be served.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::database::{Database, Readiness, Schema};
use shared::error::Error;
use shared::http::{Reply, Route};
use utoipa::{OpenApi, ToSchema};

/// The routes of the function.
pub static ROUTES: [Route<Arc<Database>>; 1] = [Route::of::<__path_handle>(|state, request, now| {
    Box::pin(handle(state, request, now))
})];

/// The OpenAPI description of the routes.
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

/// The schema of the database, compared with the one that the code needs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SchemaState {
    Current,
    Behind,
    Unknown,
}

/// Answers 200 if requests can be served, else 503 with the same members.
///
/// # Errors
/// None: they are reported in the response.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "service",
    summary = "Is the service ready?",
    description = "Answers within two seconds.",
    responses(
        (status = 200, description = "Requests can be served.", body = Health),
        (status = 503, description = "Requests cannot be served, for these reasons.", body = Health,
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
