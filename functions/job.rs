//! The runtime of functions that a schedule or a pipeline invokes: every event starts the same job, and if that fails,
//! so does the invocation. Each writes one line at its end, `done` or `failed`, with the id of the invocation: the
//! pipeline, which does not wait for the answer of a long migration, finds the result by it.

use std::fmt::Display;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::{Value, json};
use shared::config::Environment;
use shared::telemetry;
use tracing::Instrument as _;

/// Runs `handle` for every event, with the settings of the process, until the instance is shut down.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run<T: Serialize, F: Display>(
    handle: impl AsyncFn(&Environment) -> Result<T, F>,
) -> Result<(), Error> {
    telemetry::init(telemetry::standard_output);
    let handle = &handle;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let environment = Environment::of_process();
        // Boxed like a handler: its future is large.
        logged(&event.context.request_id, Box::pin(handle(&environment))).await
    }))
    .await
}

/// Logs the result of a job.
///
/// # Errors
/// That of the job.
pub async fn logged<T: Serialize, F: Display>(
    request_id: &str,
    job: impl Future<Output = Result<T, F>>,
) -> Result<T, String> {
    let span = tracing::info_span!("invocation", request_id);
    match job.instrument(span.clone()).await {
        Ok(report) => {
            span.in_scope(|| tracing::info!(result = %json!(report), "done"));
            Ok(report)
        }
        Err(failure) => {
            span.in_scope(|| tracing::error!(error = %failure, "failed"));
            Err(failure.to_string())
        }
    }
}
