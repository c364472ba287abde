//! The Lambda function `login`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::http::run(&[&login::ENDPOINT, &login::TOKEN_ENDPOINT]).await
}
