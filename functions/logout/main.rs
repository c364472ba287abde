//! The Lambda function `logout`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    shared::http::run(&functions::logout::ROUTES).await
}
