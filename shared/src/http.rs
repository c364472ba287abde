//! The boundary: from a gateway's request to a response, whatever happens in between.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lambda_http::http::{HeaderName, HeaderValue, StatusCode, header};
use lambda_http::lambda_runtime::Runtime;
use lambda_http::{Body, LambdaEvent, Request, Response, service_fn};
use serde::Serialize;
use tokio::sync::OnceCell;
use tracing::Instrument as _;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::{App, StartError};
use crate::body;
use crate::config::Environment;
use crate::database;
use crate::error::{Error, FieldError};
use crate::http_event::{Answer, Event, Gateway};
use crate::telemetry;

/// A request that takes longer than this is answered with 503 while the gateway still waits (it gives up after 30 s).
const DEADLINE: Duration = Duration::from_secs(10);

/// Headers of every response. A reply may have others of the same name instead.
pub static HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_TYPE, "application/json"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::STRICT_TRANSPORT_SECURITY,
        "max-age=63072000; includeSubDomains",
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// What a function serves: its route and its handler. `S` is what the handler needs: most need an [`App`].
pub struct Endpoint<S = App> {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path behind the gateway.
    pub path: &'static str,
    /// Headers of every response of this endpoint, besides those of all.
    pub headers: &'static [(&'static str, &'static str)],
    /// Answers a request at a time.
    pub handler: Handler<S>,
}

/// A handler: the instance's [`App`], the request, the current time.
pub type Handler<S = App> =
    for<'a> fn(&'a S, &'a Request, DateTime<Utc>) -> BoxFuture<'a, Result<Reply, Error>>;

/// What a handler answers.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    code: u32,
    body: Body,
    headers: Vec<(HeaderName, HeaderValue)>,
    error: Option<Error>,
}

#[derive(Serialize)]
struct Envelope<T> {
    code: u32,
    message: &'static str,
    data: T,
}

/// `data` of a 42201.
#[derive(Serialize, ToSchema)]
pub struct RefusedFields<'a> {
    /// Every refused field.
    errors: &'a [FieldError],
}

/// `data` of a 42901.
#[derive(Serialize, ToSchema)]
pub struct Pause {
    /// Whole seconds after which it may work again, as in the header `Retry-After`.
    #[schema(minimum = 1, example = 8)]
    retry_after: u32,
}

impl Reply {
    /// 200 with `data` in the envelope.
    ///
    /// # Errors
    /// [`Error::Defect`] when `data` cannot be written as JSON.
    pub fn success(data: impl Serialize) -> Result<Self, Error> {
        Self::json(
            StatusCode::OK,
            1,
            &Envelope {
                code: 1,
                message: "success",
                data,
            },
        )
    }

    /// `error` in the envelope, with `data`.
    ///
    /// # Errors
    /// [`Error::Defect`] when `data` cannot be written as JSON.
    pub fn failure(error: Error, data: impl Serialize) -> Result<Self, Error> {
        let envelope = Envelope {
            code: error.code(),
            message: error.message(),
            data,
        };
        Ok(Self::json(error.status(), error.code(), &envelope)?.caused_by(error))
    }

    /// `body` as it is, without the envelope. `code` is for the log.
    ///
    /// # Errors
    /// [`Error::Defect`] when it cannot be written as JSON.
    pub fn json(status: StatusCode, code: u32, body: &impl Serialize) -> Result<Self, Error> {
        let body =
            serde_json::to_string(body).map_err(|error| Error::Defect(format!("response: {error}")))?;
        Ok(Self {
            status,
            code,
            body: Body::Text(body),
            headers: Vec::new(),
            error: None,
        })
    }

    /// 200 with something else than JSON, as these headers say.
    #[must_use]
    pub fn file(body: Body, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self {
            status: StatusCode::OK,
            code: 1,
            body,
            headers,
            error: None,
        }
    }

    /// The body, and the headers that are this reply's own.
    #[must_use]
    pub fn body_and_headers(&self) -> (&Body, &[(HeaderName, HeaderValue)]) {
        (&self.body, &self.headers)
    }

    /// Notes the error that this reply tells of, for the log, and adds the headers that go with it.
    #[must_use]
    pub fn caused_by(mut self, error: Error) -> Self {
        self.headers.extend(match &error {
            Error::NoCredentials => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="people""#),
            )),
            Error::TokenNotLive => Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Bearer realm="people", error="invalid_token""#),
            )),
            Error::MethodNotAllowed { allow } => HeaderValue::from_str(allow)
                .ok()
                .map(|allow| (header::ALLOW, allow)),
            Error::TooManyAttempts { retry_after, .. } => {
                Some((header::RETRY_AFTER, HeaderValue::from(*retry_after)))
            }
            Error::Unavailable(_) => Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        });
        self.error = Some(error);
        self
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Data<'a> {
            Refused(RefusedFields<'a>),
            Later(Pause),
        }
        let data = match &error {
            Error::Refused(errors) => Some(Data::Refused(RefusedFields { errors })),
            Error::TooManyAttempts { retry_after, .. } => Some(Data::Later(Pause {
                retry_after: *retry_after,
            })),
            _ => None,
        };
        let envelope = Envelope {
            code: error.code(),
            message: error.message(),
            data,
        };
        // Strings and numbers only: there is nothing here that JSON cannot say.
        let body = serde_json::to_string(&envelope).unwrap_or_default();
        Self {
            status: error.status(),
            code: error.code(),
            body: Body::Text(body),
            headers: Vec::new(),
            error: None,
        }
        .caused_by(error)
    }
}

