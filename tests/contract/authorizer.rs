//! The function `authorizer`: who is calling, told to gateways.

use std::time::{Duration, Instant};

use functions::authorizer;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::app::StartError;
use shared::auth::Authenticator;
use shared::aws::AwsError;
use shared::http::now;
use shared::telemetry;
use sqlx::Executor as _;
use tokio::sync::OnceCell;

use crate::harness::{Database, PASSWORD, Service, invocation};
use crate::panics::Lines;
use crate::properties::{holds_for, member};
use crate::proxy::{Link, Proxy};
use crate::snapshot::wrapped;

/// An event of each kind of gateway, as AWS documents them, with the id in its line of the log.
const EVENTS: [(&str, &str); 5] = [
    (HTTP, "JKJaXmPLvHcATH1="),
    (HTTP_1, "JKJaXmPLvHcATH2="),
    (REST, "7c3fd64e-0b9a-4c1d-8e2f-5a6b7c8d9e13"),
    (TOKEN, "of-the-invocation"),
    (WEB_SOCKET, "JKJaXmPLvHcATH4="),
];
const HTTP: &str = include_str!("../events/authorizer-http.json");
const HTTP_1: &str = include_str!("../events/authorizer-http-1.json");
const REST: &str = include_str!("../events/authorizer-rest.json");
const TOKEN: &str = include_str!("../events/authorizer-token.json");
const WEB_SOCKET: &str = include_str!("../events/authorizer-websocket.json");

/// The events with these credentials in place of the placeholder's.
fn events(credentials: &str) -> impl Iterator<Item = String> {
    EVENTS
        .into_iter()
        .map(move |(event, _)| event.replace("Bearer TOKEN", credentials))
}

fn parsed(event: &str) -> Value {
    serde_json::from_str(event).expect("JSON")
}

/// A decision, or the failure, as a snapshot shows it.
fn shown(answer: &Result<Value, &'static str>) -> String {
    match answer {
        Ok(decision) => wrapped(String::new(), &decision.to_string()),
        Err(failure) => format!("failed: {failure}"),
    }
}

/// Asserts that this is a yes: its context.
#[track_caller]
fn allowed(answer: Result<Value, &'static str>) -> Value {
    let answer = answer.expect("a decision");
    let policy = &answer["policyDocument"]["Statement"];
    let simple = answer["isAuthorized"] == true;
    assert!(
        simple || policy[0]["Effect"] == "Allow" && policy[1].is_null(),
        "{answer}"
    );
    answer["context"].clone()
}

/// Asserts that this is a no, with that code where the form has one.
#[track_caller]
fn assert_denied(answer: Result<Value, &'static str>, code: &str) {
    let answer = answer.expect("a decision");
    if answer.get("isAuthorized").is_some() {
        assert_eq!(answer, json!({ "isAuthorized": false }));
        return;
    }
    let policy = &answer["policyDocument"]["Statement"];
    assert!(policy[0]["Effect"] == "Deny" && policy[1].is_null(), "{answer}");
    assert_eq!(answer["principalId"], "anonymous");
    assert_eq!(answer["context"], json!({ "code": code }));
}

impl Service {
    /// Asserts that every kind of gateway is told no.
    async fn assert_all_denied(&self, credentials: &str, code: &str) {
        for event in events(credentials) {
            assert_denied(self.authorize(&event).await, code);
        }
    }
}

