//! A function behind the authorizer, on an HTTP API or a REST API: says who is calling.

use lambda_http::{Body, Error, Request, RequestExt as _, Response, run, service_fn};
use serde_json::json;

/// Whose session it is; `None` where no authorizer was asked.
fn user_id(request: &Request) -> Option<&str> {
    let authorizer = request.request_context_ref()?.authorizer()?;
    authorizer.fields.get("user_id")?.as_str()
}

pub async fn handle(request: Request) -> Result<Response<Body>, Error> {
    let body = json!({ "user_id": user_id(&request).ok_or("no authorizer")? });
    Ok(Response::new(body.to_string().into()))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    run(service_fn(handle)).await
}
