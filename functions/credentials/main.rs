//! The Lambda function `credentials`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::http::run(&functions::credentials::ROUTES).await
}
