//! The documentation: the pages, and whether the service matches its OpenAPI description.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use lambda_http::Body;
use local::server::pages;
use serde_json::{Map, Value, json};
use shared::http::event;

use shared::http::Served;

use crate::examples::{body_of, description, encoded_body_of};
use crate::harness::{self, Database, Reply, Service, request};

const JSON: &str = "application/json";

// --- Pages

#[tokio::test]
async fn every_page_is_there_with_the_headers_of_every_answer() {
    let service = Service::start().await;
    let mut paths = BTreeSet::new();
    for page in pages() {
        let (status, headers, body) = service.exchange(request(Method::GET, page.path, &[], "")).await;
        assert_eq!(status, 200, "{}", page.path);
        assert!(!body.is_empty(), "{}", page.path);
        for (name, value) in [
            ("content-type", page.content_type),
            ("content-security-policy", page.content_security_policy),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("strict-transport-security", "max-age=63072000; includeSubDomains"),
        ] {
            let found: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(found, [value], "{}: {name}", page.path);
        }
        assert_eq!(headers.get_all("x-request-id").iter().count(), 1);
        let compressed = headers
            .get("content-encoding")
            .is_some_and(|coding| coding == "gzip");
        assert_eq!(compressed, body.starts_with(b"\x1f\x8b"), "{}", page.path);
        paths.insert(page.path);
    }
    let expected = [
        "/",
        "/confirm-email",
        "/docs",
        "/docs/start.js",
        "/docs/style.css",
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-ui.css",
        "/example/account.js",
        "/example/api.js",
        "/example/confirm-email.js",
        "/example/example.css",
        "/example/link.js",
        "/example/page.js",
        "/example/reset-password.js",
        "/example/sessions.js",
        "/example/words.js",
        "/openapi.json",
        "/reset-password",
    ];
    assert_eq!(paths, expected.into());
}

#[test]
fn a_page_loads_nothing_from_elsewhere_and_has_no_inline_scripts() {
    for page in pages() {
        let policy = page.content_security_policy;
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        for word in ["unsafe", "http:", "https:", "*", "blob:"] {
            assert!(!policy.contains(word), "{policy}");
        }
    }
}

#[tokio::test]
async fn a_page_has_no_other_methods_and_no_other_paths() {
    let service = Service::start().await;
    for page in pages() {
        for method in [Method::POST, Method::PUT, Method::OPTIONS] {
            let reply = service.send(request(method, page.path, &[], "")).await;
            reply.assert_error(40501);
            assert_eq!(reply.header("allow"), Some("GET,HEAD"));
        }
    }
    for path in [
        "/docs/",
        "/docs/index.html",
        "/docs/start.js.map",
        "/docs/../.env",
        "/example",
        "/example/",
        "/index.html",
        "/reset-password/",
        "/reset-password.html",
        "/openapi.yaml",
        "/favicon.ico",
    ] {
        let reply = service.send(request(Method::GET, path, &[], "")).await;
        reply.assert_error(40401);
    }
}

#[tokio::test]
async fn a_page_takes_no_large_body_and_needs_no_database() {
    let nowhere = Database {
        url: "postgres://people@127.0.0.1:1/people?sslmode=disable".to_owned(),
    };
    let service = Service::on(nowhere, &[]);
    let reply = service
        .send(request(Method::GET, "/docs", &[], " ".repeat(16_385)))
        .await;
    reply.assert_error(41301);
    assert_eq!(
        service.send(request(Method::GET, "/docs", &[], "")).await.status,
        200
    );
}

#[tokio::test]
async fn the_function_answers_with_the_events_of_either_gateway() {
    for event in [
        include_str!("../events/docs.json"),
        include_str!("../events/docs-rest.json"),
    ] {
        let answer = async |path: &str| {
            let event = event::request(&event.replace("/docs\"", &format!("{path}\"")));
            shared::http::pages::answer(&functions::docs::PAGES, event).await
        };
        for page in &functions::docs::PAGES {
            let response = answer(page.path).await;
            assert_eq!(response.status(), 200, "{}", page.path);
            assert_eq!(response.headers()["content-type"], page.content_type);
            let compressed = response.headers().contains_key("content-encoding");
            assert_eq!(
                matches!(response.body(), Body::Binary(_)),
                compressed,
                "{}",
                page.path
            );
        }
        for path in ["/docs/nothing", "/docs/start.js/", "/"] {
            let response = answer(path).await;
            assert_eq!(response.status(), 404, "{path}");
            assert_eq!(response.headers()["content-type"], JSON);
        }
    }
}

