//! What the gateway does in AWS: routes, CORS, 404 and 405, and the request context.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body as AxumBody, BodyDataStream};
use axum::extract::{ConnectInfo, Request as AxumRequest, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response as AxumResponse;
use futures_util::StreamExt as _;
use lambda_http::{Body, Request};
use shared::app::App;
use shared::body::MAX_BYTES;
use shared::error::Error;
use shared::http::{Endpoint, serve};
use shared::http_event::Gateway;
use shared::pages::Page;
use tower_http::cors::{AllowOrigin, CorsLayer};
use uuid::Uuid;

use crate::example;

/// Longest that a client may take to send a body.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Most bytes of a body that are read and thrown away, so that a client that sends too much can read why.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

/// Every deployed function with a route.
pub static ENDPOINTS: [&Endpoint; 5] = [
    &register::ENDPOINT,
    &login::ENDPOINT,
    &logout::ENDPOINT,
    &me::ENDPOINT,
    &health::ENDPOINT,
];

/// Every page: those of the function `docs`, and the example.
pub fn pages() -> impl Iterator<Item = &'static Page> {
    docs::PAGES.iter().chain(&example::PAGES)
}

/// Who answers a request.
enum Target {
    Function(&'static Endpoint),
    Page(&'static Page),
}

static NOT_FOUND: Endpoint = refusing(|_, _, _| Box::pin(async { Err(Error::NotFound) }));

static METHOD_NOT_ALLOWED: Endpoint = refusing(|_, request, _| {
    let methods: Vec<_> = routes()
        .filter(|(_, path, _)| *path == request.uri().path())
        .map(|(method, ..)| method)
        .collect();
    let allow = methods.join(", ");
    Box::pin(async { Err(Error::MethodNotAllowed { allow }) })
});

static INCOMPLETE_BODY: Endpoint = refusing(|_, _, _| Box::pin(async { Err(Error::MalformedBody) }));

/// An endpoint for requests that reach none of the functions. The log gets no path of theirs: a client chose it.
const fn refusing(handler: shared::http::Handler) -> Endpoint {
    Endpoint {
        method: "*",
        path: "*",
        headers: &[],
        handler,
    }
}

/// The service that answers for all functions.
pub fn router(app: Arc<App>, allowed_origins: Vec<HeaderValue>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed_origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER, HeaderName::from_static("x-request-id")])
        .max_age(Duration::from_mins(10));
    Router::new()
        .fallback(dispatch)
        .layer(cors)
        .layer(middleware::from_fn_with_state(app.clone(), answer_plain_options))
        .with_state(app)
}

/// An OPTIONS request that is no CORS preflight is a method like any other. The CORS layer would answer it with 200.
async fn answer_plain_options(State(app): State<Arc<App>>, request: AxumRequest, next: Next) -> AxumResponse {
    let preflight = request
        .headers()
        .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() == Method::OPTIONS && !preflight {
        dispatch(State(app), request).await
    } else {
        next.run(request).await
    }
}

async fn dispatch(State(app): State<Arc<App>>, request: AxumRequest) -> AxumResponse {
    let source = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| *address);
    let (parts, body) = request.into_parts();
    let (target, body) = match route(&parts.method, parts.uri.path()) {
        Err(refusing) => (Target::Function(refusing), Vec::new()),
        Ok(target) => match tokio::time::timeout(BODY_DEADLINE, read_body(body.into_data_stream())).await {
            Ok(Ok(body)) => (target, body),
            Ok(Err(_)) | Err(_) => (Target::Function(&INCOMPLETE_BODY), Vec::new()),
        },
    };
    let mut request = Request::from_parts(parts, Body::Binary(body));
    request.extensions_mut().insert(gateway(source));
    let response = match target {
        Target::Function(endpoint) => serve(&*app, endpoint, request).await,
        Target::Page(page) => page.serve(request).await,
    };
    response.map(|body| match body {
        Body::Text(text) => AxumBody::from(text),
        Body::Binary(bytes) => AxumBody::from(bytes),
        _ => AxumBody::empty(),
    })
}

/// Method, path and who answers.
fn routes() -> impl Iterator<Item = (&'static str, &'static str, Target)> {
    let functions = ENDPOINTS
        .into_iter()
        .map(|endpoint| (endpoint.method, endpoint.path, Target::Function(endpoint)));
    functions.chain(pages().map(|page| ("GET", page.path, Target::Page(page))))
}

/// Who answers a request, or else the endpoint that refuses it.
fn route(method: &Method, path: &str) -> Result<Target, &'static Endpoint> {
    let mut on_path = routes().filter(|(_, on, _)| *on == path).peekable();
    let refusing = if on_path.peek().is_some() {
        &METHOD_NOT_ALLOWED
    } else {
        &NOT_FOUND
    };
    on_path
        .find(|(allowed, ..)| *allowed == method.as_str())
        .map(|(.., target)| target)
        .ok_or(refusing)
}

/// At most one byte more than a function takes, so that it can tell. The rest is thrown away up to a limit.
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

/// What API Gateway would say of this request.
fn gateway(source: Option<SocketAddr>) -> Gateway {
    Gateway {
        request_id: Some(Uuid::new_v4().to_string()),
        source_address: source.map(|address| address.ip()),
        ..Gateway::default()
    }
}
