//! The functions, called with events of a REST API (payload 1.0) and of an HTTP API (2.0).

use std::net::IpAddr;

use lambda_http::{Body, Request};
use serde_json::{Value, json};
use shared::http::event;
use shared::http::source_address;

use crate::harness::{PASSWORD, Reply, Service, route};
use crate::health::assert_healthy;
use crate::oauth2::assert_granted;
use crate::snapshot::assert_reply;

/// An event in both formats: name, HTTP API, REST API.
macro_rules! event {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../events/", $name, ".json")),
            include_str!(concat!("../events/", $name, "-rest.json")),
        )
    };
}

const REGISTER: (&str, &str, &str) = event!("register");
const LOGIN: (&str, &str, &str) = event!("login");
const LOGIN_FORM: (&str, &str, &str) = event!("login-form");
const TOKEN: (&str, &str, &str) = event!("token");
const LOGOUT: (&str, &str, &str) = event!("logout");
const ME: (&str, &str, &str) = event!("me");
const HEALTH: (&str, &str, &str) = event!("health");

/// The two payload formats.
#[derive(Clone, Copy)]
enum Format {
    Http,
    Rest,
}

const FORMATS: [Format; 2] = [Format::Http, Format::Rest];

/// An event that can be changed and sent.
#[derive(Clone)]
struct Event {
    json: Value,
    format: Format,
    path: String,
}

impl Event {
    fn new((_, http, rest): (&str, &str, &str), format: Format) -> Self {
        let json: Value = serde_json::from_str(match format {
            Format::Http => http,
            Format::Rest => rest,
        })
        .expect("JSON");
        let path = json["rawPath"].as_str().or(json["path"].as_str());
        Self {
            path: path.expect("a path").to_owned(),
            format,
            json,
        }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        match self.format {
            Format::Http => self.json["headers"][name] = json!(value),
            Format::Rest => {
                self.json["headers"][name] = json!(value);
                self.json["multiValueHeaders"][name] = json!([value]);
            }
        }
        self
    }

    fn token(self, token: &str) -> Self {
        let name = match self.format {
            Format::Http => "authorization",
            Format::Rest => "Authorization",
        };
        self.header(name, &format!("Bearer {token}"))
    }

    fn body(mut self, body: &str, is_base64: bool) -> Self {
        self.json["body"] = json!(body);
        self.json["isBase64Encoded"] = json!(is_base64);
        self
    }

    fn context(mut self, name: &str, value: Value) -> Self {
        match (self.format, name) {
            (Format::Http, "sourceIp") => self.json["requestContext"]["http"][name] = value,
            (Format::Rest, "sourceIp") => self.json["requestContext"]["identity"][name] = value,
            _ => self.json["requestContext"][name] = value,
        }
        self
    }

    fn request(&self) -> Request {
        event::request(&self.json.to_string())
    }

    /// Sends it to the function behind its route.
    async fn send(&self, service: &Service) -> Reply {
        service.invoke(route(&self.path), self.request()).await
    }
}

