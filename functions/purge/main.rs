//! The Lambda function `purge`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    functions::job::run(functions::purge::handle).await
}
