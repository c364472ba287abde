//! The function `courier`, as the Lambda service runs it: with an answer of `outbox`, wrapped as for a destination, and
//! AWS at another address. Once that is `moto_server` (Python's `moto[server]`), which has to be on PATH; for faults it
//! is a server that answers as the test says.

use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::instance::{FAR, Instance};

/// What the Lambda service makes of an answer of `outbox`.
fn delivery(mails: &[&str], events: &[&str]) -> Value {
    let mail = |to: &&str| json!({ "to": to, "subject": "Reset your password", "text": LINK });
    let event = |user_id: &&str| json!({ "type": "user_deleted", "detail": { "user_id": user_id } });
    let arn = "arn:aws:lambda:eu-central-1:123456789012:function:people-outbox:live";
    json!({
        "version": "1.0",
        "timestamp": "2026-11-26T03:00:00.000Z",
        "requestContext": { "requestId": "1", "functionArn": arn, "condition": "Success", "approximateInvokeCount": 1 },
        "requestPayload": { "source": "aws.events" },
        "responseContext": { "statusCode": 200, "executedVersion": "7" },
        "responsePayload": {
            "mails": mails.iter().map(mail).collect::<Vec<_>>(),
            "events": events.iter().map(event).collect::<Vec<_>>(),
        },
    })
}

/// In every mail. Must not be in a log.
const LINK: &str = "爱丽丝: https://app.example.com/reset#token=secret-link\n";

fn report(sent: u32, dropped: u32, events: u32) -> Value {
    json!({ "sent": sent, "dropped": dropped, "events": events })
}

/// What `courier` writes of an invocation.
fn line(sent: u32, dropped: u32, events: u32, left: u32, error: Option<&str>) -> Value {
    let mut line =
        json!({ "message": "courier", "sent": sent, "dropped": dropped, "events": events, "left": left });
    line["level"] = json!(if error.is_some() { "ERROR" } else { "INFO" });
    if let Some(error) = error {
        line["error"] = json!(error);
    }
    line
}

/// What `courier` writes of a mail that it gives up.
fn dropped(reason: &str) -> Value {
    json!({ "level": "ERROR", "message": "mail dropped", "error": reason })
}

/// Starts the function, with AWS at this address.
async fn courier(endpoint: &str, sender: &str) -> Instance {
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("EVENT_BUS", "people-test"),
        ("MAIL_FROM", sender),
    ];
    Instance::start_with("courier", &variables).await
}

/// Ends it. The lines of its log, without times and the id of the invocation.
async fn log(courier: Instance) -> Vec<Value> {
    let mut lines = courier.log().await;
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        line.remove("timestamp");
        let span = line.remove("span").expect("of the invocation");
        assert_eq!(span["requestId"], "1");
    }
    let text = json!(lines).to_string();
    for private in ["@", "secret-link", "Reset"] {
        assert!(!text.contains(private), "{text}");
    }
    lines
}

const SENDER: &str = "People <people@example.com>";

/// Calls of SES and EventBridge, and the answers to them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Ses,
    EventBridge,
}

