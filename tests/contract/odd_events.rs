//! Events manipulated by a client, and some that no gateway sends: each gets a documented response and one line in the
//! log. An error of the Lambda runtime would be a bare 500 from the gateway, and would count as an error of the
//! function.

use lambda_http::Request;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::{Value, json};
use shared::http::Served;
use shared::http::event::{self, Event};
use shared::telemetry;

use crate::harness::{Reply, Service, route};
use crate::panics::Lines;
use crate::properties::{SETTINGS, holds_for, is_a_row, member, runner, text};

/// Every recorded event of functions with the envelope, in both payload formats.
const EVENTS: [&str; 14] = [
    include_str!("../events/register.json"),
    include_str!("../events/register-rest.json"),
    include_str!("../events/login.json"),
    include_str!("../events/login-rest.json"),
    include_str!("../events/login-form.json"),
    include_str!("../events/login-form-rest.json"),
    include_str!("../events/logout.json"),
    include_str!("../events/logout-rest.json"),
    include_str!("../events/me.json"),
    include_str!("../events/me-rest.json"),
    include_str!("../events/token.json"),
    include_str!("../events/token-rest.json"),
    include_str!("../events/health.json"),
    include_str!("../events/health-rest.json"),
];

fn events() -> impl Iterator<Item = Value> {
    EVENTS
        .into_iter()
        .map(|event| serde_json::from_str(event).expect("JSON"))
}

/// The function for an event.
fn function(event: &Value) -> &'static dyn Served {
    let path = event["rawPath"].as_str().or(event["path"].as_str());
    route(path.expect("a path"))
}

/// The request in an event, as the runtime reads it: it ignores data after the event.
fn request(bytes: &[u8]) -> Request {
    let event = Event::deserialize(&mut serde_json::Deserializer::from_slice(bytes));
    event.expect("never an error").into()
}

async fn send(service: &Service, route: &dyn Served, event: &Value) -> Reply {
    service.invoke(route, request(event.to_string().as_bytes())).await
}

/// Sets a member of an event; for a header, also its list in the event of a REST API.
fn set(event: &mut Value, pointer: &str, value: &Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let rest = event.get("multiValueHeaders").is_some();
    let parent = match parent {
        "" => Some(event),
        "/headers" if rest => {
            event["multiValueHeaders"][name] = json!([value]);
            event.pointer_mut("/headers")
        }
        parent => event.pointer_mut(parent),
    };
    parent.expect(pointer)[name] = value.clone();
}

/// Members that no function reads, with values that are invalid as URL, number or text.
fn unread() -> Vec<(&'static str, Value)> {
    vec![
        ("/rawQueryString", json!("x=\"")),
        ("/rawQueryString", json!("a b&\\\u{0}%zz#<>{}|^`")),
        ("/rawQueryString", json!("é=\u{202e}")),
        ("/rawQueryString", json!(7)),
        (
            "/queryStringParameters",
            json!({ "x": "\"", "\u{0}": null, "y": [1] }),
        ),
        ("/queryStringParameters", json!("x=1")),
        (
            "/multiValueQueryStringParameters",
            json!({ "x": ["\"", 1, null], "y": "z" }),
        ),
        ("/headers/x-forwarded-proto", json!("https, https")),
        ("/headers/x-forwarded-proto", json!("\" onload=")),
        ("/headers/x-forwarded-proto", json!("")),
        ("/headers/x-forwarded-proto", json!("http://evil.example/?")),
        ("/headers/x-forwarded-port", json!("-1")),
        ("/headers/host", json!("[")),
        ("/headers/host", json!("a b:c@d/e?f#g")),
        ("/headers/host", json!("")),
        ("/headers/host", json!("xn--\u{fffd}:99999999")),
        ("/headers/x-bytes", json!("\u{80}\u{ff}\u{7f}\u{1b}[2J\r\nx: y")),
        ("/headers/no name", json!("x")),
        ("/headers/", json!("x")),
        ("/headers/cookie", json!(["a=b", 1])),
        ("/headers/x-number", json!(1.5e300)),
        ("/headers/x-nothing", Value::Null),
        ("/cookies", json!(["\u{0}", 1, null])),
        ("/cookies", json!("a=b")),
        ("/stageVariables", json!([1])),
        ("/pathParameters", json!({ "x": 1, "y": null, "z": "%00" })),
        ("/pathParameters", json!("x")),
        ("/version", json!(2.0)),
        (
            "/requestContext/authorizer",
            json!({ "jwt": { "claims": "\u{0}" }, "iam": 7 }),
        ),
        ("/requestContext/authentication", json!({ "clientCert": [] })),
        ("/requestContext/timeEpoch", json!("yesterday")),
        ("/requestContext/requestTimeEpoch", json!(-1.5)),
        ("/requestContext/accountId", json!(123)),
        ("/requestContext/stage", json!("$default")),
        ("/requestContext/stage", json!(1)),
    ]
}