#[tokio::test]
async fn each_gateway_is_told_in_its_form_who_is_calling() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    let ids = "SELECT session_id || ' ' || user_id FROM people.user_session";
    let ids = service.database.text(ids).await.expect("a session");
    let (session_id, user_id) = ids.split_once(' ').expect("two");
    for event in events(&bearer) {
        let answer = service.authorize(&event).await;
        if event != events(&bearer).next().expect("one") {
            assert_eq!(answer.as_ref().expect("a decision")["principalId"], user_id);
        }
        let context = allowed(answer);
        assert_eq!(
            context,
            json!({ "user_id": user_id, "session_id": session_id, "roles": "" })
        );
    }
    let answers = |event: &'static str| {
        let event = event.replace("Bearer TOKEN", &bearer);
        async { shown(&service.authorize(&{ event }).await) }
    };
    insta::assert_snapshot!(answers(HTTP).await, @r#"{"context":{"roles":"","session_id":"[uuid]","user_id":"[uuid]"},"isAuthorized":true}"#);
    insta::assert_snapshot!(answers(HTTP_1).await, @r#"
    {"context":{"roles":"","session_id":"[uuid]","user_id":"[uuid]"},
      "policyDocument":{"Statement":[{"Action":"execute-api:Invoke","Effect":"Allow",
      "Resource":["arn:aws:execute-api:eu-central-1:123456789012:f6g7h8i9j0/$default/*"]}],
      "Version":"2012-10-17"},"principalId":"[uuid]"}
    "#);
    for event in [REST, TOKEN, WEB_SOCKET] {
        let answer = answers(event).await;
        insta::allow_duplicates!(insta::assert_snapshot!(answer, @r#"
        {"context":{"roles":"","session_id":"[uuid]","user_id":"[uuid]"},
          "policyDocument":{"Statement":[{"Action":"execute-api:Invoke","Effect":"Allow",
          "Resource":["arn:aws:execute-api:eu-central-1:123456789012:f6g7h8i9j0/prod/*"]}],
          "Version":"2012-10-17"},"principalId":"[uuid]"}
        "#));
    }
}

#[tokio::test]
async fn each_gateway_is_told_in_its_form_that_somebody_is_not_logged_in() {
    let service = Service::start().await;
    let answers = |event: &'static str| async { shown(&service.authorize(event).await) };
    insta::assert_snapshot!(answers(HTTP).await, @r#"{"isAuthorized":false}"#);
    insta::assert_snapshot!(answers(HTTP_1).await, @r#"
    {"context":{"code":"40103"},"policyDocument":{"Statement":[{"Action":"execute-api:Invoke",
      "Effect":"Deny",
      "Resource":["arn:aws:execute-api:eu-central-1:123456789012:f6g7h8i9j0/$default/*"]}],
      "Version":"2012-10-17"},"principalId":"anonymous"}
    "#);
    for event in [REST, TOKEN, WEB_SOCKET] {
        let answer = answers(event).await;
        insta::allow_duplicates!(insta::assert_snapshot!(answer, @r#"
        {"context":{"code":"40103"},"policyDocument":{"Statement":[{"Action":"execute-api:Invoke",
          "Effect":"Deny","Resource":["arn:aws:execute-api:eu-central-1:123456789012:f6g7h8i9j0/prod/*"]}],
          "Version":"2012-10-17"},"principalId":"anonymous"}
        "#));
    }
}

#[tokio::test]
async fn a_session_that_is_over_is_refused_from_the_next_request_on() {
    let settings = [("SESSION_IDLE_MINUTES", "60"), ("ARGON2_MEMORY_KIB", "64")];
    for over in [
        "logged out",
        "ended by its owner",
        "of an earlier password",
        "UPDATE people.user_session SET expires_at = now()",
        "UPDATE people.user_session SET last_seen = now() - interval '61 minutes'",
        "UPDATE people.user_session SET token = repeat('0', 64)",
        "UPDATE people.\"user\" SET disabled_at = now()",
        "UPDATE people.\"user\" SET password_version = password_version + 1",
        "UPDATE people.user_session SET session_id = gen_random_uuid()",
        "DELETE FROM people.user_session",
        "DELETE FROM people.\"user\"",
    ] {
        let service = Service::start_with(&settings).await;
        let token = service.token_of_new_user("alice").await;
        let other = service.log_in("alice", PASSWORD).await.access_token();
        let bearer = format!("Bearer {token}");
        for event in events(&bearer) {
            allowed(service.authorize(&event).await);
        }
        match over {
            "logged out" => assert_eq!(service.log_out(&token).await.status, 200),
            "ended by its owner" => assert_eq!(service.end_other_sessions(&other).await.status, 200),
            "of an earlier password" => {
                let changed = service.change_password(&other, PASSWORD, "six candles under the bridge");
                assert_eq!(changed.await.status, 200);
            }
            sql => service.database.execute(sql).await,
        }
        service.assert_all_denied(&bearer, "40103").await;
        service.get("/auth/me", &token).await.assert_error(40103);
    }
}

#[tokio::test]
async fn a_token_that_is_not_ours_is_refused() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let elsewhere =
        Service::start_with(&[("SECRET_KEY", "another key of at least 32 bytes, not ours")]).await;
    let foreign = elsewhere.token_of_new_user("alice").await;
    let (start, signature) = token.rsplit_once('.').expect("three parts");
    for forged in [
        foreign,
        format!("{start}."),
        format!("{start}.{}", signature.chars().rev().collect::<String>()),
        format!("{token}.{token}"),
        "a.b.c".to_owned(),
        "TOKEN".to_owned(),
        "x".repeat(5_000),
    ] {
        let bearer = format!("Bearer {forged}");
        service.assert_all_denied(&bearer, "40103").await;
    }
}

#[tokio::test]
async fn without_a_bearer_token_it_says_that_there_is_none() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for credentials in ["", "Bearer", "Bearer ", "Basic YWxpY2U6eA==", "Negotiate", &token] {
        service.assert_all_denied(credentials, "40102").await;
    }
    for (event, _) in EVENTS {
        let mut event = parsed(event);
        let members = event.as_object_mut().expect("an object");
        members.remove("authorizationToken");
        members.remove("headers");
        members.remove("multiValueHeaders");
        assert_denied(service.authorize(&event.to_string()).await, "40102");
    }
}

#[tokio::test]
async fn two_credentials_are_refused_however_a_gateway_sends_them() {
    let service = Service::start().await;
    let alice = format!("Bearer {}", service.token_of_new_user("alice").await);
    let bob = format!("Bearer {}", service.token_of_new_user("bob").await);
    for joined in [
        format!("{alice},{bob}"),
        format!("{alice}, {alice}"),
        format!("Basic YWxpY2U6eA==, {alice}"),
        format!("{alice}, Basic YWxpY2U6eA=="),
        format!("{alice},"),
    ] {
        service.assert_all_denied(&joined, "40103").await;
    }
    for event in [HTTP, HTTP_1, REST, WEB_SOCKET] {
        let mut twice = parsed(&event.replace("Bearer TOKEN", &alice));
        twice["headers"]["AUTHORIZATION"] = json!(bob);
        if event == REST || event == WEB_SOCKET {
            // Of each name it has all values here.
            twice["multiValueHeaders"]["AUTHORIZATION"] = json!([bob]);
        }
        assert_denied(service.authorize(&twice.to_string()).await, "40103");
    }
    for event in [REST, WEB_SOCKET] {
        for second in [json!(bob), json!(alice), json!(""), json!("\u{0}"), json!(7)] {
            let mut twice = parsed(&event.replace("Bearer TOKEN", &alice));
            twice["multiValueHeaders"]["Authorization"] = json!([alice, second]);
            assert_denied(service.authorize(&twice.to_string()).await, "40103");
        }
    }
}

#[tokio::test]
async fn the_header_is_found_whatever_its_case_in_either_list() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for event in [HTTP, HTTP_1, REST, WEB_SOCKET] {
        for name in ["authorization", "Authorization", "AUTHORIZATION", "aUTHORIZATION"] {
            for scheme in ["Bearer", "bearer", "BEARER"] {
                let mut event = parsed(event);
                let credentials = format!("{scheme} {token}");
                event["headers"] = json!({ name: credentials });
                event["multiValueHeaders"] = Value::Null;
                allowed(service.authorize(&event.to_string()).await);
                event["headers"] = Value::Null;
                event["multiValueHeaders"] = json!({ name: [credentials] });
                allowed(service.authorize(&event.to_string()).await);
            }
        }
    }
}

#[tokio::test]
async fn a_token_anywhere_else_is_not_read() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let bearer = format!("Bearer {token}");
    for (event, _) in EVENTS {
        let mut event = parsed(event);
        let is_token = event["type"] == "TOKEN";
        for name in ["access_token", "token", "authorization", "Authorization"] {
            event["queryStringParameters"][name] = json!(token);
            event["multiValueQueryStringParameters"][name] = json!([bearer]);
            event["stageVariables"][name] = json!(bearer);
            event["pathParameters"][name] = json!(bearer);
            event["requestContext"]["authorizer"][name] = json!(bearer);
        }
        event["rawQueryString"] = json!(format!("access_token={token}"));
        event["cookies"] = json!([format!("access_token={token}"), format!("authorization={bearer}")]);
        event["identitySource"] = json!([bearer]);
        event["authorizationToken"] = json!(bearer);
        event["headers"] = json!({ "cookie": format!("authorization={bearer}"), "x-authorization": bearer,
            "proxy-authorization": bearer, "sec-websocket-protocol": bearer });
        event["multiValueHeaders"] = json!({ "x-access-token": [bearer], "Cookie": [token] });
        if is_token {
            // There it is the other way round.
            event["authorizationToken"] = Value::Null;
            event["headers"]["authorization"] = json!(bearer);
            event["multiValueHeaders"]["authorization"] = json!([bearer]);
        }
        assert_denied(service.authorize(&event.to_string()).await, "40102");
        if is_token {
            event["authorizationToken"] = json!(bearer);
            allowed(service.authorize(&event.to_string()).await);
        }
    }
}

#[tokio::test]
async fn roles_are_ascii_separated_by_commas() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    for (roles, told) in [
        ("'{}'", ""),
        ("'{teacher}'", "teacher"),
        ("'{teacher,editor,a-b_c9}'", "teacher,editor,a-b_c9"),
        // Nobody can give these by the service.
        (
            "ARRAY['老师', 'a,admin', 'a b', '', E'a\\n', 'é', 'teacher']",
            "teacher",
        ),
    ] {
        let sql = format!("UPDATE people.\"user\" SET roles = {roles}");
        service.database.execute(&sql).await;
        for event in events(&bearer) {
            let context = allowed(service.authorize(&event).await);
            assert_eq!(context["roles"], told);
        }
    }
}

#[tokio::test]
async fn the_policy_is_for_every_route_of_the_stage() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    for (api, rest) in [
        ("arn:aws:execute-api:eu-central-1:123456789012:a1b2/prod", "GET/x"),
        ("arn:aws:execute-api:eu-central-1:123456789012:a1b2/prod", "GET/"),
        (
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2/$default",
            "POST/x/y/z",
        ),
        (
            "arn:aws-cn:execute-api:cn-north-1:123456789012:a1b2/v1",
            "DELETE/x",
        ),
        (
            "arn:aws-us-gov:execute-api:us-gov-west-1:123456789012:a1b2/v1",
            "$connect",
        ),
        (
            "arn:aws:execute-api:us-east-1:123456789012:a1b2/test-invoke-stage",
            "GET/",
        ),
        // The rest is the client's.
        (
            "arn:aws:execute-api:us-east-1:123456789012:a1b2/p",
            "GET//*/../?#%zz:a\u{0}é\u{202e}",
        ),
    ] {
        for event in [HTTP_1, REST, TOKEN, WEB_SOCKET] {
            for credentials in [&*bearer, "Bearer x"] {
                let mut event = parsed(&event.replace("Bearer TOKEN", credentials));
                event["methodArn"] = json!(format!("{api}/{rest}"));
                let answer = service.authorize(&event.to_string()).await.expect("a decision");
                let statement = &answer["policyDocument"]["Statement"][0];
                assert_eq!(statement["Resource"], json!([format!("{api}/*")]));
            }
        }
    }
}

#[tokio::test]
async fn any_other_event_is_a_failure_whoever_sends_it() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    let without = |event: &str, name: &str| {
        let mut event = parsed(&event.replace("Bearer TOKEN", &bearer));
        event.as_object_mut().expect("an object").remove(name);
        event.to_string()
    };
    let with_arn = |arn: Value| {
        let mut event = parsed(&REST.replace("Bearer TOKEN", &bearer));
        event["methodArn"] = arn;
        event.to_string()
    };
    for event in [
        include_str!("../events/me.json").replace("Bearer TOKEN", &bearer),
        include_str!("../events/me-rest.json").replace("Bearer TOKEN", &bearer),
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "7".to_owned(),
        json!(REST).to_string(),
        without(HTTP, "version"),
        without(HTTP, "type"),
        without(HTTP_1, "methodArn"),
        without(REST, "type"),
        without(REST, "methodArn"),
        without(TOKEN, "type"),
        without(TOKEN, "methodArn"),
        with_arn(json!(null)),
        with_arn(json!("")),
        with_arn(json!([
            "arn:aws:execute-api:eu-central-1:123456789012:a1b2/prod/GET/x"
        ])),
        with_arn(json!("arn:aws:execute-api:eu-central-1:123456789012:a1b2/prod")),
        with_arn(json!("arn:aws:lambda:eu-central-1:123456789012:a1b2/prod/GET/x")),
        with_arn(json!("*/*/*")),
    ] {
        let answer = service.authorize(&event).await;
        assert_eq!(answer, Err("An internal error occurred."), "{event}");
    }
}