/// An answer to one call.
#[derive(Clone)]
enum Answer {
    Accepted,
    Failed(u16, &'static str, &'static str),
    /// Of EventBridge: it refuses the entries at these positions.
    Except(&'static [usize]),
    Never,
}

/// AWS, as a test needs it.
#[derive(Clone)]
struct Aws {
    endpoint: String,
    /// For the next calls. When there are no more: the last one.
    answers: Arc<Mutex<[VecDeque<Answer>; 2]>>,
    calls: Arc<Mutex<Vec<(Service, Value)>>>,
}

impl Aws {
    async fn start(ses: &[Answer], event_bridge: &[Answer]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let aws = Self {
            endpoint: format!("http://{}", listener.local_addr().expect("an address")),
            answers: Arc::new(Mutex::new(
                [ses, event_bridge].map(|answers| answers.iter().cloned().collect()),
            )),
            calls: Arc::default(),
        };
        let router = Router::new().fallback(Self::call).with_state(aws.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        aws
    }

    async fn call(State(aws): State<Self>, headers: HeaderMap, body: Bytes) -> Response {
        let target = headers
            .get("x-amz-target")
            .map(|target| target.to_str().expect("text"));
        let service = match target {
            None => Service::Ses,
            Some("AWSEvents.PutEvents") => Service::EventBridge,
            Some(other) => panic!("{other}"),
        };
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let entries = body["Entries"].as_array().map_or(0, Vec::len);
        aws.calls.lock().expect("no panic").push((service, body));
        let answer = {
            let mut answers = aws.answers.lock().expect("no panic");
            let answers = &mut answers[usize::from(service == Service::EventBridge)];
            let next = answers.front().cloned().unwrap_or(Answer::Accepted);
            if answers.len() > 1 {
                answers.pop_front();
            }
            next
        };
        let put = |refused: &[usize]| {
            let entry = |at| {
                if refused.contains(&at) {
                    json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "slow down" })
                } else {
                    json!({ "EventId": at.to_string() })
                }
            };
            json!({ "FailedEntryCount": refused.len(), "Entries": (0..entries).map(entry).collect::<Vec<_>>() })
        };
        match answer {
            Answer::Accepted if service == Service::Ses => {
                json!({ "MessageId": "1" }).to_string().into_response()
            }
            Answer::Accepted => put(&[]).to_string().into_response(),
            Answer::Except(refused) => put(refused).to_string().into_response(),
            Answer::Failed(status, code, message) => {
                let status = StatusCode::from_u16(status).expect("a status");
                let body = json!({ "message": message }).to_string();
                (status, [("x-amzn-errortype", code)], body).into_response()
            }
            Answer::Never => std::future::pending().await,
        }
    }

    /// The calls of a service so far.
    fn calls(&self, of: Service) -> Vec<Value> {
        let calls = self.calls.lock().expect("no panic");
        calls
            .iter()
            .filter(|(service, _)| *service == of)
            .map(|(_, call)| call.clone())
            .collect()
    }

    /// The recipients of the calls of SES so far.
    fn recipients(&self) -> Vec<String> {
        let to = |call: &Value| {
            call["Destination"]["ToAddresses"][0]
                .as_str()
                .expect("text")
                .to_owned()
        };
        self.calls(Service::Ses).iter().map(to).collect()
    }

    /// The user ids of each call of EventBridge so far.
    fn put(&self) -> Vec<Vec<String>> {
        let user_id = |entry: &Value| {
            let detail: Value = serde_json::from_str(entry["Detail"].as_str().expect("text")).expect("JSON");
            detail["user_id"].as_str().expect("text").to_owned()
        };
        let entries = |call: &Value| {
            call["Entries"]
                .as_array()
                .expect("entries")
                .iter()
                .map(user_id)
                .collect()
        };
        self.calls(Service::EventBridge).iter().map(entries).collect()
    }
}

const THROTTLED: Answer = Answer::Failed(429, "TooManyRequestsException", "slow down");
const DOWN: Answer = Answer::Failed(503, "ServiceUnavailable", "later");

// --- What arrives

