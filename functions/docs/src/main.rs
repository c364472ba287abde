//! The Lambda function `docs`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::pages::run(&docs::PAGES).await
}
