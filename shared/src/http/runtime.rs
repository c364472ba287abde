//! The Lambda runtime: takes events, hands them to the route that the gateway picked, and answers, whatever happens.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use lambda_http::lambda_runtime::Runtime;
use lambda_http::{Body, LambdaEvent, Request, Response, service_fn};
use tokio::sync::OnceCell;
use tracing::Instrument as _;
use uuid::Uuid;

use super::body;
use super::event::{Answer, Event, Gateway};
use super::reply::Reply;
use super::request::{request_id, source_address};
use super::route::Route;
use super::trusted_proxy::believe;
use crate::app::{StartError, State};
use crate::config::{Environment, TrustedProxy};
use crate::database;
use crate::error::Error;
use crate::telemetry;

/// A request that takes longer than this is answered with 503 while the gateway still waits (it gives up after 30 s).
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a function until the Lambda service ends it. A setting that is missing or unusable ends the start.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run<S: State>(routes: &'static [Route<S>]) -> Result<(), lambda_http::Error> {
    let instance = Instance::<S>::start().await;
    let trusted_proxy =
        TrustedProxy::from_environment(&instance.environment).unwrap_or_else(|error| cannot_start(&error));
    answer_events(async |mut request| {
        believe(&trusted_proxy, &mut request);
        if let Some(route) = route_of(routes, &request) {
            let outcome = async { handle(instance.state().await?, route, &request).await };
            answer(route.key(), route.headers(), &request, outcome).await
        } else {
            let outcome = async { check(&request).and(Err(Error::NotFound)) };
            answer("*", &[], &request, outcome).await
        }
    })
    .await
}

/// An instance of a function, as the Lambda service starts it.
pub struct Instance<S> {
    environment: Environment,
    state: OnceCell<S>,
}

impl<S: State> Instance<S> {
    /// Sends logs to standard output, reads the settings and connects to the database. A setting that is missing or unusable
    /// ends the process.
    pub async fn start() -> Self {
        telemetry::init(telemetry::standard_output);
        let instance = Self {
            environment: Environment::of_process(),
            state: OnceCell::new(),
        };
        match instance.state().await {
            // Before the first poll of the runtime: once it is polled and no event is waiting, the instance is frozen, and
            // what was begun beside the poll with it.
            Ok(state) => {
                if let Err(error) = state.database().connect_ahead().await {
                    cannot_start(&error);
                }
            }
            Err(error @ StartError::Config(_)) => cannot_start(&error),
            // A start that fails would be the gateway's bare 500. So it starts, and each request tries again or is a 503.
            Err(error @ StartError::Aws(_)) => tracing::error!(%error, "started without its secrets"),
        }
        instance
    }

    /// What the function keeps.
    ///
    /// # Errors
    /// While a secret cannot be had.
    pub async fn state(&self) -> Result<&S, StartError> {
        self.state
            .get_or_try_init(|| Box::pin(S::load(&self.environment)))
            .await
    }
}

/// Ends the start, which another try would end likewise.
fn cannot_start(error: &impl std::fmt::Display) -> ! {
    tracing::error!(%error, "cannot start");
    std::process::exit(1);
}

/// Has `answer` answer the gateway's events, one at a time, until the service ends the instance.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub(super) async fn answer_events(
    answer: impl AsyncFn(Request) -> Response<Body>,
) -> Result<(), lambda_http::Error> {
    let answer = &answer;
    // Not `lambda_http::run`, whose conversion of an event panics before there is a request to answer.
    let runtime = Runtime::new(service_fn(move |event: LambdaEvent<Event>| async move {
        let answer = async { answer(event.payload.into()).await };
        let response = AssertUnwindSafe(answer).catch_unwind().await;
        Ok::<_, Infallible>(Answer(response.unwrap_or_else(|_panic| {
            // Not a handler's, which is caught with its request at hand.
            let reply = Reply::from(Error::Defect("panic".to_owned()));
            tracing::error!(status = 500, code = reply.code, error = "panic", "request");
            reply.into_response(&Uuid::new_v4().to_string(), &[])
        })))
    }));
    runtime.run().await
}

/// The route that the gateway picked. It sends a function nothing but requests to its routes, so the key matters only
/// where there are several.
fn route_of<S>(routes: &'static [Route<S>], request: &Request) -> Option<&'static Route<S>> {
    if let [only] = routes {
        return Some(only);
    }
    let key = Gateway::of(request).route.as_deref()?;
    routes.iter().find(|route| route.key() == key)
}

/// Answers a request by the handler of its route: every outcome, a panic included, becomes one of the contract's
/// responses and one line of the log.
pub async fn serve<S>(state: &S, route: &Route<S>, request: Request) -> Response<Body> {
    let outcome = handle(state, route, &request);
    answer(route.key(), route.headers(), &request, outcome).await
}

async fn handle<S>(state: &S, route: &Route<S>, request: &Request) -> Result<Reply, Error> {
    check(request)?;
    route.handler()(state, request, now()).await
}

/// What is refused whatever the route.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    if Gateway::of(request).unreadable {
        return Err(Error::Defect("the event is no JSON object".to_owned()));
    }
    if body::bytes(request).len() > body::MAX_BYTES {
        return Err(Error::BodyTooLarge);
    }
    Ok(())
}

/// Makes a response and a line of the log of whatever becomes of a request. `route` is for the log, so it is no path
/// that a client chose; `headers` are the route's own.
pub async fn answer(
    route: &str,
    headers: &[(&'static str, &'static str)],
    request: &Request,
    outcome: impl Future<Output = Result<Reply, Error>>,
) -> Response<Body> {
    let request_id = request_id(request);
    let reply = observe(route, request, &request_id, outcome).await;
    reply.into_response(&request_id, headers)
}

/// Makes a reply and a line of the log of whatever becomes of a request, a panic included, within the time that a request
/// may take.
pub async fn observe(
    route: &str,
    request: &Request,
    request_id: &str,
    outcome: impl Future<Output = Result<Reply, Error>>,
) -> Reply {
    static WARM: AtomicBool = AtomicBool::new(false);
    let started = Instant::now();
    let span = tracing::info_span!(
        "request",
        request_id,
        route,
        source_address = source_address(request).map(tracing::field::display),
        panic = tracing::field::Empty,
    );
    async {
        let outcome = AssertUnwindSafe(database::within(database::REQUEST_BUDGET, outcome)).catch_unwind();
        let outcome = match tokio::time::timeout(DEADLINE, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(Error::Defect("panic".to_owned())),
            Err(_) => Err(Error::Unavailable("deadline passed".to_owned())),
        };
        let reply = outcome.unwrap_or_else(Reply::from);
        log(&reply, started.elapsed(), !WARM.swap(true, Ordering::Relaxed));
        reply
    }
    .instrument(span)
    .await
}

/// The one reading of the clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "everything else takes the time as an argument"
)]
pub fn now() -> DateTime<Utc> {
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
