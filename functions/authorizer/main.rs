//! The Lambda function `authorizer`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    functions::authorizer::run().await
}
