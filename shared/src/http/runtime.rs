//! The Lambda runtime loop: passes each event to the route that the gateway matched, and responds whatever happens.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
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
use super::trusted_proxy::resolve_source_address;
use crate::app::{StartError, State};
use crate::config::{Environment, TrustedProxy};
use crate::database;
use crate::error::Error;
use crate::telemetry;

/// A request that takes longer is answered with 503 while the gateway still waits (its timeout is 30 s).
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a function until the instance is shut down. A missing or invalid setting stops startup.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run<S: State>(routes: &'static [Route<S>]) -> Result<(), lambda_http::Error> {
    let instance = Instance::<S>::start().await;
    let trusted_proxy =
        TrustedProxy::from_environment(&instance.environment).unwrap_or_else(|error| cannot_start(&error));
    answer_events(async |mut request| {
        resolve_source_address(&trusted_proxy, &mut request);
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

/// The published version that this instance runs, which Lambda sets.
static FUNCTION_VERSION: OnceLock<String> = OnceLock::new();

/// Logged with each failure, so that the alarms of a deployment count only the version that it introduces.
fn function_version() -> Option<&'static str> {
    FUNCTION_VERSION.get().map(String::as_str)
}

/// An instance of a function.
pub struct Instance<S> {
    environment: Environment,
    state: OnceCell<S>,
}

impl<S: State> Instance<S> {
    /// Sends logs to standard output, reads the settings and connects to the database. A missing or invalid setting
    /// ends the process.
    pub async fn start() -> Self {
        telemetry::init(telemetry::standard_output);
        let instance = Self {
            environment: Environment::of_process(),
            state: OnceCell::new(),
        };
        if let Some(version) = instance.environment.text("AWS_LAMBDA_FUNCTION_VERSION") {
            let _ = FUNCTION_VERSION.set(version.to_owned());
        }
        match instance.state().await {
            // Before the first poll of the runtime: once it is polled and no event is waiting, the instance is frozen,
            // with anything that still runs beside the poll.
            Ok(state) => {
                if let Err(error) = state.database().connect_ahead().await {
                    cannot_start(&error);
                }
            }
            Err(error @ StartError::Config(_)) => cannot_start(&error),
            // A failed startup would be a bare 500 from the gateway. So it starts, and each request retries or is a
            // 503.
            Err(error @ StartError::Aws(_)) => tracing::error!(%error, "started without its secrets"),
        }
        instance
    }

    /// The state of the function.
    ///
    /// # Errors
    /// While a secret cannot be read.
    pub async fn state(&self) -> Result<&S, StartError> {
        self.state
            .get_or_try_init(|| Box::pin(S::load(&self.environment)))
            .await
    }
}

/// Stops startup with an error that a retry would not fix.
pub fn cannot_start(error: &impl std::fmt::Display) -> ! {
    tracing::error!(%error, "cannot start");
    std::process::exit(1);
}

/// Answers the gateway's events with `answer`, one at a time, until the instance is shut down.
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
            // Not a panic of a handler, which is caught where its request is known.
            let reply = Reply::from(Error::Defect("panic".to_owned()));
            tracing::error!(
                status = 500,
                code = reply.code,
                error = "panic",
                version = function_version(),
                "request"
            );
            reply.into_response(&Uuid::new_v4().to_string(), &[])
        })))
    }));
    runtime.run().await
}

/// The route that the gateway matched. A function receives only requests for its own routes, so the key matters only if
/// it has several.
fn route_of<S>(routes: &'static [Route<S>], request: &Request) -> Option<&'static Route<S>> {
    if let [only] = routes {
        return Some(only);
    }
    let key = Gateway::of(request).route.as_deref()?;
    routes.iter().find(|route| route.key() == key)
}

/// Answers a request with the handler of its route: every outcome, including a panic, becomes a documented response and
/// one line in the log.
pub async fn serve<S>(state: &S, route: &Route<S>, request: Request) -> Response<Body> {
    let outcome = handle(state, route, &request);
    answer(route.key(), route.headers(), &request, outcome).await
}

async fn handle<S>(state: &S, route: &Route<S>, request: &Request) -> Result<Reply, Error> {
    check(request)?;
    route.handler()(state, request, now()).await
}

/// Checks that apply to every route.
pub(super) fn check(request: &Request) -> Result<(), Error> {
    if Gateway::of(request).unreadable {
        return Err(Error::Defect("the event is not a JSON object".to_owned()));
    }
    if body::bytes(request).len() > body::MAX_BYTES {
        return Err(Error::BodyTooLarge);
    }
    Ok(())
}

/// Turns the outcome of a request into a response and a line in the log. `route` is logged, so it must not be a path
/// chosen by a client; `headers` are added to the response.
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

/// Turns the outcome of a request, or a panic, into a reply and a line in the log, within the time that a request may
/// take.
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
        let outcome = AssertUnwindSafe(database::one_request(outcome)).catch_unwind();
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

/// The current time: the only place that reads the clock for a request.
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
        let version = function_version();
        tracing::error!(status, code, milliseconds, cold, error, version, "request");
    } else {
        tracing::info!(status, code, milliseconds, cold, "request");
    }
}