#[tokio::test]
async fn mails_arrive_as_plain_text_and_events_on_their_bus() {
    let Some(moto) = Moto::start().await else { return };
    moto.call(
        "ses",
        "/v2/email/identities",
        None,
        &json!({ "EmailIdentity": "people@example.com" }),
    )
    .await;
    moto.call(
        "events",
        "/",
        Some("CreateEventBus"),
        &json!({ "Name": "people-test" }),
    )
    .await;
    let bus = "arn:aws:events:eu-central-1:123456789012:event-bus/people-test";
    let archive = json!({ "ArchiveName": "all", "EventSourceArn": bus });
    moto.call("events", "/", Some("CreateArchive"), &archive).await;
    let mut courier = courier(&moto.endpoint, SENDER).await;
    let answer = courier
        .answer(delivery(&["alice@example.com", "bob@example.com"], &["1", "2"]))
        .await;
    assert_eq!(answer, report(2, 0, 2));
    assert_eq!(log(courier).await, [line(2, 0, 2, 0, None)]);

    let data = moto.data().await;
    let mails: Vec<_> = data["ses"]["Message"]
        .as_array()
        .expect("mails")
        .iter()
        .map(without_id)
        .collect();
    let expected = |to| {
        json!({
            "source": SENDER, "destinations": { "ToAddresses": [to] }, "subject": "Reset your password", "body": LINK,
        })
    };
    assert_eq!(
        mails,
        [expected("alice@example.com"), expected("bob@example.com")]
    );
    let events = data["events"]["Archive"][0]["events"].as_array().expect("events");
    let events: Vec<_> = events
        .iter()
        .map(|event| (&event["source"], &event["detail-type"], &event["detail"]))
        .collect();
    let (source, kind) = (json!("people"), json!("user_deleted"));
    let (first, second) = (json!({ "user_id": "1" }), json!({ "user_id": "2" }));
    assert_eq!(events, [(&source, &kind, &first), (&source, &kind, &second)]);
}

fn without_id(mail: &Value) -> Value {
    let mut mail = mail.clone();
    mail.as_object_mut().expect("an object").remove("id");
    mail
}