/// Where a client decides what an event holds, but for the header `Authorization`.
const CLIENTS: [&str; 24] = [
    "/headers/accept",
    "/headers/Accept",
    "/headers/host",
    "/headers/Host",
    "/headers/no name",
    "/headers/",
    "/headers/x-forwarded-proto",
    "/headers/user-agent",
    "/multiValueHeaders/Host",
    "/multiValueHeaders/no name",
    "/multiValueHeaders/X-Forwarded-For",
    "/rawPath",
    "/rawQueryString",
    "/path",
    "/pathParameters",
    "/pathParameters/lesson",
    "/queryStringParameters",
    "/multiValueQueryStringParameters",
    "/cookies",
    "/body",
    "/requestContext/path",
    "/requestContext/http/path",
    "/requestContext/http/userAgent",
    "/requestContext/identity",
];

/// Sets what there is of these in an event.
fn set(event: &mut Value, changes: Vec<(&str, Value)>) {
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        if let Some(Value::Object(members)) = event.pointer_mut(parent) {
            members.insert(name.to_owned(), value);
        }
    }
}

#[test]
fn whatever_else_a_client_puts_into_an_event_the_decision_is_the_same() {
    let token = OnceCell::new();
    let changes = vec((prop::sample::select(CLIENTS.to_vec()), member()), 1..5);
    let input = (prop::sample::select(EVENTS.to_vec()), changes);
    holds_for(500, &input, |service, ((event, _), changes)| {
        let token = &token;
        async move {
            let token = token
                .get_or_init(async || service.token_of_new_user("alice").await)
                .await;
            for (token, live) in [(&**token, true), ("TOKEN", false)] {
                let mut event = parsed(&event.replace("Bearer TOKEN", &format!("Bearer {token}")));
                set(&mut event, changes.clone());
                let answer = service.authorize(&event.to_string()).await;
                if live {
                    allowed(answer);
                } else {
                    assert_denied(answer, "40103");
                }
            }
            Ok(())
        }
    });
}

