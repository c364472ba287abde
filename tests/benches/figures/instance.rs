//! An instance of a function, and the Lambda runtime API that it polls.

use std::fs;
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

use crate::harness::SECRET_KEY;
use crate::{binary, root};

/// Far more than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A call of the instance to the runtime API.
enum Call {
    Next,
    Response(Value),
}

/// A running function with its own runtime API; killed at the end.
pub struct Instance {
    process: Child,
    events: mpsc::UnboundedSender<String>,
    calls: mpsc::UnboundedReceiver<(Instant, Call)>,
}

struct RuntimeApi {
    events: Mutex<mpsc::UnboundedReceiver<String>>,
    calls: mpsc::UnboundedSender<(Instant, Call)>,
}

impl Instance {
    /// Starts a function with a waiting event. Also returns the milliseconds from exec to the first poll and to the
    /// first response.
    pub async fn start(name: &str, settings: &[(&str, &str)], event: &str) -> (Self, f64, f64) {
        let (mut instance, started) = Self::spawn(name, settings, Some(event)).await;
        let polled = instance.poll().await;
        let (answered, answer) = instance.answer().await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        instance.poll().await;
        (
            instance,
            milliseconds(started, polled),
            milliseconds(started, answered),
        )
    }

    /// Starts a function and waits for its first poll.
    pub async fn start_idle(name: &str, settings: &[(&str, &str)]) -> Self {
        let (mut instance, _) = Self::spawn(name, settings, None).await;
        instance.poll().await;
        instance
    }

    async fn spawn(name: &str, settings: &[(&str, &str)], event: Option<&str>) -> (Self, Instant) {
        let (events, event_receiver) = mpsc::unbounded_channel();
        let (call_sender, calls) = mpsc::unbounded_channel();
        if let Some(event) = event {
            events.send(event.to_owned()).expect("the receiver is there");
        }
        let api = RuntimeApi {
            events: Mutex::new(event_receiver),
            calls: call_sender,
        };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .with_state(Arc::new(api));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut command = Command::new(binary(name));
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("SECRET_KEY", SECRET_KEY)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let started = Instant::now();
        let process = command.spawn().expect("the function starts");
        let instance = Self {
            process,
            events,
            calls,
        };
        (instance, started)
    }

    /// Sends an event and waits for the response, which must be a success.
    pub async fn invoke(&mut self, event: &str) {
        let answer = self.ask(event).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }

    /// Sends an event and waits for the response.
    pub async fn ask(&mut self, event: &str) -> Value {
        self.exchange(event).await.1
    }

    /// As [`Instance::invoke`], with the milliseconds to the response.
    pub async fn timed(&mut self, event: &str) -> f64 {
        let (milliseconds, answer) = self.exchange(event).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        milliseconds
    }

    /// Sends an event. The milliseconds to the response, and the response.
    async fn exchange(&mut self, event: &str) -> (f64, Value) {
        let sent = Instant::now();
        self.events.send(event.to_owned()).expect("the API is there");
        let (answered, answer) = self.answer().await;
        self.poll().await;
        (milliseconds(sent, answered), answer)
    }

    /// Stops the process for a while, as Lambda does while no event is waiting.
    pub async fn freeze(&self, time: Duration) {
        self.signal("-STOP");
        tokio::time::sleep(time).await;
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the process is there"
        );
    }

    async fn poll(&mut self) -> Instant {
        match self.call().await {
            (polled, Call::Next) => polled,
            (_, Call::Response(answer)) => panic!("an answer to nothing: {answer}"),
        }
    }

    async fn answer(&mut self) -> (Instant, Value) {
        match self.call().await {
            (answered, Call::Response(answer)) => (answered, answer),
            (_, Call::Next) => panic!("no answer"),
        }
    }

    async fn call(&mut self) -> (Instant, Call) {
        tokio::time::timeout(TIMEOUT, self.calls.recv())
            .await
            .expect("the function calls in time")
            .expect("the API is there")
    }

    /// A line of `/proc/PID/status`, in MiB: `VmRSS` is the resident memory, `RssAnon` the part of it that is not from
    /// files, `VmHWM` the maximum.
    pub fn memory(&self, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("Linux");
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
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> impl IntoResponse {
    let _ = api.calls.send((Instant::now(), Call::Next));
    let event = api.events.lock().await.recv().await.unwrap_or_default();
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

async fn response(State(api): State<Arc<RuntimeApi>>, answer: String) -> StatusCode {
    let now = Instant::now();
    let answer = serde_json::from_str(&answer).unwrap_or_default();
    let _ = api.calls.send((now, Call::Response(answer)));
    StatusCode::ACCEPTED
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1e3
}

/// An event in `tests/events`, with this token and userid.
pub fn event(name: &str, token: &str, userid: &str) -> String {
    let file = root().join(format!("tests/events/{name}.json"));
    let text = fs::read_to_string(file).expect("an event");
    text.replace("TOKEN", token).replace("event-user", userid)
}
