//! `GET /health`: tells within 2 s whether the service can serve.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::app::App;
use shared::database::{self, Readiness, Schema};
use shared::error::Error;
use shared::http::{Endpoint, Reply};

/// The route.
pub static ENDPOINT: Endpoint = Endpoint {
    method: "GET",
    path: "/health",
    headers: &[],
    statements: &[database::prepare_readiness],
    handler: |app, request, now| Box::pin(handle(app, request, now)),
};

#[derive(Serialize)]
struct Health {
    status: &'static str,
    database: &'static str,
    schema: &'static str,
}

/// Answers 200 when requests can be served, 503 with the same members when not.
///
/// # Errors
/// None: it tells of them.
pub async fn handle(app: &App, _request: &Request, _now: DateTime<Utc>) -> Result<Reply, Error> {
    let Readiness { database_up, schema } = app.database.readiness().await;
    let ready = database_up && schema == Schema::Current;
    let data = Health {
        status: if ready { "ok" } else { "unavailable" },
        database: if database_up { "up" } else { "down" },
        schema: match schema {
            Schema::Current => "current",
            Schema::Behind => "behind",
            Schema::Unknown => "unknown",
        },
    };
    if ready {
        Reply::success(data)
    } else {
        Reply::failure(Error::Unavailable("not ready".to_owned()), data)
    }
}