#[test]
fn any_header_of_a_client_is_decided_and_denied() {
    let input = (prop::sample::select(EVENTS.to_vec()), member(), member());
    holds_for(300, &input, |service, ((event, _), one, other)| async move {
        let mut event = parsed(event);
        for (pointer, value) in [
            ("/headers/authorization", &one),
            ("/headers/Authorization", &one),
            ("/multiValueHeaders/Authorization", &other),
            ("/authorizationToken", &one),
            ("/identitySource", &other),
        ] {
            set(&mut event, vec![(pointer, value.clone())]);
        }
        let answer = service.authorize(&event.to_string()).await;
        let code = match &answer {
            Ok(decision) if decision["context"]["code"] == "40102" => "40102",
            _ => "40103",
        };
        assert_denied(answer, code);
        Ok(())
    });
}

#[tokio::test]
async fn half_a_character_is_no_reason_to_fail() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    for event in events(&bearer) {
        let odd = event
            .replace("/lessons/7", "/lessons/\\ud800")
            .replace("/prod/$connect", "/prod/$connect\\udfff")
            .replace("curl/8.5.0", "\\udc00")
            .replace("permessage-deflate", "\\ud800\\ud800");
        assert_ne!(odd, event);
        allowed(service.authorize(&odd).await);
        let odd = odd.replace(&bearer, "Bearer \\ud800");
        assert_denied(service.authorize(&odd).await, "40103");
    }
}

