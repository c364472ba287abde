//! The Lambda function `outbox`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    functions::outbox::run().await
}