#[tokio::test]
async fn mails_are_utf_8_and_have_no_other_part() {
    let aws = Aws::start(&[], &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    assert_eq!(
        courier.answer(delivery(&["alice@example.com"], &[])).await,
        report(1, 0, 0)
    );
    let part = |data| json!({ "Data": data, "Charset": "UTF-8" });
    let simple = json!({ "Subject": part("Reset your password"), "Body": { "Text": part(LINK) } });
    assert_eq!(
        aws.calls(Service::Ses),
        [json!({
            "FromEmailAddress": SENDER,
            "Destination": { "ToAddresses": ["alice@example.com"] },
            "Content": { "Simple": simple },
        })]
    );
    assert_eq!(
        aws.calls(Service::EventBridge),
        [] as [Value; 0],
        "no call without events"
    );
}

#[tokio::test]
async fn an_empty_answer_calls_nobody() {
    let aws = Aws::start(&[], &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    assert_eq!(courier.answer(delivery(&[], &[])).await, report(0, 0, 0));
    assert_eq!(log(courier).await, [line(0, 0, 0, 0, None)]);
    assert!(aws.calls.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn without_a_sender_events_are_put_and_mails_are_counted_as_dropped() {
    let aws = Aws::start(&[], &[]).await;
    let mut courier = courier(&aws.endpoint, "").await;
    let answer = courier
        .answer(delivery(&["alice@example.com", "bob@example.com"], &["1"]))
        .await;
    assert_eq!(answer, report(0, 2, 1));
    assert_eq!(courier.answer(delivery(&[], &["2"])).await, report(0, 0, 1));
    assert_eq!(aws.calls(Service::Ses), [] as [Value; 0]);
    let lost =
        json!({ "level": "ERROR", "message": "mails dropped", "mails": 2, "error": "MAIL_FROM is missing" });
    assert_eq!(
        log(courier).await,
        [lost, line(0, 2, 1, 0, None), line(0, 0, 1, 0, None)]
    );
}

// --- What fails temporarily

#[tokio::test]
async fn a_throttled_mail_is_sent_again_after_the_others() {
    let throttled = Answer::Failed(400, "ThrottlingException", "Maximum sending rate exceeded.");
    let aws = Aws::start(&[THROTTLED, throttled, Answer::Accepted], &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    assert_eq!(
        courier
            .answer(delivery(&["a@example.com", "b@example.com"], &[]))
            .await,
        report(2, 0, 0)
    );
    assert_eq!(
        aws.recipients(),
        ["a@example.com", "b@example.com", "a@example.com", "b@example.com"]
    );
    assert_eq!(log(courier).await, [line(2, 0, 0, 0, None)]);
}

#[tokio::test]
async fn two_errors_of_ses_lose_no_mail_and_repeat_no_other() {
    let broken = Answer::Failed(500, "InternalFailure", "");
    let aws = Aws::start(&[Answer::Accepted, broken, DOWN, Answer::Accepted], &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let mails = ["a@example.com", "b@example.com", "c@example.com"];
    assert_eq!(courier.answer(delivery(&mails, &[])).await, report(3, 0, 0));
    assert_eq!(
        aws.recipients(),
        [
            "a@example.com",
            "b@example.com",
            "c@example.com",
            "b@example.com",
            "c@example.com"
        ]
    );
}

#[tokio::test]
async fn while_ses_is_down_events_arrive_and_the_invocation_fails_after_a_few_attempts() {
    let aws = Aws::start(&[Answer::Accepted, DOWN], &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let mails = ["a@example.com", "b@example.com", "c@example.com"];
    let answer = courier.answer(delivery(&mails, &["1"])).await;
    assert_eq!(answer["errorMessage"], "mails left: 2, events left: 0");
    assert_eq!(aws.recipients().len(), 5, "not one attempt for each mail");
    assert_eq!(aws.put(), [["1"]]);
    assert_eq!(
        log(courier).await,
        [line(1, 0, 1, 2, Some("SES: ServiceUnavailable"))]
    );
}

#[tokio::test]
async fn while_event_bridge_is_down_mails_arrive_and_the_invocation_fails() {
    let aws = Aws::start(&[], &[DOWN]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let answer = courier.answer(delivery(&["a@example.com"], &["1", "2"])).await;
    assert_eq!(answer["errorMessage"], "mails left: 0, events left: 2");
    assert_eq!(aws.recipients(), ["a@example.com"]);
    assert_eq!(
        log(courier).await,
        [line(1, 0, 0, 2, Some("EventBridge: ServiceUnavailable"))]
    );
}

#[tokio::test]
async fn what_cannot_be_reached_fails_the_invocation() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let endpoint = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    let mut courier = courier(&endpoint, SENDER).await;
    let answer = courier.answer(delivery(&["a@example.com"], &["1"])).await;
    assert_eq!(answer["errorMessage"], "mails left: 1, events left: 1");
    let reasons = "EventBridge: not reached, SES: not reached";
    assert_eq!(log(courier).await, [line(0, 0, 0, 2, Some(reasons))]);
}

#[tokio::test]
async fn a_refused_entry_is_put_again_by_itself() {
    let aws = Aws::start(
        &[],
        &[Answer::Except(&[1, 9]), Answer::Except(&[0]), Answer::Accepted],
    )
    .await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let ids = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    assert_eq!(courier.answer(delivery(&[], &ids)).await, report(0, 0, 12));
    let calls: [&[&str]; 3] = [&ids[..10], &["10", "11", "1", "9"], &["10"]];
    assert_eq!(aws.put(), calls, "at most ten at a time");
    let first = &aws.calls(Service::EventBridge)[0]["Entries"][0];
    let expected = json!({
        "Source": "people", "DetailType": "user_deleted", "Detail": r#"{"user_id":"0"}"#, "EventBusName": "people-test",
    });
    assert_eq!(*first, expected);
    assert_eq!(log(courier).await, [line(0, 0, 12, 0, None)]);
}

#[tokio::test]
async fn an_entry_that_is_always_refused_fails_the_invocation() {
    let aws = Aws::start(&[], &[Answer::Except(&[0])]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let answer = courier.answer(delivery(&[], &["1"])).await;
    assert_eq!(answer["errorMessage"], "mails left: 0, events left: 1");
    assert_eq!(aws.put().len(), 4);
}

#[tokio::test]
async fn near_its_deadline_it_begins_no_call_and_fails() {
    let aws = Aws::start(&[], &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let answer = courier.answer_by(delivery(&["a@example.com"], &["1"]), 1).await;
    assert_eq!(answer["errorMessage"], "mails left: 1, events left: 1");
    assert!(aws.calls.lock().expect("no panic").is_empty());
    let reasons = "no time left, no time left";
    assert_eq!(log(courier).await, [line(0, 0, 0, 2, Some(reasons))]);
}

#[tokio::test]
async fn an_instance_that_is_killed_half_way_is_followed_by_one_that_sends_the_same_mail_again() {
    let aws = Aws::start(&[Answer::Accepted, Answer::Never, Answer::Accepted], &[]).await;
    let event = delivery(&["a@example.com", "b@example.com"], &["1"]);
    let first = courier(&aws.endpoint, SENDER).await;
    first.send(event.clone(), FAR);
    while aws.recipients().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.signal("-KILL");
    let mut second = courier(&aws.endpoint, SENDER).await;
    assert_eq!(second.answer(event).await, report(2, 0, 1));
    let mails = aws.calls(Service::Ses);
    assert_eq!(mails.len(), 4);
    assert_eq!((&mails[0], &mails[1]), (&mails[2], &mails[3]));
    assert_eq!(aws.put(), [["1"], ["1"]]);
}

// --- What is refused for good

#[tokio::test]
async fn what_ses_refuses_for_good_is_dropped_and_the_rest_is_sent() {
    let rejected = "Email address is not verified. The following identities failed the check: b@example.com";
    let refusals = [
        Answer::Failed(
            400,
            "BadRequestException",
            "Local address contains control or whitespace",
        ),
        Answer::Failed(400, "MessageRejected", rejected),
        Answer::Accepted,
    ];
    let aws = Aws::start(&refusals, &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let mails = [
        "a@example.com",
        "b@example.com",
        "c@example.com",
        "Call 555<d@example.com>",
    ];
    assert_eq!(courier.answer(delivery(&mails, &[])).await, report(1, 3, 0));
    assert_eq!(aws.recipients(), mails[..3], "no recipient with a name");
    let lines = [
        dropped("SES: BadRequestException"),
        dropped("SES: MessageRejected"),
        dropped("not a plain address"),
        line(1, 3, 0, 0, None),
    ];
    assert_eq!(log(courier).await, lines);
}

#[tokio::test]
async fn what_is_refused_to_the_whole_account_is_kept_after_one_attempt() {
    let own = "Email address is not verified. The following identities failed the check: people@example.com";
    for (status, code, message) in [
        (400, "SendingPausedException", ""),
        (400, "AccountSuspendedException", ""),
        (400, "MailFromDomainNotVerifiedException", ""),
        (
            403,
            "AccessDeniedException",
            "is not authorized to perform: ses:SendEmail",
        ),
        (403, "UnrecognizedClientException", ""),
        (404, "NotFoundException", ""),
        (400, "LimitExceededException", ""),
        (400, "MessageRejected", own),
    ] {
        let aws = Aws::start(&[Answer::Failed(status, code, message)], &[]).await;
        let mut courier = courier(&aws.endpoint, SENDER).await;
        let answer = courier
            .answer(delivery(&["a@example.com", "b@example.com"], &["1"]))
            .await;
        assert_eq!(answer["errorMessage"], "mails left: 2, events left: 0", "{code}");
        assert_eq!(aws.recipients().len(), 1, "{code}");
        let reason = format!("SES: {code}");
        assert_eq!(log(courier).await, [line(0, 0, 1, 2, Some(&reason))]);
    }
}

#[tokio::test]
async fn a_bus_that_it_may_not_write_to_fails_the_invocation_after_one_attempt() {
    let denied = Answer::Failed(400, "AccessDeniedException", "");
    let aws = Aws::start(&[], &[denied]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let answer = courier.answer(delivery(&["a@example.com"], &["1"])).await;
    assert_eq!(answer["errorMessage"], "mails left: 0, events left: 1");
    assert_eq!(aws.put().len(), 1);
    assert_eq!(
        log(courier).await,
        [line(1, 0, 0, 1, Some("EventBridge: AccessDeniedException"))]
    );
}

// --- What it is given

#[tokio::test]
async fn anything_but_an_answer_of_outbox_is_an_error_that_quotes_nothing() {
    let aws = Aws::start(&[], &[]).await;
    let mut courier = courier(&aws.endpoint, SENDER).await;
    let mut failed = delivery(&[], &[]);
    failed["responsePayload"] = json!({ "errorMessage": "a@example.com", "errorType": "x" });
    let mut half = delivery(&["a@example.com"], &[]);
    half["responsePayload"]["mails"][0]["to"] = json!(["a@example.com"]);
    let mut nothing = delivery(&[], &["1"]);
    nothing["responsePayload"]["events"][0]["detail"] = json!("a@example.com");
    let bare = delivery(&["a@example.com"], &[])["responsePayload"].clone();
    let events = [
        json!({}),
        json!([]),
        json!("a@example.com"),
        Value::Null,
        bare,
        failed,
        half,
        nothing,
    ];
    let message = "not an answer of outbox, wrapped as for a destination";
    for event in &events {
        let answer = courier.answer(event.clone()).await;
        assert_eq!(answer["errorMessage"], message, "{event}");
    }
    assert!(aws.calls.lock().expect("no panic").is_empty());
    // The instance goes on.
    assert_eq!(
        courier.answer(delivery(&["a@example.com"], &[])).await,
        report(1, 0, 0)
    );
    let lines = log(courier).await;
    assert_eq!(lines.len(), events.len() + 1);
    assert_eq!(
        lines[0],
        json!({ "level": "ERROR", "message": "courier", "error": message })
    );
}

#[tokio::test]
async fn without_a_bus_it_does_not_start() {
    let instance = Instance::start_with("courier", &[("MAIL_FROM", SENDER)]).await;
    let mut lines = instance.ended().await;
    lines[0].as_object_mut().expect("an object").remove("timestamp");
    let expected = json!({ "level": "ERROR", "message": "cannot start", "error": "EVENT_BUS is missing" });
    assert_eq!(lines, [expected]);
}

// --- moto

/// SES and EventBridge, emulated. Stopped at the end of the test.
struct Moto {
    child: Child,
    endpoint: String,
}

impl Moto {
    /// `None` if the program is missing. Panics instead if `REQUIRE_TEST_TOOLS` is set, as in CI.
    async fn start() -> Option<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => {
                let endpoint = format!("http://{address}");
                let moto = Self { child, endpoint };
                while TcpStream::connect(address).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Some(moto)
            }
            Err(error) => {
                assert!(
                    std::env::var_os("REQUIRE_TEST_TOOLS").is_none(),
                    "moto_server: {error}"
                );
                eprintln!("not run: moto_server is not installed");
                None
            }
        }
    }

    async fn call(&self, service: &str, path: &str, action: Option<&str>, body: &Value) {
        let target = action.map_or(String::new(), |action| {
            format!("x-amz-target: AWSEvents.{action}\r\n")
        });
        let body = body.to_string();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\n{target}content-type: application/json\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/{service}/aws4_request\r\n\
             content-length: {}\r\nhost: localhost\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await;
    }

    /// Everything that it keeps.
    async fn data(&self) -> Value {
        let request = "GET /moto-api/data.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        serde_json::from_str(&self.send(request).await).expect("JSON")
    }

    async fn send(&self, request: &str) -> String {
        let address = self.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("the emulator");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
