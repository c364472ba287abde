//! The envelope, every code with its headers, and what `local` does instead of the gateway.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use lambda_http::Body;
use serde_json::json;
use shared::app::App;
use shared::error::Error;
use shared::http::Route;
use shared::telemetry::SecurityEvent;

use crate::harness::{Database, PASSWORD, Reply, Service, request, route};
use crate::health::assert_down;
use crate::snapshot::{Whole, assert_reply};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[utoipa::path(get, path = "/test")]
#[expect(dead_code, reason = "only its description is used")]
fn test_route() {}

impl Service {
    /// Calls a function directly, so that the response has only its own headers.
    async fn call(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let route = route(path);
        let mut request = lambda_http::http::Request::builder()
            .method(route.method())
            .uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::Text(body.to_owned())).expect("a request");
        self.invoke(route, request).await
    }
}

/// An additional header of every response to a log-in.
fn pragma(path: &str) -> Option<&'static str> {
    ["/auth/login", "/auth/token"]
        .contains(&path)
        .then_some("no-cache")
}

#[tokio::test]
async fn a_success_has_code_1() {
    let service = Service::start().await;
    assert_reply!(service.call("/health", &[], "").await, @r#"
    200 {"code":1,"message":"success","data":{"status":"ok","database":"up","schema":"current"}}
    "#);
}

#[tokio::test]
async fn a_success_of_login_has_pragma_too() {
    let service = Service::start().await;
    service.register("alice").await;
    let body = json!({ "userid": "alice", "password": PASSWORD }).to_string();
    let form = "username=alice&password=correct+horse+battery+staple";
    for (content_type, body) in [(JSON, &*body), (FORM, form)] {
        let reply = service.call("/auth/login", &[content_type], body).await;
        assert_eq!(reply.status, 200);
        assert_eq!(Whole::of(&reply).headers, [("pragma", "no-cache")]);
    }
}

#[tokio::test]
async fn a_malformed_body_is_40001() {
    let service = Service::start().await;
    assert_reply!(service.call("/user/register", &[JSON], "{").await, @r#"
    400 {"code":40001,"message":"The body is not one well-formed JSON object.","data":null}
    "#);
    assert_reply!(service.call("/auth/login", &[JSON], "{").await, @r#"
    400 {"code":40001,"message":"The body is not one well-formed JSON object.","data":null}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn wrong_credentials_are_40101_without_a_challenge() {
    let service = Service::start().await;
    let body = r#"{"userid":"nobody","password":"wrong"}"#;
    assert_reply!(service.call("/auth/login", &[JSON], body).await, @r#"
    401 {"code":40101,"message":"The userid or the password is wrong.","data":null}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn missing_credentials_are_40102_with_a_challenge_that_has_no_error() {
    let service = Service::start().await;
    for path in ["/auth/me", "/auth/logout"] {
        assert_reply!(service.call(path, &[], "").await, @r#"
        401 {"code":40102,"message":"A bearer token is required.","data":null}
        www-authenticate: Bearer realm="people"
        "#);
    }
}

#[tokio::test]
async fn a_revoked_token_is_40103_with_the_challenge_invalid_token() {
    let service = Service::start().await;
    for path in ["/auth/me", "/auth/logout"] {
        assert_reply!(service.call(path, &[("authorization", "Bearer a.b.c")], "").await, @r#"
        401 {"code":40103,"message":"The bearer token is not valid or no longer valid.","data":null}
        www-authenticate: Bearer realm="people", error="invalid_token"
        "#);
    }
}

#[tokio::test]
async fn a_taken_userid_is_40901() {
    let service = Service::start().await;
    service.register("alice").await;
    let body = json!({ "userid": "alice", "password": PASSWORD }).to_string();
    assert_reply!(service.call("/user/register", &[JSON], &body).await, @r#"
    409 {"code":40901,"message":"The userid is taken.","data":null}
    "#);
}

#[tokio::test]
async fn a_body_over_16_kib_is_41301_at_every_endpoint() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let bearer = format!("Bearer {token}");
    let body = " ".repeat(16_385);
    for route in functions::routes() {
        let headers = [JSON, ("authorization", bearer.as_str())];
        let reply = service.call(route.path(), &headers, &body).await;
        reply.assert_error(41301);
        assert_eq!(reply.header("pragma"), pragma(route.path()));
    }
}

#[tokio::test]
async fn another_content_type_is_41501() {
    let service = Service::start().await;
    assert_reply!(service.call("/user/register", &[FORM], "userid=alice").await, @r#"
    415 {"code":41501,"message":"The content type is not supported.","data":null}
    "#);
    let text = ("content-type", "text/plain");
    assert_reply!(service.call("/auth/login", &[text], "{}").await, @r#"
    415 {"code":41501,"message":"The content type is not supported.","data":null}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn refused_fields_are_42201_and_all_of_them_are_named() {
    let service = Service::start().await;
    assert_reply!(service.call("/user/register", &[JSON], "{}").await, @r#"
    422 {"code":42201,"message":"At least one field was refused.","data":{"errors":[{"field":"userid",
      "message":"is required"},{"field":"password","message":"is required"}]}}
    "#);
    assert_reply!(service.call("/auth/login", &[JSON], "{}").await, @r#"
    422 {"code":42201,"message":"At least one field was refused.","data":{"errors":[{"field":"userid",
      "message":"is required"},{"field":"password","message":"is required"}]}}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn too_many_attempts_are_42901_with_the_seconds_to_wait() {
    let service = Service::start().await;
    let throttled = Route::<App>::of::<__path_test_route>(|_, _, _| {
        Box::pin(async {
            Err(Error::TooManyAttempts {
                retry_after: 8,
                event: SecurityEvent::TooManyRegistrations,
            })
        })
    });
    let reply = service.invoke(&throttled, lambda_http::Request::default()).await;
    assert_reply!(reply, @r#"
    429 {"code":42901,"message":"There were too many attempts.","data":{"retry_after":8}}
    retry-after: 8
    "#);
}

#[tokio::test]
async fn login_says_how_long_to_wait_to_json_and_form_alike() {
    let service = Service::start().await;
    // The first attempt creates the counts, which are then set as after many failures.
    service.log_in("alice", "wrong").await;
    service.database.lock_out().await;
    let json_body = r#"{"userid":"alice","password":"wrong"}"#;
    for (content_type, body) in [(JSON, json_body), (FORM, "username=alice&password=wrong")] {
        let reply = service.call("/auth/login", &[content_type], body).await;
        let seconds = reply.header("retry-after").expect("retry-after");
        let seconds: u32 = seconds.parse().expect("whole seconds");
        assert!((1..=900).contains(&seconds), "{seconds}");
        reply.assert_too_many(seconds);
        assert_eq!(reply.header("pragma"), Some("no-cache"));
    }
}

#[tokio::test]
async fn a_defect_is_50001_without_details() {
    let service = Service::start().await;
    let broken = Route::<App>::of::<__path_test_route>(|_, _, _| {
        Box::pin(async { Err(Error::Defect("a detail for the log".to_owned())) })
    });
    let reply = service.invoke(&broken, lambda_http::Request::default()).await;
    assert_reply!(reply, @r#"500 {"code":50001,"message":"An internal error occurred.","data":null}"#);
}

#[tokio::test]
async fn a_handler_that_panics_is_50001_and_the_next_request_is_served() {
    let service = Service::start().await;
    let panicking =
        Route::<App>::of::<__path_test_route>(|_, _, _| Box::pin(async { panic!("a detail for nobody") }))
            .with_headers(&[("pragma", "no-cache")]);
    let reply = service.invoke(&panicking, lambda_http::Request::default()).await;
    assert_reply!(reply, @r#"
    500 {"code":50001,"message":"An internal error occurred.","data":null}
    pragma: no-cache
    "#);
    assert_eq!(service.call("/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn an_unreachable_database_is_50301_at_every_endpoint() {
    // Nothing listens on port 1.
    let nowhere = Database {
        url: "postgres://people@127.0.0.1:1/people?sslmode=disable".to_owned(),
    };
    let token = Service::start().await.token_of_new_user("alice").await;
    let service = Service::on(nowhere, &[]);
    for route in functions::routes() {
        let reply = service.send_example(route, &token).await;
        match route.path() {
            "/health" => assert_down(&reply),
            _ => reply.assert_error(50301),
        }
        assert_eq!(reply.header("pragma"), pragma(route.path()));
    }
    let reply = service
        .call("/auth/login", &[FORM], "username=alice&password=x")
        .await;
    reply.assert_error(50301);
    assert_eq!(reply.header("pragma"), pragma("/auth/login"));
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own() {
    let service = Service::start().await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let reply = service.send(request(Method::GET, "/health", &[], "")).await;
        ids.insert(reply.header("x-request-id").expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_client_cannot_choose_the_request_id() {
    let service = Service::start().await;
    let chosen = ("x-request-id", "chosen-by-the-client");
    let reply = service.send(request(Method::GET, "/health", &[chosen], "")).await;
    reply.assert_common_headers();
    assert_ne!(reply.header("x-request-id"), Some("chosen-by-the-client"));
}

#[tokio::test]
async fn an_unknown_path_is_40401() {
    let service = Service::start().await;
    for path in [
        "/nope",
        "/auth",
        "/auth/",
        "/auth/me/",
        "/auth/me/x",
        "//auth/me",
        "/AUTH/ME",
        "/auth/%6de",
        "/auth/./me",
        "/auth/../auth/me",
        "/auth/me%00",
        "/auth/me;x",
        "/user/login",
        "/.env",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let reply = service.send(request(method, path, &[], "")).await;
            reply.assert_error(40401);
            assert_eq!(reply.header("allow"), None, "{path}");
        }
    }
}

#[tokio::test]
async fn another_method_is_40501_and_allow_names_the_right_one() {
    let service = Service::start().await;
    let mut methods: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for route in functions::routes() {
        methods.entry(route.path()).or_default().push(route.method());
    }
    assert_eq!(methods["/auth/me"], ["GET", "PATCH"]);
    for (path, allowed) in methods {
        let mut expected = allowed.clone();
        if allowed.contains(&"GET") {
            expected.push("HEAD");
        }
        expected.sort_unstable();
        for method in [
            "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "post", "BREW",
        ] {
            if allowed.contains(&method) {
                continue;
            }
            let reply = service
                .send(request(
                    Method::from_bytes(method.as_bytes()).expect("a method"),
                    path,
                    &[],
                    "",
                ))
                .await;
            reply.assert_error(40501);
            let mut allow: Vec<_> = reply.header("allow").expect("a list").split(',').collect();
            allow.sort_unstable();
            assert_eq!(allow, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn head_is_a_get_without_a_body_and_no_method_of_a_post() {
    let service = Service::start().await;
    let reply = service.send(request(Method::HEAD, "/health", &[], "")).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
    reply.assert_common_headers();
    let reply = service.send(request(Method::HEAD, "/auth/login", &[], "")).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (405, ""));
    assert_eq!(reply.header("allow"), Some("POST"));
    reply.assert_common_headers();
}

#[tokio::test]
async fn a_query_string_changes_neither_path_nor_method() {
    let service = Service::start().await;
    let reply = service
        .send(request(Method::GET, "/health?path=/auth/me", &[], ""))
        .await;
    assert_eq!(reply.status, 200);
    let reply = service
        .send(request(Method::POST, "/health?_method=GET", &[], ""))
        .await;
    reply.assert_error(40501);
}

#[tokio::test]
async fn the_allowed_origin_may_read_responses_and_errors() {
    let service = Service::start().await;
    let origin = ("origin", "http://localhost:5173");
    for (method, path, status) in [
        (Method::GET, "/health", 200),
        (Method::GET, "/auth/me", 401),
        (Method::GET, "/nope", 404),
        (Method::GET, "/auth/login", 405),
        (Method::POST, "/auth/login", 415),
    ] {
        let reply = service.send(request(method, path, &[origin], "")).await;
        assert_eq!(reply.status, status);
        reply.assert_common_headers();
        let allowed: Vec<_> = reply
            .headers
            .get_all("access-control-allow-origin")
            .iter()
            .collect();
        assert_eq!(allowed, ["http://localhost:5173"]);
        assert_eq!(
            reply.header("access-control-expose-headers"),
            Some("retry-after,www-authenticate,x-request-id")
        );
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert!(reply.header("vary").is_some_and(|vary| vary.contains("origin")));
    }
}

/// Origins similar to the allowed one, and invalid ones.
const EVIL_ORIGINS: [&str; 15] = [
    "null",
    "*",
    "",
    "http://evil.example",
    "https://localhost:5173",
    "http://localhost",
    "http://localhost:51730",
    "http://localhost:517",
    "http://localhost:5173/",
    "http://localhost:5173.evil.example",
    "http://localhost:5173@evil.example",
    "http://evil.example/http://localhost:5173",
    "http://127.0.0.1:5173",
    "HTTP://LOCALHOST:5173",
    "http://localhost:5173, http://evil.example",
];

#[tokio::test]
async fn no_other_origin_is_allowed_or_reflected() {
    let service = Service::start().await;
    for origin in EVIL_ORIGINS {
        let reply = service
            .send(request(Method::GET, "/health", &[("origin", origin)], ""))
            .await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
    }
}

#[tokio::test]
async fn a_preflight_of_the_allowed_origin_lists_methods_and_headers() {
    let service = Service::start().await;
    for path in ["/user/register", "/auth/login", "/auth/logout", "/auth/me"] {
        let reply = service
            .send(request(
                Method::OPTIONS,
                path,
                &[
                    ("origin", "http://localhost:5173"),
                    ("access-control-request-method", "POST"),
                    ("access-control-request-headers", "authorization,content-type"),
                ],
                "",
            ))
            .await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
        for (name, value) in [
            ("access-control-allow-origin", "http://localhost:5173"),
            ("access-control-allow-methods", "GET,POST,PATCH,DELETE"),
            ("access-control-allow-headers", "authorization,content-type"),
            ("access-control-max-age", "7200"),
        ] {
            assert_eq!(reply.header(name), Some(value));
        }
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
}

#[tokio::test]
async fn local_has_the_same_cors_headers_as_the_template() {
    let template = include_str!("../../template.yaml");
    let (_, cors) = template
        .split_once("CorsConfiguration:")
        .expect("in the template");
    let of_template = |name: &str| {
        let (_, rest) = cors.split_once(&format!("{name}: ")).expect(name);
        let line = rest.lines().next().expect("a line");
        line.trim_matches(['[', ']']).replace(", ", ",")
    };
    let service = Service::start().await;
    let origin = ("origin", "http://localhost:5173");
    let preflight = [origin, ("access-control-request-method", "POST")];
    let preflight = service
        .send(request(Method::OPTIONS, "/auth/login", &preflight, ""))
        .await;
    let answer = service.send(request(Method::GET, "/health", &[origin], "")).await;
    for (name, reply, header) in [
        ("AllowMethods", &preflight, "access-control-allow-methods"),
        ("AllowHeaders", &preflight, "access-control-allow-headers"),
        ("MaxAge", &preflight, "access-control-max-age"),
        ("ExposeHeaders", &answer, "access-control-expose-headers"),
    ] {
        assert_eq!(reply.header(header), Some(&*of_template(name)), "{name}");
    }
}

#[tokio::test]
async fn a_preflight_of_another_origin_allows_nothing() {
    let service = Service::start().await;
    for origin in EVIL_ORIGINS {
        let reply = service
            .send(request(
                Method::OPTIONS,
                "/auth/login",
                &[("origin", origin), ("access-control-request-method", "POST")],
                "",
            ))
            .await;
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
    }
}