// --- The description

/// The members of an object in the description, given its path (`/paths/…`).
#[track_caller]
fn members(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

fn resolve<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => description.pointer(&reference[1..]).expect(reference),
        None => value,
    }
}

#[tokio::test]
async fn the_description_is_served_as_it_is_committed() {
    let service = Service::start().await;
    let reply = service.send(request(Method::GET, "/openapi.json", &[], "")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text.as_str()),
        (200, functions::docs::OPENAPI)
    );
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let description = description();
    let described: BTreeSet<(String, String)> = members(&description["paths"])
        .iter()
        .flat_map(|(path, item)| {
            members(item)
                .keys()
                .map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let served = functions::routes()
        .into_iter()
        .map(|route| (route.method().to_owned(), route.path().to_owned()));
    assert_eq!(described, served.collect());
}

#[test]
fn the_token_url_is_that_of_the_token_endpoint() {
    let flow = &description()["components"]["securitySchemes"]["password"]["flows"]["password"];
    assert_eq!(flow["tokenUrl"], "/auth/token");
}

impl Service {
    async fn post_example(&self, path: &str) -> Reply {
        self.post(path, &body_of("POST", path).into()).await
    }
}

/// Provokes the documented response `example` of an endpoint. `None` if that is impossible from outside.
async fn provoke(route: &'static dyn Served, status: &str, example: &str) -> Option<Reply> {
    let service = Service::start().await;
    let (content_type, valid) = encoded_body_of(route);
    let token = async || {
        let alice = service.post_example("/user/register").await;
        assert_eq!(alice.status, 200);
        let (_, body) = encoded_body_of(harness::route("/auth/login"));
        let headers = [("content-type", JSON), ("user-agent", "tests")];
        let login = request(Method::POST, "/auth/login", &headers, body);
        service.send(login).await.access_token()
    };
    let with = async |content_type: &str, authorization: &str, body: String| {
        let headers = [("content-type", content_type), ("authorization", authorization)];
        let method = Method::from_bytes(route.method().as_bytes()).expect("a method");
        service.send(request(method, route.path(), &headers, body)).await
    };
    // The body with each member changed.
    let all = |value: Value| {
        let members = body_of(route.method(), route.path());
        let members = members.into_iter().map(|(name, _)| (name, value.clone()));
        Value::from(members.collect::<Map<_, _>>()).to_string()
    };
    let nowhere = || Database {
        url: "postgres://people@127.0.0.1:1/people?sslmode=disable".to_owned(),
    };
    Some(match (route.path(), example) {
        ("/health", "Health") if status == "503" => Service::on(nowhere(), &[]).send_example(route, "").await,
        // A defect: `envelope` and `panics` have endpoints for this.
        (_, "50001") | ("/health", "50301") => return None,
        (_, "40001") => with(JSON, "", "{".to_owned()).await,
        (_, "Registered" | "Health" | "40101" | "41001" | "OAuth2Error") => {
            service.send_example(route, "").await
        }
        (_, "40102") => with(content_type, "Basic eDp5", valid).await,
        (_, "40103") => with(content_type, "Bearer a.b.c", valid).await,
        (_, "40301") => {
            let token = token().await;
            with(JSON, &format!("Bearer {token}"), all(json!("wrong"))).await
        }
        (_, "40302") => {
            token().await;
            let disable = "UPDATE people.\"user\" SET disabled_at = now()";
            service.database.execute(disable).await;
            service.send_example(route, "").await
        }
        // The path has no id in it.
        (_, "40402") => {
            let token = token().await;
            with(JSON, &format!("Bearer {token}"), String::new()).await
        }
        (_, "40901") => {
            service.send_example(route, "").await;
            service.send_example(route, "").await
        }
        (_, "41301") => with(JSON, "", " ".repeat(16_385)).await,
        (_, "41501") => with("text/plain", "", valid).await,
        (_, "42201") => with(JSON, "", all(json!(1))).await,
        ("/user/register", "42901") => {
            let service = Service::on(service.database, &[("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "1")]);
            service.register("bob").await;
            service.send_example(route, "").await
        }
        ("/auth/forgot", "42901") => {
            let service = Service::on(service.database, &[("MAILS_PER_ADDRESS_PER_HOUR", "1")]);
            service.forgot("bob").await;
            service.send_example(route, "").await
        }
        (_, "42901") => {
            let token = token().await;
            service.log_in("alice", "wrong").await;
            service.database.lock_out().await;
            service.send_example(route, &token).await
        }
        (_, "50301") => {
            let token = token().await;
            Service::on(nowhere(), &[]).send_example(route, &token).await
        }
        // A success.
        _ if status == "200" => {
            let token = token().await;
            let request = service.valid_example(route, &token).await;
            service.send(request).await
        }
        _ => panic!(
            "{}: {example} is documented, and this test does not know how to get it",
            route.key()
        ),
    })
}

/// A value without what differs between responses.
fn constant(mut value: Value) -> Value {
    fn blank(value: &mut Value) {
        const VARIABLE: [&str; 12] = [
            "user_id",
            "session_id",
            "roles",
            "reg_time",
            "login_time",
            "last_seen",
            "expires_at",
            "user_agent",
            "access_token",
            "retry_after",
            "errors",
            "ended",
        ];
        if let Some(members) = value.as_object_mut() {
            for (name, member) in members {
                if VARIABLE.contains(&name.as_str()) {
                    // The member and the kind of value, not the value.
                    *member = json!(std::mem::discriminant(member) == std::mem::discriminant(&json!("")));
                } else {
                    blank(member);
                }
            }
        }
        value.as_array_mut().into_iter().flatten().for_each(blank);
    }
    blank(&mut value);
    value
}

#[tokio::test]
async fn every_documented_answer_is_given_with_its_status_body_and_headers() {
    let description = description();
    for (path, item) in members(&description["paths"]) {
        for (method, operation) in members(item) {
            let mut given = BTreeSet::new();
            for (status, response) in members(&operation["responses"]) {
                for (name, example) in members(&response["content"][JSON]["examples"]) {
                    let key = format!("{} {path}", method.to_uppercase());
                    let mut routes = functions::routes().into_iter();
                    let route = routes.find(|route| route.key() == key).expect("a route");
                    let Some(reply) = provoke(route, status, name).await else {
                        continue;
                    };
                    let what = format!("{method} {path}: {status} {name}");
                    assert_eq!(reply.status.as_str(), status, "{what}");
                    let documented = example["value"].clone();
                    assert_eq!(constant(reply.json()), constant(documented), "{what}");
                    assert_headers(&description, response, &reply, &what);
                    given.insert(status.as_str());
                }
            }
            assert!(
                given.contains("200") && given.contains("503"),
                "{method} {path}: {given:?}"
            );
        }
    }
}

/// Asserts that every documented header has a documented value, except those of other responses with the same status,
/// and that there are no others, except those of the body and of CORS.
#[track_caller]
fn assert_headers(description: &Value, response: &Value, reply: &Reply, what: &str) {
    let common = common_headers(description);
    for (name, value) in &common {
        let found = reply.header(name);
        match value {
            Some(value) => assert_eq!(found, Some(value.as_str()), "{what}: {name}"),
            None => assert!(found.is_some(), "{what}: {name}"),
        }
    }
    let nothing = Map::new();
    let documented = response["headers"].as_object().unwrap_or(&nothing);
    for (name, header) in documented {
        assert!(!common.contains_key(name), "{what}: {name} is every answer's");
        let found = reply.header(name);
        let values = &resolve(description, header)["schema"]["enum"];
        match values.as_array() {
            Some(values) => assert!(values.contains(&json!(found)), "{what}: {name}: {found:?}"),
            None => assert!(found.is_some(), "{what}: {name}"),
        }
    }
    for name in reply.headers.keys().map(axum::http::HeaderName::as_str) {
        let elsewhere = ["content-length", "vary", "access-control-expose-headers"];
        assert!(
            documented.contains_key(name) || common.contains_key(name) || elsewhere.contains(&name),
            "{what}: {name}"
        );
    }
}

/// The table of headers in the description: names, and values if they are constant.
fn common_headers(description: &Value) -> BTreeMap<String, Option<String>> {
    let text = description["info"]["description"].as_str().expect("text");
    let (_, table) = text
        .split_once("## Headers of every response")
        .expect("the table");
    let rows = table.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix("| `")?.split_once("` | ")?;
        let value = value.strip_suffix(" |")?;
        let value = value.strip_prefix('`').and_then(|value| value.strip_suffix('`'));
        Some((name.to_owned(), value.map(str::to_owned)))
    });
    rows.collect()
}

#[test]
fn the_headers_of_every_answer_are_described_once() {
    let names: Vec<_> = common_headers(&description()).into_keys().collect();
    let expected = [
        "cache-control",
        "content-security-policy",
        "content-type",
        "referrer-policy",
        "strict-transport-security",
        "x-content-type-options",
        "x-request-id",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_documented_limits_of_a_request_are_those_that_the_handler_checks() {
    let service = Service::start_with(&[("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "0")]).await;
    let description = description();
    for path in ["/user/register", "/auth/login"] {
        let content = &description["paths"][path]["post"]["requestBody"]["content"][JSON];
        let schema = resolve(&description, &content["schema"]);
        let required: Vec<&str> = schema["required"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        // An account for every request, since each may be accepted.
        let mut accounts = 0..;
        let mut body = |name: &str, value: Option<Value>| {
            let mut body = body_of("POST", path);
            body.insert(
                "userid".to_owned(),
                json!(format!("user{}", accounts.next().expect("a number"))),
            );
            match value {
                Some(value) => body.insert(name.to_owned(), value),
                None => body.remove(name),
            };
            Value::from(body)
        };
        for (name, member) in members(&schema["properties"]) {
            let needed = required.contains(&name.as_str());
            for absent in [None, Some(Value::Null)] {
                let reply = service.post(path, &body(name, absent)).await;
                assert_eq!(refuses(&reply, name), needed, "{path} {name}: absent");
            }
            for wrong in [json!(1), json!(true), json!([]), json!({})] {
                let reply = service.post(path, &body(name, Some(wrong))).await;
                assert!(refuses(&reply, name), "{path} {name}: not a string");
            }
            // Text that is not a common password and matches every pattern.
            let text = |length: u64| match name.as_str() {
                "email" if length > 11 => format!(
                    "{}@example.com",
                    "x".repeat(usize::try_from(length).unwrap() - 12)
                ),
                _ => "407195"
                    .chars()
                    .cycle()
                    .take(usize::try_from(length).unwrap())
                    .collect(),
            };
            if let Some(most) = member["maxLength"].as_u64() {
                let reply = service.post(path, &body(name, Some(json!(text(most))))).await;
                assert!(
                    !refuses(&reply, name),
                    "{path} {name}: {most} characters: {}",
                    reply.text
                );
                let reply = service.post(path, &body(name, Some(json!(text(most + 1))))).await;
                assert!(refuses(&reply, name), "{path} {name}: {} characters", most + 1);
            }
            if let Some(least) = member["minLength"].as_u64() {
                let reply = service.post(path, &body(name, Some(json!(text(least))))).await;
                assert!(
                    !refuses(&reply, name),
                    "{path} {name}: {least} characters: {}",
                    reply.text
                );
                let reply = service
                    .post(path, &body(name, Some(json!(text(least - 1)))))
                    .await;
                assert!(refuses(&reply, name), "{path} {name}: {} characters", least - 1);
            }
        }
    }
}

/// Whether the response is a 422 for exactly this field.
#[track_caller]
fn refuses(reply: &Reply, field: &str) -> bool {
    if reply.status != 422 {
        assert!(reply.status.as_u16() < 422, "{}", reply.text);
        return false;
    }
    let json = reply.json();
    let errors = json["data"]["errors"].as_array().expect("a list");
    let fields: Vec<_> = errors.iter().map(|error| error["field"].as_str()).collect();
    assert_eq!(fields, [Some(field)]);
    true
}