#[tokio::test]
async fn members_that_no_function_reads_may_have_any_value() {
    let service = Service::start_with(&SETTINGS).await;
    for event in events() {
        let route = function(&event);
        // The second registration of a userid has another response than the first.
        send(&service, route, &event).await;
        let usual = send(&service, route, &event).await;
        for (pointer, value) in unread() {
            let mut odd = event.clone();
            set(&mut odd, pointer, &value);
            let reply = send(&service, route, &odd).await;
            is_a_row(&reply).expect("a row");
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (usual.status, &usual.json()["code"]),
                "{} with {pointer} = {value}",
                route.path()
            );
            assert_eq!(reply.header("x-request-id"), usual.header("x-request-id"));
        }
    }
}

#[tokio::test]
async fn an_odd_method_or_path_is_left_to_the_gateway() {
    let service = Service::start_with(&SETTINGS).await;
    for event in events() {
        let route = function(&event);
        for (pointer, value) in [
            (
                "/requestContext/http",
                json!({ "method": "BREW \u{0}", "sourceIp": "::1" }),
            ),
            ("/requestContext/http", json!(null)),
            ("/requestContext/identity", json!([])),
            ("/requestContext", json!("x")),
            ("/requestContext", json!({})),
            ("/httpMethod", json!("")),
            ("/httpMethod", json!(["POST"])),
            ("/rawPath", json!("no slash")),
            ("/rawPath", json!("/\u{0} \"<>\u{202e}%zz?x#y")),
            ("/rawPath", json!(7)),
            ("/path", json!("http://[")),
            ("/path", Value::Null),
            ("/routeKey", json!(1)),
            ("/resource", json!({})),
        ] {
            let mut odd = event.clone();
            set(&mut odd, pointer, &value);
            is_a_row(&send(&service, route, &odd).await).expect("a row");
        }
    }
}

#[tokio::test]
async fn a_body_that_contradicts_the_base64_flag_is_malformed_if_it_is_read() {
    let service = Service::start_with(&SETTINGS).await;
    for event in events() {
        let route = function(&event);
        let usual = send(&service, route, &event).await;
        let form = event.to_string().contains("urlencoded");
        for (body, encoded) in [
            (json!("{}"), true),
            (json!("a"), true),
            (json!("e30"), true),
            (json!("e30=\n"), true),
            (json!("\u{e9}"), true),
            (json!({ "userid": "alice", "password": "x" }), false),
            (json!(["{}"]), false),
            (json!(7), false),
            (json!(true), true),
        ] {
            let mut odd = event.clone();
            odd["body"] = body.clone();
            odd["isBase64Encoded"] = json!(encoded);
            let reply = send(&service, route, &odd).await;
            match route.path() {
                "/auth/token" | "/auth/login" if form => {
                    assert_eq!(reply.status, 400);
                    assert_eq!(reply.json()["error"], "invalid_request", "{body}");
                }
                "/auth/login" | "/user/register" => {
                    reply.assert_error(40001);
                }
                _ => assert_eq!(reply.status, usual.status),
            }
        }
    }
}

#[tokio::test]
async fn only_the_value_true_marks_a_body_as_encoded() {
    let service = Service::start_with(&SETTINGS).await;
    for flag in [json!(false), json!(null), json!("true"), json!(1), json!([true])] {
        let mut event: Value = serde_json::from_str(EVENTS[2]).expect("JSON");
        event["isBase64Encoded"] = flag;
        let reply = send(&service, function(&event), &event).await;
        reply.assert_error(40101);
    }
}

#[tokio::test]
async fn an_unreadable_second_credential_counts_as_one() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    let me = route("/auth/me");
    let event = |listed: Value, single: Value| {
        let mut event: Value = serde_json::from_str(EVENTS[9]).expect("JSON");
        event["multiValueHeaders"]["Authorization"] = listed;
        event["headers"]["Authorization"] = single;
        event
    };
    for (listed, single, status) in [
        (json!([bearer, "\u{0}"]), json!("\u{0}"), 401),
        (json!([bearer, 7]), json!(7), 401),
        (json!([bearer, ["x"]]), json!(bearer), 401),
        (json!([bearer, bearer]), json!(bearer), 401),
        (json!([bearer, ""]), json!(""), 401),
        // null is not a second one, and a header may be in one of the lists only.
        (json!([bearer, null]), json!(bearer), 200),
        (json!([]), json!(bearer), 200),
        (json!(null), json!(bearer), 200),
        (json!(bearer), json!(null), 200),
        (json!([bearer]), json!("another"), 200),
    ] {
        let reply = send(&service, me, &event(listed.clone(), single)).await;
        assert_eq!(reply.status, status, "{listed}");
    }
    // Names that differ only in case are two headers.
    let mut twice = event(json!([bearer]), json!(bearer));
    twice["multiValueHeaders"]["AUTHORIZATION"] = json!([bearer]);
    assert_eq!(send(&service, me, &twice).await.status, 401);
}

