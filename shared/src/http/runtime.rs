//! The Lambda runtime: takes events, hands them to the route that the gateway picked, and answers, whatever happens.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use lambda_http::request::LambdaRequest;
use lambda_http::{
    Adapter, Body, LambdaEvent, Request, Response, Service as _, lambda_runtime, service_fn,
};
use tokio::sync::OnceCell;
use tracing::Instrument as _;

use super::body;
use super::reply::Reply;
use super::request::{request_id, route_key, source_address};
use super::route::Route;
use crate::app::{StartError, State};
use crate::config::Environment;
use crate::error::Error;
use crate::telemetry;

/// A request that takes longer than this is answered with 503 while the gateway still waits (it gives up after 30 s).
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a function until the Lambda service ends it. A setting that is missing or unusable ends the start.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run<S: State>(routes: &'static [Route<S>]) -> Result<(), lambda_http::Error> {
    telemetry::init(telemetry::standard_output);
    let environment = &Environment::of_process();
    let instance = &OnceCell::new();
    let state = move || instance.get_or_try_init(|| Box::pin(S::load(environment)));
    match state().await {
        Ok(_) => {}
        Err(error @ StartError::Config(_)) => {
            tracing::error!(%error, "cannot start");
            std::process::exit(1);
        }
        // A start that fails would be the gateway's bare 500. So it starts, and each request tries again or is a 503.
        Err(error @ StartError::Aws(_)) => tracing::error!(%error, "started without its secrets"),
    }
    let mut adapter = Adapter::from(service_fn(move |request| async move {
        let response = match route_of(routes, &request) {
            Some(route) => {
                let outcome = async { handle(state().await?, route, &request).await };
                answer(route.key(), route.headers(), &request, outcome).await
            }
            None => answer("*", &[], &request, async { Err(Error::NotFound) }).await,
        };
        Ok::<_, Infallible>(response)
    }));
    // Before the first poll of the runtime: once it is polled and no event is waiting, the instance is frozen, and
    // what was begun beside the poll with it.
    if let Some(state) = instance.get() {
        state.database().connect_ahead().await;
    }
    lambda_runtime::run(service_fn(move |event: LambdaEvent<LambdaRequest>| {
        adapter.call(LambdaEvent::new(with_every_header(event.payload), event.context))
    }))
    .await
}

/// The route that the gateway picked. It sends a function nothing but requests to its routes, so the key matters only
/// where there are several.
fn route_of<S>(routes: &'static [Route<S>], request: &Request) -> Option<&'static Route<S>> {
    if let [only] = routes {
        return Some(only);
    }
    let key = route_key(request)?;
    routes.iter().find(|route| route.key() == key)
}

/// An event of a REST API lists every header, and the last one of each name a second time. `lambda_http` would let that
/// one replace the others, so that a second `Authorization` went unnoticed.
#[must_use]
pub fn with_every_header(mut event: LambdaRequest) -> LambdaRequest {
    if let LambdaRequest::ApiGatewayV1(event) = &mut event
        && !event.multi_value_headers.is_empty()
    {
        event.headers.clear();
    }
    event
}

/// Answers a request by the handler of its route: every outcome, a panic included, becomes one of the contract's
/// responses and one line of the log.
pub async fn serve<S>(state: &S, route: &Route<S>, request: Request) -> Response<Body> {
    let outcome = handle(state, route, &request);
    answer(route.key(), route.headers(), &request, outcome).await
}

async fn handle<S>(state: &S, route: &Route<S>, request: &Request) -> Result<Reply, Error> {
    if body::bytes(request).len() > body::MAX_BYTES {
        return Err(Error::BodyTooLarge);
    }
    let handler = route.handler();
    let answer = AssertUnwindSafe(async { handler(state, request, now()).await }).catch_unwind();
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panic)) => Err(Error::Defect("panic".to_owned())),
        Err(_) => Err(Error::Unavailable("deadline passed".to_owned())),
    }
}

/// Makes a response and a line of the log of whatever becomes of a request. `route` is for the log, so it is no path
/// that a client chose; `headers` are the route's own.
pub async fn answer(
    route: &str,
    headers: &[(&'static str, &'static str)],
    request: &Request,
    outcome: impl Future<Output = Result<Reply, Error>>,
) -> Response<Body> {
    static WARM: AtomicBool = AtomicBool::new(false);
    let started = Instant::now();
    let request_id = request_id(request);
    let span = tracing::info_span!(
        "request",
        request_id,
        route,
        source_address = source_address(request).map(tracing::field::display),
        panic = tracing::field::Empty,
    );
    async {
        let reply = outcome.await.unwrap_or_else(Reply::from);
        log(&reply, started.elapsed(), !WARM.swap(true, Ordering::Relaxed));
        reply.into_response(&request_id, headers)
    }
    .instrument(span)
    .await
}

/// The one reading of the clock.
#[expect(
    clippy::disallowed_methods,
    reason = "everything else takes the time as an argument"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}

fn log(reply: &Reply, took: Duration, cold: bool) {
    if let Some(event) = reply.error.as_ref().and_then(Error::security_event) {
        event.log();
    }
    let status = reply.status.as_u16();
    let code = reply.code;
    // Fractions of a millisecond matter: a warm `me` takes about one.
    let milliseconds = (took.as_secs_f64() * 1e6).round() / 1e3;
    let error = reply.error.as_ref().and_then(Error::detail);
    if reply.status.is_server_error() {
        tracing::error!(status, code, milliseconds, cold, error, "request");
    } else {
        tracing::info!(status, code, milliseconds, cold, "request");
    }
}
