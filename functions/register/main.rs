//! The Lambda function `register`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::http::run(&functions::register::ROUTES).await
}