/// Longer than this would be a hang. The product's own limit is far below: what it cuts off is seen by the answer.
const BOUND: Duration = Duration::from_secs(15);

#[tokio::test]
async fn while_the_database_is_away_or_slow_the_invocation_fails_and_nothing_is_decided() {
    let database = Database::migrated().await;
    let proxy = Proxy::to(&database, Link::Up).await;
    let service = Service::on(proxy.of(&database), &[]);
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    let unavailable = Err("The service is temporarily unavailable.");
    for link in [Link::Refusing, Link::Silent, Link::Slow(BOUND * 2)] {
        proxy.set(link);
        let started = Instant::now();
        let [http, rest, token] = [HTTP, REST, TOKEN].map(|event| event.replace("Bearer TOKEN", &bearer));
        let answers = tokio::join!(
            service.authorize(&http),
            service.authorize(&rest),
            service.authorize(&token)
        );
        assert_eq!(
            answers,
            (unavailable.clone(), unavailable.clone(), unavailable.clone()),
            "{link:?}"
        );
        assert!(started.elapsed() < BOUND, "{link:?}: {:?}", started.elapsed());
        // What needs no database to be decided is.
        service.assert_all_denied("Bearer x", "40103").await;
    }
    proxy.set(Link::Up);
    let mut holder = database.connect().await;
    let lock = "BEGIN; LOCK TABLE people.user_session IN ACCESS EXCLUSIVE MODE";
    holder.execute(lock).await.expect("locked");
    let answer = service.authorize(&HTTP.replace("Bearer TOKEN", &bearer)).await;
    assert_eq!(answer, unavailable);
    holder.execute("COMMIT").await.expect("given free");
    for event in events(&bearer) {
        allowed(service.authorize(&event).await);
    }
}

