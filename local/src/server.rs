//! The part of the gateway in AWS: routes, CORS, 404 and 405, and the request context.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body as AxumBody, BodyDataStream};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, RawPathParams, Request as AxumRequest, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, header};
use axum::response::Response as AxumResponse;
use axum::routing::{MethodFilter, get, on};
use futures_util::StreamExt as _;
use lambda_http::{Body, Request, Response, Service as _};
use shared::app::App;
use shared::error::Error;
use shared::http::body::MAX_BYTES;
use shared::http::event::Gateway;
use shared::http::pages::Page;
use shared::http::{answer, resolve_source_address};
use tower_http::cors::CorsLayer;
use uuid::Uuid;

use crate::{example, origins};

/// Timeout for receiving a body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Maximum bytes of an oversized body to read and discard, so that the client gets to read the error.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

/// Every page: those of the function `docs`, and the example.
pub fn pages() -> impl Iterator<Item = &'static Page> {
    let functions = functions::all().into_iter().flat_map(|function| function.pages);
    functions.chain(&example::PAGES)
}

/// The router for all functions.
pub fn router(app: Arc<App>) -> Router {
    let origins = origins::allow(app.origins.clone());
    // As in template.yaml.
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            HeaderName::from_static("x-request-id"),
        ])
        .max_age(Duration::from_hours(2));
    let without_cors = routes(app);
    let with_cors = without_cors.clone().layer(cors);
    // Without this, the CORS layer would answer every OPTIONS request with 200, even one that is not a preflight.
    Router::new().fallback(move |request: AxumRequest| {
        let preflight = request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let mut router = match *request.method() {
            Method::OPTIONS if !preflight => without_cors.clone(),
            _ => with_cors.clone(),
        };
        async move { router.call(request).await }
    })
}

fn routes(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in functions::routes() {
        let serve = move |State(app): State<Arc<App>>,
                          parameters: Result<RawPathParams, RawPathParamsRejection>,
                          request: AxumRequest| async move {
            match with_body(request).await {
                Ok(mut request) => {
                    if let Some(gateway) = request.extensions_mut().get_mut::<Gateway>() {
                        // Without those that are not UTF-8, which no gateway's event can contain.
                        let parameters = parameters.iter().flatten();
                        gateway.path_parameters = parameters
                            .map(|(name, value)| (name.to_owned(), value.to_owned()))
                            .collect();
                    }
                    resolve_source_address(&app.trusted_proxy, &mut request);
                    response(route.serve(&app, request).await)
                }
                Err(parts) => refuse(route.key(), parts, Error::MalformedBody).await,
            }
        };
        router = router.route(route.path(), on(filter(route.method()), serve));
    }
    for page in pages() {
        let serve = move |request: AxumRequest| async move {
            match with_body(request).await {
                Ok(request) => response(page.serve(&request).await),
                Err(parts) => refuse(page.path, parts, Error::MalformedBody).await,
            }
        };
        router = router.route(page.path, get(serve));
    }
    router
        .fallback(|request: AxumRequest| refuse("*", request.into_parts().0, Error::NotFound))
        .method_not_allowed_fallback(|request: AxumRequest| {
            refuse("*", request.into_parts().0, Error::MethodNotAllowed)
        })
        .with_state(app)
}

fn filter(method: &str) -> MethodFilter {
    let method = Method::from_bytes(method.as_bytes()).ok();
    let filter = method.and_then(|method| MethodFilter::try_from(method).ok());
    filter.expect("axum has every method of utoipa")
}

/// Answers a request that does not reach a function. `route` is only logged.
async fn refuse(route: &str, parts: Parts, error: Error) -> AxumResponse {
    let request = with_gateway(Request::from_parts(parts, Body::Empty));
    response(answer(route, &[], &request, async { Err(error) }).await)
}

fn response(response: Response<Body>) -> AxumResponse {
    response.map(|body| match body {
        Body::Text(text) => AxumBody::from(text),
        Body::Binary(bytes) => AxumBody::from(bytes),
        _ => AxumBody::empty(),
    })
}

/// The request as the gateway would pass it on. Fails if the body does not arrive in time.
async fn with_body(request: AxumRequest) -> Result<Request, Parts> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_DEADLINE, read_body(body.into_data_stream())).await {
        Ok(Ok(body)) => Ok(with_gateway(Request::from_parts(parts, Body::Binary(body)))),
        Ok(Err(_)) | Err(_) => Err(parts),
    }
}

/// At most one byte more than a function accepts, so that it can tell. The rest is discarded up to a limit.
async fn read_body(mut stream: BodyDataStream) -> Result<Vec<u8>, axum::Error> {
    let mut body = Vec::new();
    let mut received = 0;
    while received <= MAX_DISCARDED_BYTES {
        let Some(chunk) = stream.next().await else {
            break;
        };
        let chunk = chunk?;
        received += chunk.len();
        let room = (MAX_BYTES + 1).saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(body)
}

/// Adds the metadata that API Gateway would add.
fn with_gateway(mut request: Request) -> Request {
    let source = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let gateway = Gateway {
        request_id: Some(Uuid::new_v4().to_string()),
        source_address: source.map(|ConnectInfo(address)| address.ip()),
        ..Gateway::default()
    };
    request.extensions_mut().insert(gateway);
    request
}
