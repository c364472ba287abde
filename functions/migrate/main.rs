//! The Lambda function `migrate`.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use shared::config::Environment;
use shared::telemetry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(telemetry::standard_output);
    lambda_runtime::run(service_fn(|_: LambdaEvent<Value>| async {
        functions::migrate::handle(&Environment::of_process())
            .await
            // As text: the runtime logs an error in Rust's notation.
            .map_err(|failure| Error::from(failure.to_string()))
    }))
    .await
}