#[tokio::test]
async fn without_its_secrets_or_with_a_defect_the_invocation_fails() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    let lines = Lines::default();
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(move || writer.clone()));
    for ((event, id), credentials) in EVENTS
        .into_iter()
        .zip([&*bearer, "Bearer x", "", &bearer, &bearer])
    {
        let event = invocation(&event.replace("Bearer TOKEN", credentials));
        let secrets = async { Err::<&Authenticator, _>(StartError::Aws(AwsError::new("no secret"))) };
        let answer = authorizer::decide(&event, secrets, now()).await;
        assert_eq!(answer, Err("The service is temporarily unavailable."));
        let line = lines.only();
        assert_eq!(
            (&line["status"], &line["error"]),
            (&json!(503), &json!("no secret"))
        );
        assert_eq!(line["span"]["request_id"], id);
        let answer = authorizer::decide(&event, async { panic!("a detail for nobody") }, now()).await;
        assert_eq!(answer, Err("An internal error occurred."));
        let line = lines.only();
        assert_eq!((&line["status"], &line["error"]), (&json!(500), &json!("panic")));
        assert_eq!(line["span"]["request_id"], id);
    }
}

#[tokio::test]
async fn each_invocation_is_one_line_of_the_log_with_the_id_of_its_event_and_without_the_token() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let user_id = service.database.text("SELECT user_id FROM people.\"user\"").await;
    let logged_out = service.log_in("alice", PASSWORD).await.access_token();
    service.log_out(&logged_out).await;
    let lines = Lines::default();
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(move || writer.clone()));
    for (event, id) in EVENTS {
        for (token, status, code, security) in [
            (&*token, 200, 1, None),
            (&*logged_out, 401, 40103, Some("authz_fail")),
            ("", 401, 40102, None),
        ] {
            let credentials = format!("Bearer {token}");
            let answer = service
                .authorize(&event.replace("Bearer TOKEN", &credentials))
                .await;
            assert!(answer.is_ok());
            let logged = lines.take();
            let text = json!(logged).to_string();
            assert!(token.is_empty() || !text.contains(token), "{text}");
            let (line, before) = logged.split_last().expect("a line");
            let address = if event == TOKEN {
                Value::Null
            } else {
                json!("203.0.113.7")
            };
            assert_eq!(line["message"], "request");
            assert_eq!((&line["status"], &line["code"]), (&json!(status), &json!(code)));
            assert!(
                line["milliseconds"].is_number() && line["cold"].is_boolean(),
                "{line}"
            );
            let span = json!({ "name": "request", "request_id": id, "route": "authorizer" });
            for (name, value) in span.as_object().expect("an object") {
                assert_eq!(&line["span"][name], value);
            }
            assert_eq!(line["span"]["source_address"], address);
            let events: Vec<_> = before.iter().map(|line| line["event"].as_str()).collect();
            assert_eq!(events, security.map(Some).as_slice());
            for event in before {
                assert_eq!(event["user_id"].as_str(), user_id.as_deref());
            }
        }
    }
}

