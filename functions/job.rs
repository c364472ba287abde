//! The runtime of functions that a schedule or a pipeline invokes: every event starts the same job, and if that fails, so
//! does the invocation.

use std::fmt::Display;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value;
use shared::config::Environment;
use shared::telemetry;

/// Runs `handle` for every event, with the settings of the process, until the instance is shut down.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run<T: Serialize, F: Display>(
    handle: impl AsyncFn(&Environment) -> Result<T, F>,
) -> Result<(), Error> {
    telemetry::init(telemetry::standard_output);
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| {
        let outcome = handle(&Environment::of_process()).await;
        outcome.map_err(|failure| {
            tracing::error!(error = %failure, "failed");
            failure.to_string()
        })
    }))
    .await
}