#[tokio::test]
async fn an_unpaired_surrogate_is_not_an_error() {
    let service = Service::start_with(&SETTINGS).await;
    for event in EVENTS {
        let event = event.replace("application/json", "application/json; x=\\ud800");
        let event = event
            .replace("\"/", "\"/\\udfff")
            .replace("event-user", "\\ud800");
        let route = function(
            &serde_json::from_str(&event.replace("\\udfff", "").replace("\\ud800", "")).expect("JSON"),
        );
        let reply = service.invoke(route, request(event.as_bytes())).await;
        is_a_row(&reply).expect("a row");
    }
}

#[tokio::test]
async fn a_request_id_that_does_not_fit_into_a_header_is_replaced() {
    let service = Service::start().await;
    for id in [
        json!("é"),
        json!("a b"),
        json!("a\nb"),
        json!("\u{0}"),
        json!(""),
        json!(7),
        json!(null),
        json!({}),
    ] {
        for event in [EVENTS[12], EVENTS[13]] {
            let mut event: Value = serde_json::from_str(event).expect("JSON");
            event["requestContext"]["requestId"] = id.clone();
            let reply = send(&service, function(&event), &event).await;
            assert_eq!(reply.status, 200);
            reply.assert_common_headers();
        }
    }
}

#[tokio::test]
async fn an_invalid_event_is_a_defect_with_a_response() {
    let service = Service::start().await;
    for bytes in [
        b"".as_slice(),
        b"null",
        b"[]",
        b"7",
        b"\"{}\"",
        b"{",
        b"{\"headers\": {}",
        b"\0",
        b"{\"body\": \"\xff\"}",
    ] {
        let reply = service.invoke(route("/health"), request(bytes)).await;
        reply.assert_error(50001);
    }
}

#[tokio::test]
async fn an_odd_event_is_one_line_in_the_log() {
    let service = Service::start_with(&SETTINGS).await;
    let lines = Lines::default();
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(move || writer.clone()));
    for event in events() {
        for (pointer, value) in unread() {
            let mut odd = event.clone();
            set(&mut odd, pointer, &value);
            send(&service, function(&event), &odd).await;
            let logged = lines.take();
            let requests = logged.iter().filter(|line| line["message"] == "request");
            assert_eq!(requests.count(), 1, "{pointer} = {value}: {logged:?}");
        }
    }
}

/// One change: where (a number for a place in the event), and what.
type Change = (prop::sample::Index, Option<Value>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let value = prop_oneof![
        3 => member().prop_map(Some),
        1 => text().prop_map(|text| Some(json!([text, text]))),
        1 => Just(None),
        1 => Just(Some(json!("https, https"))),
        1 => Just(Some(json!("x=\""))),
        1 => any::<bool>().prop_map(|flag| Some(json!(flag))),
    ];
    vec((any::<prop::sample::Index>(), value), 1..5)
}

/// Every place inside the event.
fn places(value: &Value, prefix: &str) -> Vec<String> {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(values) => (0..).map(|n: usize| n.to_string()).zip(values).collect(),
        _ => Vec::new(),
    };
    members
        .into_iter()
        .flat_map(|(name, value)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            let place = format!("{prefix}/{name}");
            let below = places(value, &place);
            std::iter::once(place).chain(below)
        })
        .collect()
}

fn change(event: &mut Value, (index, value): Change) {
    let places = places(event, "");
    if places.is_empty() {
        return;
    }
    let place = index.get(&places);
    if let Some(value) = value {
        *event.pointer_mut(place).expect("a place") = value;
        return;
    }
    let (parent, name) = place.rsplit_once('/').expect("a pointer");
    if let Some(Value::Object(members)) = event.pointer_mut(parent) {
        members.remove(&name.replace("~1", "/").replace("~0", "~"));
    }
}

#[test]
fn any_change_to_an_event_gets_a_documented_response() {
    let input = (prop::sample::select(EVENTS.to_vec()), changes());
    holds_for(600, &input, |service, (event, changes)| async move {
        let mut event: Value = serde_json::from_str(event).expect("JSON");
        let route = function(&event);
        for one in changes {
            change(&mut event, one);
        }
        is_a_row(&send(&service, route, &event).await)
    });
}

#[test]
fn any_bytes_become_a_request() {
    let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let input = (
        prop::sample::select(EVENTS.to_vec()),
        edits,
        any::<prop::sample::Index>(),
    );
    runner(500)
        .run(&input, |(event, edits, end)| {
            let mut bytes = event.as_bytes().to_vec();
            for (index, byte) in edits {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            for bytes in [&bytes[..], &bytes[..end.index(bytes.len())]] {
                let _ = request(bytes);
                let _ = event::request(&String::from_utf8_lossy(bytes));
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
