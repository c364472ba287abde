//! A function as the Lambda service runs it: a process that is frozen while it waits for an event, with little CPU
//! time. The process is this test binary, running a function.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use functions::{authorizer, courier, logout, me};
use serde_json::{Value, json};
use shared::http;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use crate::harness::{Database, SECRET_KEY, Service};
use crate::proxy::{Link, Proxy};

/// Far more than anything here takes.
const BOUND: Duration = Duration::from_mins(1);

/// A deadline that no invocation reaches, in milliseconds since 1970.
pub const FAR: u64 = 9_999_999_999_999;

#[tokio::test]
#[ignore = "a process that the tests below start"]
async fn function() {
    match std::env::var("AWS_LAMBDA_FUNCTION_NAME").as_deref() {
        Ok("me") => http::run(&me::ROUTES).await.expect("it runs"),
        Ok("logout") => http::run(&logout::ROUTES).await.expect("it runs"),
        Ok("authorizer") => authorizer::run().await.expect("it runs"),
        Ok("courier") => courier::run().await.expect("it runs"),
        _ => {}
    }
}

/// The runtime API: returns events and receives responses.
struct RuntimeApi {
    polls: mpsc::UnboundedSender<()>,
    events: Mutex<mpsc::UnboundedReceiver<(Value, u64)>>,
    answers: mpsc::UnboundedSender<String>,
}

impl RuntimeApi {
    async fn next(State(api): State<Arc<Self>>) -> impl IntoResponse {
        let _ = api.polls.send(());
        let (event, deadline) = api.events.lock().await.recv().await.unwrap_or_default();
        let headers = [
            ("lambda-runtime-aws-request-id", "1".to_owned()),
            ("lambda-runtime-deadline-ms", deadline.to_string()),
            (
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:eu-central-1:1:function:f".to_owned(),
            ),
        ];
        (headers, event.to_string())
    }

    #[expect(clippy::unused_async, reason = "axum takes asynchronous handlers")]
    async fn answer(State(api): State<Arc<Self>>, answer: String) -> StatusCode {
        let _ = api.answers.send(answer);
        StatusCode::ACCEPTED
    }
}

/// An instance of a function.
pub struct Instance {
    process: Child,
    polls: mpsc::UnboundedReceiver<()>,
    events: mpsc::UnboundedSender<(Value, u64)>,
    answers: mpsc::UnboundedReceiver<String>,
}

impl Instance {
    /// Starts one on a database, with additional environment variables.
    async fn start(function: &str, database: &Database, variables: &[(&str, &str)]) -> Self {
        let own = [("DATABASE_URL", &*database.url), ("SECRET_KEY", SECRET_KEY)];
        Self::start_with(function, &[&own, variables].concat()).await
    }