#[tokio::test]
async fn a_session_from_register_to_a_refused_token_works_with_the_events_of_either_gateway() {
    for format in FORMATS {
        let service = Service::start().await;
        let registered = Event::new(REGISTER, format).send(&service).await;
        let info = registered.json()["data"]["user_info"].take();
        assert_reply!(registered, @r#"
        200 {"code":1,"message":"success","data":{"user_info":{"user_id":"[uuid]","userid":"event-user",
          "user_name":"Event User","country":"DE","job":"engineer","phone":"+49 30 123456",
          "email":"event-user@example.com","email_verified":false,"init_cn_level":null,"roles":[],
          "reg_time":"[now]"}}}
        "#);
        let login = Event::new(LOGIN, format).send(&service).await;
        let token = login.access_token();
        login.assert_success(
            &json!({ "access_token": token, "token_type": "bearer", "expires_in": 3600, "user_info": info }),
        );
        for event in [LOGIN_FORM, TOKEN] {
            assert_granted(&Event::new(event, format).send(&service).await);
        }
        let me = Event::new(ME, format).token(&token);
        let data = json!({ "user_id": info["user_id"], "user_info": info });
        me.send(&service).await.assert_success(&data);
        let logout = Event::new(LOGOUT, format).token(&token).send(&service).await;
        logout.assert_success(&Value::Null);
        me.send(&service).await.assert_error(40103);
        assert_healthy(&Event::new(HEALTH, format).send(&service).await);
    }
}

#[tokio::test]
async fn the_request_id_is_the_gateways() {
    let service = Service::start().await;
    for event in [REGISTER, LOGIN, LOGIN_FORM, TOKEN, LOGOUT, ME, HEALTH] {
        for format in FORMATS {
            // A header of the client is ignored.
            let event = Event::new(event, format)
                .header("x-request-id", "chosen")
                .header("x-amzn-requestid", "chosen")
                .context("requestId", json!("of-the-gateway="));
            let reply = event.send(&service).await;
            let ids: Vec<_> = reply.headers.get_all("x-request-id").iter().collect();
            assert_eq!(ids, ["of-the-gateway="]);
        }
    }
}

#[tokio::test]
async fn each_fixture_has_its_own_request_id() {
    let service = Service::start().await;
    for (event, format, id) in [
        (REGISTER, Format::Http, "JKJaXmPLvHcREG0="),
        (LOGIN, Format::Http, "JKJaXmPLvHcLOG1="),
        (REGISTER, Format::Rest, "7c3fd64e-0b9a-4c1d-8e2f-5a6b7c8d9e00"),
        (LOGIN, Format::Rest, "7c3fd64e-0b9a-4c1d-8e2f-5a6b7c8d9e01"),
    ] {
        let reply = Event::new(event, format).send(&service).await;
        assert_eq!(reply.header("x-request-id"), Some(id));
    }
}

#[tokio::test]
async fn an_event_without_a_request_id_gets_one() {
    let service = Service::start().await;
    for format in FORMATS {
        let event = Event::new(HEALTH, format).context("requestId", Value::Null);
        let reply = event.send(&service).await;
        assert_eq!(reply.status, 200);
        reply.assert_common_headers();
    }
}

#[test]
fn the_source_address_is_the_gateways_whatever_the_headers_say() {
    for event in [REGISTER, LOGIN, LOGIN_FORM, TOKEN, LOGOUT, ME, HEALTH] {
        for format in FORMATS {
            let mut event = Event::new(event, format);
            for name in [
                "x-forwarded-for",
                "X-Forwarded-For",
                "x-real-ip",
                "forwarded",
                "true-client-ip",
                "cf-connecting-ip",
                "x-client-ip",
            ] {
                event = event.header(name, "198.51.100.66");
            }
            let expected: IpAddr = "203.0.113.7".parse().expect("an address");
            assert_eq!(source_address(&event.request()), Some(expected));
            let moved = event.context("sourceIp", json!("2001:db8::7"));
            let expected: IpAddr = "2001:db8::7".parse().expect("an address");
            assert_eq!(source_address(&moved.request()), Some(expected));
        }
    }
}

#[test]
fn an_unreadable_source_address_is_none() {
    for format in FORMATS {
        for address in [
            json!(null),
            json!(""),
            json!("test-invoke-source-ip"),
            json!("1.2.3.4, 5.6.7.8"),
        ] {
            let event = Event::new(LOGIN, format)
                .header("x-forwarded-for", "198.51.100.66")
                .context("sourceIp", address);
            assert_eq!(source_address(&event.request()), None);
        }
    }
}

#[tokio::test]
async fn failures_are_counted_for_the_gateways_address_and_no_header_changes_that() {
    for format in FORMATS {
        let service = Service::start().await;
        let wrong = r#"{"userid":"event-user","password":"wrong"}"#;
        let attempt = |forwarded: &str| {
            Event::new(LOGIN, format)
                .header("x-forwarded-for", forwarded)
                .header("X-Forwarded-For", forwarded)
                .body(wrong, false)
        };
        for n in 0..10 {
            let reply = attempt(&format!("198.51.100.{n}")).send(&service).await;
            reply.assert_error(40101);
        }
        // As if all failures had just happened, however slow the machine is.
        service
            .database
            .execute("UPDATE people.attempt SET in_flight = '{}', failed_at = now()")
            .await;
        let reply = attempt("198.51.100.99").send(&service).await;
        assert_eq!(reply.status, 429);
        let elsewhere = attempt("203.0.113.7").context("sourceIp", json!("203.0.113.8"));
        let reply = elsewhere.send(&service).await;
        reply.assert_error(40101);
    }
}

#[tokio::test]
async fn a_body_is_read_encoded_or_not() {
    use base64::Engine as _;
    for format in FORMATS {
        let service = Service::start().await;
        let body = json!({ "userid": "Ａlice", "password": PASSWORD }).to_string();
        let encoded = base64::engine::general_purpose::STANDARD.encode(&body);
        let event = Event::new(REGISTER, format).body(&encoded, true);
        assert_eq!(event.send(&service).await.status, 200);
        let event = Event::new(LOGIN, format).body(&body, false);
        assert_eq!(event.send(&service).await.status, 200);
        // The size is that of the body, not of its encoding.
        for (bytes, status) in [(16_384, 400), (16_385, 413)] {
            let encoded = base64::engine::general_purpose::STANDARD.encode(" ".repeat(bytes));
            let event = Event::new(LOGIN, format).body(&encoded, true);
            assert_eq!(event.send(&service).await.status, status);
        }
        // UTF-16, a byte order mark, and bytes that are not text.
        for bytes in [
            b"\xff\xfe{\0}\0".as_slice(),
            b"\xef\xbb\xbf{}",
            b"\xff\xfe\xfd",
            b"\0",
        ] {
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            let event = Event::new(REGISTER, format).body(&encoded, true);
            event.send(&service).await.assert_error(40001);
        }
    }
}

#[tokio::test]
async fn an_event_without_body_or_headers_gets_a_documented_response() {
    let service = Service::start().await;
    for format in FORMATS {
        let mut event = Event::new(REGISTER, format);
        event.json["body"] = Value::Null;
        event.send(&service).await.assert_error(40001);
        event.json["headers"] = json!({});
        event.json["multiValueHeaders"] = json!({});
        event.send(&service).await.assert_error(41501);
        let mut event = Event::new(ME, format);
        event.json["headers"] = json!({});
        event.json["multiValueHeaders"] = json!({});
        event.send(&service).await.assert_error(40102);
    }
}

#[tokio::test]
async fn two_authorization_headers_are_rejected_for_either_gateway() {
    let service = Service::start().await;
    let alice = service.token_of_new_user("alice").await;
    let bob = service.token_of_new_user("bob").await;
    // An HTTP API joins them with a comma.
    let joined = format!("Bearer {alice},Bearer {bob}");
    let event = Event::new(ME, Format::Http).header("authorization", &joined);
    event.send(&service).await.assert_error(40103);
    // A REST API lists both, and repeats the last.
    let mut event = Event::new(ME, Format::Rest).token(&bob);
    event.json["multiValueHeaders"]["Authorization"] =
        json!([format!("Bearer {alice}"), format!("Bearer {bob}")]);
    event.send(&service).await.assert_error(40103);
}

#[tokio::test]
async fn two_content_types_are_rejected_for_either_gateway() {
    let service = Service::start().await;
    let joined = "text/plain,application/json";
    let event = Event::new(LOGIN, Format::Http).header("content-type", joined);
    event.send(&service).await.assert_error(41501);
    let mut event = Event::new(LOGIN, Format::Rest);
    event.json["multiValueHeaders"]["Content-Type"] = json!(["text/plain", "application/json"]);
    event.send(&service).await.assert_error(41501);
}

#[tokio::test]
async fn a_rest_event_that_lists_each_header_once_only_is_read() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for list in ["headers", "multiValueHeaders"] {
        let mut event = Event::new(ME, Format::Rest).token(&token);
        event.json[list] = Value::Null;
        assert_eq!(event.send(&service).await.status, 200, "without {list}");
    }
}

#[tokio::test]
async fn a_token_in_the_query_of_an_event_is_never_read() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for format in FORMATS {
        let mut event = Event::new(ME, format);
        event.json["rawQueryString"] = json!(format!("access_token={token}"));
        event.json["queryStringParameters"] = json!({ "access_token": token });
        event.json["multiValueQueryStringParameters"] = json!({ "access_token": [token] });
        event.json["headers"] = json!({ "host": "api.example" });
        event.json["multiValueHeaders"] = json!({ "host": ["api.example"] });
        event.send(&service).await.assert_error(40102);
    }
}

#[tokio::test]
async fn a_request_without_a_gateways_context_is_served_too() {
    let service = Service::start().await;
    let reply = service.invoke(route("/health"), Request::new(Body::Empty)).await;
    assert_eq!(reply.status, 200);
    reply.assert_common_headers();
}
