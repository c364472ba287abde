//! The Lambda function `account`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::http::run(&functions::account::ROUTES).await
}