    /// Starts one with these environment variables.
    pub async fn start_with(function: &str, variables: &[(&str, &str)]) -> Self {
        let (polls, polled) = mpsc::unbounded_channel();
        let (events, to_come) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let api = Arc::new(RuntimeApi {
            polls,
            events: Mutex::new(to_come),
            answers,
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(RuntimeApi::next))
            .route(
                "/2018-06-01/runtime/invocation/1/response",
                post(RuntimeApi::answer),
            )
            .route("/2018-06-01/runtime/invocation/1/error", post(RuntimeApi::answer))
            .with_state(api);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let process = tokio::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "instance::function", "--ignored", "--nocapture"])
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", &*address),
                ("AWS_LAMBDA_FUNCTION_NAME", function),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        Self {
            process,
            polls: polled,
            events,
            answers: answered,
        }
    }

    /// Waits until it polls for its next event.
    async fn polled(&mut self) {
        timeout(BOUND, self.polls.recv())
            .await
            .expect("in time")
            .expect("a poll");
    }

    pub fn signal(&self, signal: &str) {
        let process = self.process.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &process]).status();
        assert!(sent.expect("kill").success());
    }

    /// Sends an event, without waiting for the answer.
    pub fn send(&self, event: Value, deadline: u64) {
        self.events.send((event, deadline)).expect("it listens");
    }

    /// Sends an event. Returns the status of the response.
    async fn invoke(&mut self, event: Value) -> u64 {
        let answer = self.answer(event).await;
        answer["statusCode"].as_u64().expect("a status")
    }

    /// Hands it an event; its answer, or what it tells of its failure.
    pub async fn answer(&mut self, event: Value) -> Value {
        self.answer_by(event, FAR).await
    }

    /// Hands it an event, with a deadline in milliseconds since 1970.
    pub async fn answer_by(&mut self, event: Value, deadline: u64) -> Value {
        self.send(event, deadline);
        let answer = timeout(BOUND, self.answers.recv())
            .await
            .expect("in time")
            .expect("an answer");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Ends it; the lines that it has logged.
    pub async fn log(self) -> Vec<Value> {
        self.signal("-TERM");
        self.ended().await
    }

    /// Waits for its end; the lines that it has logged.
    pub async fn ended(mut self) -> Vec<Value> {
        let mut output = self.process.stdout.take().expect("a pipe");
        let mut text = String::new();
        let read = timeout(BOUND, output.read_to_string(&mut text)).await;
        read.expect("in time").expect("text");
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// An event with a bearer token for a function.
fn event(of: &str, token: &str) -> Value {
    let mut event: Value = match of {
        "me" => serde_json::from_str(include_str!("../events/me.json")),
        "authorizer" => serde_json::from_str(include_str!("../events/authorizer-http.json")),
        _ => serde_json::from_str(include_str!("../events/logout.json")),
    }
    .expect("JSON");
    event["headers"]["authorization"] = json!(format!("Bearer {token}"));
    event
}

/// A service with alice logged in, and a proxy in front of its database.
async fn service() -> (Service, String, Proxy) {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let proxy = Proxy::to(&service.database, Link::Up).await;
    (service, token, proxy)
}

#[tokio::test]
async fn an_instance_frozen_at_its_first_poll_already_has_its_connection() {
    let (service, token, proxy) = service().await;
    let mut instance = Instance::start("me", &proxy.of(&service.database), &[]).await;
    instance.polled().await;
    instance.signal("-STOP");
    assert_eq!(proxy.connections(), 1);
    // Longer than a connection is used without a ping.
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.round_trips();
    instance.send(event("me", &token), FAR);
    instance.signal("-CONT");
    let answer = timeout(BOUND, instance.answers.recv())
        .await
        .expect("in time")
        .expect("an answer");
    assert!(answer.contains("alice"), "{answer}");
    // No connecting is left, only a ping, and the statement in two parts.
    assert_eq!((proxy.connections(), proxy.round_trips()), (0, 3));
}

#[tokio::test]
async fn an_instance_whose_connection_died_while_it_was_frozen_answers_its_first_event() {
    let (service, token, proxy) = service().await;
    for silently in [true, false] {
        let mut instance = Instance::start("me", &proxy.of(&service.database), &[]).await;
        instance.polled().await;
        instance.signal("-STOP");
        proxy.connections();
        if silently {
            proxy.freeze_connections();
        } else {
            proxy.cut_connections();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        instance.signal("-CONT");
        assert_eq!(instance.invoke(event("me", &token)).await, 200);
        assert_eq!(proxy.connections(), 1);
    }
}

#[tokio::test]
async fn an_instance_with_little_cpu_time_writes_although_its_connection_was_just_closed() {
    let (service, token, _proxy) = service().await;
    let mut tokens = vec![token];
    for _ in 0..10 {
        tokens.push(
            service
                .log_in("alice", crate::harness::PASSWORD)
                .await
                .access_token(),
        );
    }
    let mut instance = Instance::start("logout", &service.database, &[]).await;
    instance.polled().await;
    assert_eq!(instance.invoke(event("logout", &tokens.remove(0))).await, 200);
    let process = instance.process.id().expect("it runs").to_string();
    // 4 ms of each 34, as with 256 MB.
    let script = "while kill -CONT $1; do sleep 0.004; kill -STOP $1; sleep 0.030; done 2>/dev/null";
    let mut throttle = tokio::process::Command::new("sh")
        .args(["-c", script, "sh", &process])
        .kill_on_drop(true)
        .spawn()
        .expect("sh");
    for token in tokens {
        service
            .database
            .execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        assert_eq!(instance.invoke(event("logout", &token)).await, 200);
    }
    throttle.kill().await.expect("it ends");
    instance.signal("-CONT");
}

#[tokio::test]
async fn the_variables_of_the_driver_have_no_effect() {
    let (service, token, _proxy) = service().await;
    let variables = [
        ("PGOPTIONS", "-c default_transaction_read_only=on"),
        ("PGSSLCERT", "/nowhere"),
        ("PGSSLROOTCERT", "/nowhere"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPORT", "1"),
        ("PGUSER", "nobody"),
        ("PGPASSWORD", "wrong"),
        ("PGDATABASE", "none"),
        ("PGAPPNAME", "another"),
    ];
    let mut instance = Instance::start("logout", &service.database, &variables).await;
    assert_eq!(instance.invoke(event("logout", &token)).await, 200);
}

#[tokio::test]
async fn an_authorizer_fails_the_invocation_in_one_line_and_decides_the_next() {
    let (service, token, proxy) = service().await;
    let mut instance = Instance::start("authorizer", &proxy.of(&service.database), &[]).await;
    let allowed = instance.answer(event("authorizer", &token)).await;
    assert_eq!(allowed["isAuthorized"], true);
    proxy.set(Link::Refusing);
    let failed = instance.answer(event("authorizer", &token)).await;
    let message = "The service is temporarily unavailable.";
    assert_eq!(
        (&failed["errorMessage"], &failed["isAuthorized"]),
        (&json!(message), &Value::Null)
    );
    proxy.set(Link::Up);
    service.log_out(&token).await;
    let denied = instance.answer(event("authorizer", &token)).await;
    assert_eq!(denied, json!({ "isAuthorized": false }));
    let log = instance.log().await;
    let statuses: Vec<_> = log.iter().filter_map(|line| line["status"].as_u64()).collect();
    assert_eq!(statuses, [200, 503, 401]);
    // Besides those, that a token was refused.
    assert_eq!(log.len(), 4, "{log:?}");
}