/// The source address of a request, as the gateway says; never a header, which anyone can write.
#[must_use]
pub fn source_address(request: &Request) -> Option<IpAddr> {
    Gateway::of(request).source_address
}

/// The gateway's id of a request, or one of our own.
fn request_id(request: &Request) -> String {
    let id = &Gateway::of(request).request_id;
    id.clone().unwrap_or_else(|| Uuid::new_v4().to_string())
}

/// Answers a request: every outcome, a panic included, becomes one of the contract's responses and one line of the log.
pub async fn serve<S>(state: &S, endpoint: &Endpoint<S>, request: Request) -> Response<Body> {
    boundary(endpoint, &request, handle(state, endpoint, &request)).await
}

/// Makes a response and a line of the log of whatever becomes of a request.
async fn boundary<S>(
    endpoint: &Endpoint<S>,
    request: &Request,
    outcome: impl Future<Output = Result<Reply, Error>>,
) -> Response<Body> {
    static WARM: AtomicBool = AtomicBool::new(false);
    let started = Instant::now();
    let request_id = request_id(request);
    let span = tracing::info_span!(
        "request",
        request_id,
        route = format_args!("{} {}", endpoint.method, endpoint.path),
        source_address = source_address(request).map(tracing::field::display),
        panic = tracing::field::Empty,
    );
    async {
        let reply = database::within(database::REQUEST_BUDGET, outcome).await;
        let reply = reply.unwrap_or_else(Reply::from);
        log(&reply, started.elapsed(), !WARM.swap(true, Ordering::Relaxed));
        respond(endpoint, &request_id, reply)
    }
    .instrument(span)
    .await
}

async fn handle<S>(state: &S, endpoint: &Endpoint<S>, request: &Request) -> Result<Reply, Error> {
    if Gateway::of(request).unreadable {
        return Err(Error::Defect("the event is no JSON object".to_owned()));
    }
    if body::bytes(request).len() > body::MAX_BYTES {
        return Err(Error::BodyTooLarge);
    }
    let answer = AssertUnwindSafe(async { (endpoint.handler)(state, request, now()).await }).catch_unwind();
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panic)) => Err(Error::Defect("panic".to_owned())),
        Err(_) => Err(Error::Unavailable("deadline passed".to_owned())),
    }
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

fn respond<S>(endpoint: &Endpoint<S>, request_id: &str, reply: Reply) -> Response<Body> {
    let mut response = plain_response(reply, request_id);
    for (name, value) in endpoint.headers {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// A response with the headers that all have.
fn plain_response(reply: Reply, request_id: &str) -> Response<Body> {
    let mut response = Response::new(reply.body);
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    for (name, value) in &HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(request_id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), request_id);
    }
    headers.extend(reply.headers.into_iter().map(|(name, value)| (Some(name), value)));
    response
}

/// Runs `endpoint` as a Lambda function until the service ends it. A setting that is missing or unusable ends the start.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run(endpoint: &'static Endpoint) -> Result<(), lambda_http::Error> {
    telemetry::init(telemetry::standard_output);
    let environment = &Environment::of_process();
    let instance = &OnceCell::new();
    let app = move || instance.get_or_try_init(|| Box::pin(App::load(environment.clone())));
    match app().await {
        Ok(_) => {}
        Err(error @ StartError::Config(_)) => {
            tracing::error!(%error, "cannot start");
            std::process::exit(1);
        }
        // A start that fails would be the gateway's bare 500. So it starts, and each request tries again or is a 503.
        Err(error @ StartError::Aws(_)) => tracing::error!(%error, "started without its secrets"),
    }
    // Before the first poll of the runtime: once it is polled and no event is waiting, the instance is frozen, and
    // what was begun beside the poll with it.
    if let Some(app) = instance.get() {
        app.database.connect_ahead().await;
    }
    answer_events(async |request| {
        let outcome = async { handle(app().await?, endpoint, &request).await };
        boundary(endpoint, &request, outcome).await
    })
    .await
}

/// Has `answer` answer the gateway's events, one at a time, until the service ends the instance.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub(crate) async fn answer_events(
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
            plain_response(reply, &Uuid::new_v4().to_string())
        })))
    }));
    runtime.run().await
}
