//! `POST /auth/token`: an OAuth2 token endpoint (RFC 6749 §4.3, §5.1, §5.2), also for the form of `POST /auth/login`.

use axum::http::Method;
use serde_json::json;

use crate::harness::{PASSWORD, Reply, Service, request};
use crate::snapshot::assert_reply;

const FORM: &str = "application/x-www-form-urlencoded";
const ALICE: &str = "username=alice&password=correct+horse+battery+staple";

/// Asserts an object of §5.1, with exactly these three members.
pub fn assert_granted(reply: &Reply) {
    assert_reply!(reply, @r#"
    200 {"access_token":"[token]","token_type":"bearer","expires_in":3600}
    pragma: no-cache
    "#);
}

/// Asserts an object of §5.2, for each reason.
fn assert_malformed(reply: &Reply) {
    assert_reply!(reply, @r#"
    400 {"error":"invalid_request","error_description":"The form is malformed or repeats a parameter."}
    pragma: no-cache
    "#);
}

fn assert_missing(reply: &Reply) {
    assert_reply!(reply, @r#"
    400 {"error":"invalid_request","error_description":"The username or the password is missing."}
    pragma: no-cache
    "#);
}

fn assert_invalid_grant(reply: &Reply) {
    assert_reply!(reply, @r#"
    400 {"error":"invalid_grant","error_description":"The username or the password is wrong."}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn a_form_logs_in_with_or_without_a_grant_type() {
    let service = Service::start().await;
    service.register("alice").await;
    for form in [
        ALICE.to_owned(),
        format!("grant_type=password&{ALICE}"),
        format!("{ALICE}&grant_type=password"),
        // A parameter without a value counts as absent.
        format!("grant_type=&{ALICE}"),
        format!("grant_type&{ALICE}"),
    ] {
        let reply = service.post_form(&form).await;
        assert_granted(&reply);
        let me = service.get("/auth/me", &reply.access_token()).await;
        assert_eq!(me.json()["data"]["user_info"]["userid"], "alice");
    }
}

#[tokio::test]
async fn additional_parameters_of_stock_clients_are_ignored() {
    let service = Service::start().await;
    service.register("alice").await;
    // As sent by Swagger's Authorize button, and by clients that send their credentials in the header.
    let form = format!("grant_type=password&{ALICE}&scope=&client_id=&client_secret=");
    assert_granted(&service.post_form(&form).await);
    let form = format!("grant_type=password&{ALICE}&scope=a+b&client_id=app&client_secret=x&audience=y");
    let basic = ("authorization", "Basic YXBwOng=");
    let reply = service
        .send(request(
            Method::POST,
            "/auth/token",
            &[("content-type", FORM), basic],
            form,
        ))
        .await;
    assert_granted(&reply);
}

#[tokio::test]
async fn the_content_type_may_have_a_charset_and_any_case() {
    let service = Service::start().await;
    service.register("alice").await;
    for content_type in [
        "application/x-www-form-urlencoded;charset=UTF-8",
        "Application/X-WWW-Form-Urlencoded ; charset=utf-8",
    ] {
        let reply = service.post_bytes("/auth/token", content_type, ALICE).await;
        assert_granted(&reply);
    }
}

#[tokio::test]
async fn percent_and_plus_are_decoded_in_names_and_values() {
    let service = Service::start().await;
    let body = json!({ "userid": "a+b%é", "password": "100% correct+horse & battery=staple ж" });
    assert_eq!(service.post("/user/register", &body).await.status, 200);
    for form in [
        "username=a%2Bb%25%C3%A9&password=100%25+correct%2bhorse+%26+battery%3Dstaple+%D0%B6",
        "%75sername=a%2bb%25%c3%a9&pass%77ord=100%25%20correct%2Bhorse%20%26%20battery=staple%20ж",
        // A percent sign that does not begin an escape is literal.
        "username=a%2Bb%é&password=100%+correct%2bhorse+%26+battery=staple+ж",
    ] {
        assert_granted(&service.post_form(form).await);
    }
}

#[tokio::test]
async fn wrong_credentials_are_an_invalid_grant_whatever_is_wrong() {
    let service = Service::start().await;
    service.register("alice").await;
    service.register("bob").await;
    service
        .database
        .execute("UPDATE people.\"user\" SET password_hash = NULL WHERE userid = 'bob'")
        .await;
    for form in [
        "username=alice&password=wrong",
        "username=nobody&password=correct+horse+battery+staple",
        "username=bob&password=correct+horse+battery+staple",
        "username=a%20b%E2%80%8B&password=x",
    ] {
        assert_invalid_grant(&service.post_form(form).await);
    }
}

#[tokio::test]
async fn the_password_is_not_trimmed() {
    let service = Service::start().await;
    let body = json!({ "userid": "alice", "password": "  spaces around  " });
    assert_eq!(service.post("/user/register", &body).await.status, 200);
    assert_granted(
        &service
            .post_form("username=alice&password=++spaces+around++")
            .await,
    );
    let reply = service.post_form("username=alice&password=spaces+around").await;
    assert_invalid_grant(&reply);
}

#[tokio::test]
async fn a_missing_username_or_password_is_an_invalid_request() {
    let service = Service::start().await;
    for form in [
        "",
        "&",
        "&&=&",
        "username=alice",
        "password=x",
        "grant_type=password",
        "username=&password=x",
        "username=alice&password=",
        "username&password",
        "userid=alice&password=x",
        "USERNAME=alice&PASSWORD=x",
        "{\"userid\":\"alice\",\"password\":\"x\"}",
    ] {
        assert_missing(&service.post_form(form).await);
    }
}

#[tokio::test]
async fn a_repeated_parameter_is_an_invalid_request() {
    let service = Service::start().await;
    service.register("alice").await;
    for more in [
        "username=alice",
        "password=x",
        "password=",
        "%70assword=x",
        "grant_type=password&grant_type=password",
        "scope=a&scope=a",
    ] {
        assert_malformed(&service.post_form(&format!("{ALICE}&{more}")).await);
    }
    assert_eq!(service.database.count("people.user_session").await, 0);
}

#[tokio::test]
async fn a_form_that_is_not_utf_8_is_an_invalid_request() {
    let service = Service::start().await;
    for form in [
        b"username=alice&password=%FF".as_slice(),
        b"username=alice&password=%C0%AF",
        b"username=%ED%A0%80&password=x",
        b"username=alice&password=x&%80=1",
        b"username=alice&password=\xff",
        b"\xfe\xff",
    ] {
        let reply = service.post_bytes("/auth/token", FORM, form).await;
        assert_malformed(&reply);
    }
}

#[tokio::test]
async fn a_nul_is_an_invalid_request() {
    let service = Service::start().await;
    for form in [
        b"username=a%00lice&password=x".as_slice(),
        b"username=alice&password=x%00",
        b"username=alice&password=\0",
    ] {
        let reply = service.post_bytes("/auth/token", FORM, form).await;
        assert_reply!(reply, @r#"
        400 {"error":"invalid_request",
          "error_description":"The username or the password has a NUL character."}
        pragma: no-cache
        "#);
    }
}

fn assert_unsupported(reply: &Reply) {
    assert_reply!(reply, @r#"
    400 {"error":"unsupported_grant_type","error_description":"The grant_type must be password."}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn another_grant_type_is_unsupported() {
    let service = Service::start().await;
    service.register("alice").await;
    for grant_type in [
        "client_credentials",
        "authorization_code",
        "refresh_token",
        "Password",
        "password+",
        "%20password",
        "x",
    ] {
        let reply = service
            .post_form(&format!("grant_type={grant_type}&{ALICE}"))
            .await;
        assert_unsupported(&reply);
    }
    let reply = service.post_form("grant_type=client_credentials").await;
    assert_unsupported(&reply);
}

#[tokio::test]
async fn credentials_in_the_query_are_not_read() {
    let service = Service::start().await;
    service.register("alice").await;
    let path = format!("/auth/token?{ALICE}&grant_type=password");
    let reply = service.post_bytes(&path, FORM, "").await;
    assert_missing(&reply);
}

#[tokio::test]
async fn a_form_of_16384_bytes_is_read_and_one_of_16385_is_41301() {
    let service = Service::start().await;
    service.register("alice").await;
    let form_of = |bytes: usize| format!("{ALICE}&x={}", "x".repeat(bytes - ALICE.len() - 3));
    assert_granted(&service.post_form(&form_of(16_384)).await);
    let reply = service.post_form(&form_of(16_385)).await;
    reply.assert_error(41301);
}

#[tokio::test]
async fn a_form_and_json_open_the_same_kind_of_session() {
    let service = Service::start().await;
    service.register("alice").await;
    service.post_form(ALICE).await;
    service.log_in("alice", PASSWORD).await;
    let live =
        "people.user_session WHERE logout_time IS NULL AND expires_at - login_time = interval '1 hour'";
    assert_eq!(service.database.count(live).await, 2);
}

#[tokio::test]
async fn the_token_endpoint_does_not_accept_json() {
    let service = Service::start().await;
    service.register("alice").await;
    let body = json!({ "userid": "alice", "password": PASSWORD });
    let reply = service.post("/auth/token", &body).await;
    reply.assert_error(41501);
    assert_eq!(reply.header("pragma"), Some("no-cache"));
}

/// The path for the form, and that of the earlier back end.
const PATHS: [&str; 2] = ["/auth/token", "/auth/login"];
const HOST: (&str, &str) = ("host", "127.0.0.1:3000");

async fn post_from_page(
    service: &Service,
    path: &str,
    headers: &[(&str, &str)],
    form: &'static str,
) -> Reply {
    let headers = [&[("content-type", FORM), HOST], headers].concat();
    service.send(request(Method::POST, path, &headers, form)).await
}

#[tokio::test]
async fn a_form_sent_by_a_page_of_another_origin_is_an_invalid_request_and_not_counted() {
    let service = Service::start().await;
    service.register("alice").await;
    for headers in [
        [("sec-fetch-site", "cross-site"), ("accept", "*/*")],
        [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.example"),
        ],
        [
            ("sec-fetch-site", "same-site"),
            ("origin", "http://127.0.0.1:8000"),
        ],
        [("origin", "https://evil.example"), ("accept", "*/*")],
        [("origin", "http://localhost:5174"), ("accept", "*/*")],
        [("origin", "http://127.0.0.1:3001"), ("accept", "*/*")],
        [("origin", "null"), ("accept", "*/*")],
        [("origin", ""), ("accept", "*/*")],
        [
            ("origin", "http://localhost:5173"),
            ("origin", "https://evil.example"),
        ],
    ] {
        for path in PATHS {
            // The right password, a wrong one, and none: a page cannot tell the difference.
            for form in [ALICE, "username=alice&password=wrong", "", "grant_type=x"] {
                let reply = post_from_page(&service, path, &headers, form).await;
                assert_reply!(reply, @r#"
                400 {"error":"invalid_request","error_description":"A page of another origin sent the form."}
                pragma: no-cache
                "#);
            }
        }
    }
    // The registration is counted once.
    assert_eq!(service.database.count("people.attempt").await, 1);
    let more = "people.attempt WHERE forgotten_at > now() + interval '36 seconds' OR in_flight <> '{}'";
    assert_eq!(service.database.count(more).await, 0);
    assert_eq!(service.database.count("people.user_session").await, 0);
}

#[tokio::test]
async fn a_form_sent_by_an_own_or_allowed_page_or_by_no_page_logs_in() {
    let service = Service::start().await;
    service.register("alice").await;
    for headers in [
        [("accept", "*/*"), ("user-agent", "curl/8.5.0")],
        [
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://127.0.0.1:3000"),
        ],
        // A page that sends no referrer.
        [("sec-fetch-site", "same-origin"), ("origin", "null")],
        [
            ("sec-fetch-site", "same-site"),
            ("origin", "http://localhost:5173"),
        ],
        [("origin", "http://127.0.0.1:3000"), ("accept", "*/*")],
        [("origin", "http://localhost:5173"), ("accept", "*/*")],
    ] {
        for path in PATHS {
            assert_granted(&post_from_page(&service, path, &headers, ALICE).await);
        }
    }
}

#[tokio::test]
async fn json_from_any_page_is_left_to_the_preflight() {
    let service = Service::start().await;
    service.register("alice").await;
    let headers = [
        ("content-type", "application/json"),
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    let body = json!({ "userid": "alice", "password": PASSWORD }).to_string();
    let reply = service
        .send(request(Method::POST, "/auth/login", &headers, body))
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), None);
}