#[tokio::test]
async fn use_is_noted_once_in_15_minutes_and_a_server_that_only_reads_answers_all_the_same() {
    let service = Service::start().await;
    let bearer = format!("Bearer {}", service.token_of_new_user("alice").await);
    let database = &service.database;
    database
        .execute(
            "CREATE TABLE public.noted (n int);
             CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.noted VALUES (1); RETURN new; END $$;
             CREATE TRIGGER note AFTER UPDATE OF last_seen ON people.user_session
                 FOR EACH ROW WHEN (new.last_seen > now() - interval '1 minute') EXECUTE FUNCTION public.note()",
        )
        .await;
    for (minutes, noted) in [(14, 0), (16, 1)] {
        let sql = format!("UPDATE people.user_session SET last_seen = now() - interval '{minutes} minutes'");
        database.execute(&sql).await;
        for event in events(&bearer) {
            allowed(service.authorize(&event).await);
        }
        assert_eq!(database.count("public.noted").await, noted);
    }
    let name = database.name();
    database
        .execute(&format!(
            "UPDATE people.user_session SET last_seen = now() - interval '1 day';
             ALTER DATABASE {name} SET default_transaction_read_only = on"
        ))
        .await;
    // A new instance, whose connections have the setting.
    let service = Service::on(database.clone(), &[]);
    for event in events(&bearer) {
        allowed(service.authorize(&event).await);
    }
}

#[tokio::test]
async fn a_decision_takes_one_round_trip_as_me_does() {
    let database = Database::migrated().await;
    let proxy = Proxy::to(&database, Link::Up).await;
    let service = Service::on(proxy.of(&database), &[]);
    let token = service.token_of_new_user("alice").await;
    let bearer = format!("Bearer {token}");
    service.get("/auth/me", &token).await;
    let events: Vec<_> = events(&bearer).collect();
    proxy.round_trips();
    for event in &events {
        allowed(service.authorize(event).await);
        assert_eq!(proxy.round_trips(), 1);
    }
    let stranger = events[0].replace(&token, &token.replace('.', "x."));
    assert_denied(service.authorize(&stranger).await, "40103");
    assert_eq!((proxy.round_trips(), proxy.connections()), (0, 1));
}
