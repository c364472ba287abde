//! The Lambda function `migrate`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    functions::job::run(functions::migrate::handle).await
}
