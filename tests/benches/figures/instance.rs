//! One instance of a function, and the Lambda runtime API that it talks to.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use crate::binary;
use crate::harness::SECRET_KEY;

/// Longest that anything here takes; beyond it, something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an instance asks and tells, with the moment at which it did.
enum Call {
    Next,
    Response(Value),
}

/// The runtime API for one instance at a time.
pub struct RuntimeApi {
    address: SocketAddr,
    events: mpsc::UnboundedSender<String>,
    calls: mpsc::UnboundedReceiver<(Instant, Call)>,
}

struct Shared {
    events: Mutex<mpsc::UnboundedReceiver<String>>,
    calls: mpsc::UnboundedSender<(Instant, Call)>,
}

impl RuntimeApi {
    /// Listens on a free port.
    pub async fn listen() -> Self {
        let (event_sender, events) = mpsc::unbounded_channel();
        let (calls, call_receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            events: Mutex::new(events),
            calls,
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .with_state(shared);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            events: event_sender,
            calls: call_receiver,
        }
    }

    async fn call(&mut self) -> (Instant, Call) {
        tokio::time::timeout(PATIENCE, self.calls.recv())
            .await
            .expect("the function calls in time")
            .expect("the API is there")
    }

    /// Starts a function whose first event waits for it. The milliseconds from its start to its first poll, and to its
    /// first answer.
    pub async fn start(
        &mut self,
        name: &str,
        settings: &[(&str, &str)],
        event: &str,
    ) -> (Instance, f64, f64) {
        self.events.send(event.to_owned()).expect("the API is there");
        let started = Instant::now();
        let instance = self.spawn(name, settings);
        let polled = self.poll().await;
        let (answered, answer) = self.call().await;
        assert_answers(&answer);
        self.poll().await;
        (
            instance,
            milliseconds(started, polled),
            milliseconds(started, answered),
        )
    }

    /// Starts a function and waits until it asks for its first event, which it does not get.
    pub async fn start_idle(&mut self, name: &str, settings: &[(&str, &str)]) -> Instance {
        let instance = self.spawn(name, settings);
        self.poll().await;
        instance
    }

    /// Has the instance answer an event.
    pub async fn invoke(&mut self, event: &str) {
        self.events.send(event.to_owned()).expect("the API is there");
        let (_, answer) = self.call().await;
        assert_answers(&answer);
        self.poll().await;
    }

    async fn poll(&mut self) -> Instant {
        match self.call().await {
            (polled, Call::Next) => polled,
            (_, Call::Response(answer)) => panic!("an answer to nothing: {answer}"),
        }
    }

    fn spawn(&self, name: &str, settings: &[(&str, &str)]) -> Instance {
        let child = Command::new(binary(name))
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", self.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("SECRET_KEY", SECRET_KEY)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the function starts");
        Instance(child)
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let _ = shared.calls.send((Instant::now(), Call::Next));
    let event = shared.events.lock().await.recv().await.unwrap_or_default();
    let headers = [
        (
            "lambda-runtime-aws-request-id",
            "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
        ),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:eu-central-1:123456789012:function:people",
        ),
        ("content-type", "application/json"),
    ];
    (headers, event)
}

async fn response(State(shared): State<Arc<Shared>>, answer: String) -> StatusCode {
    let now = Instant::now();
    let answer = serde_json::from_str(&answer).unwrap_or_default();
    let _ = shared.calls.send((now, Call::Response(answer)));
    StatusCode::ACCEPTED
}

fn assert_answers(call: &Call) {
    match call {
        Call::Response(answer) => assert_eq!(answer["statusCode"], 200, "{answer}"),
        Call::Next => panic!("no answer"),
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1e3
}

/// A running function; killed at the end.
pub struct Instance(Child);

impl Instance {
    /// A line of `/proc/PID/status`, which is in KiB, in MiB: `VmRSS` is what it has in memory, `VmHWM` the most it had.
    pub fn memory(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("Linux");
        let kibibytes = status
            .lines()
            .find_map(|text| {
                text.strip_prefix(line)?
                    .strip_prefix(':')?
                    .trim()
                    .strip_suffix(" kB")
            })
            .and_then(|text| text.parse::<f64>().ok())
            .expect("a number of KiB");
        kibibytes / 1024.0
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An event of `tests/events`, with this token and userid.
pub fn event(name: &str, token: &str, userid: &str) -> String {
    let file = format!("{}/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(file).expect("an event");
    text.replace("TOKEN", token).replace("event-user", userid)
}
