//! `POST /auth/login` with JSON.

use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{PASSWORD, Service, request, sha256_hex};
use crate::snapshot::{Whole, assert_reply};

#[tokio::test]
async fn a_login_answers_token_lifetime_and_the_whole_user_info() {
    let service = Service::start().await;
    let registered = service
        .register_with(json!({
            "userid": "Alice",
            "country": "UK",
            "job": "reader",
            "phone": "+44 1",
            "email": "alice@example.com",
            "init_cn_level": "HSK 1",
        }))
        .await
        .json();
    let reply = service.log_in("Alice", PASSWORD).await;
    assert_eq!(reply.json()["data"]["user_info"], registered["data"]["user_info"]);
    assert_reply!(reply, @r#"
    200 {"code":1,"message":"success","data":{"access_token":"[token]","token_type":"bearer",
      "expires_in":3600,"user_info":{"user_id":"[uuid]","userid":"alice","user_name":"Alice",
      "country":"UK","job":"reader","phone":"+44 1","email":"alice@example.com","email_verified":false,
      "init_cn_level":"HSK 1","roles":[],"reg_time":"[now]"}}}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn any_spelling_of_the_userid_logs_in() {
    let service = Service::start().await;
    service.register("Ａlicé").await;
    for userid in ["alicé", "ALICÉ", "Alice\u{301}", "ａｌｉｃé", "ａＬｉＣé"] {
        let reply = service.log_in(userid, PASSWORD).await;
        assert_eq!(reply.status, 200, "{userid}");
        assert_eq!(reply.json()["data"]["user_info"]["userid"], "alicé");
    }
}

#[tokio::test]
async fn an_unknown_userid_a_wrong_password_and_an_account_without_one_get_the_same_response() {
    let service = Service::start().await;
    service.register("alice").await;
    service.register("bob").await;
    service
        .database
        .execute("UPDATE people.\"user\" SET password_hash = NULL WHERE userid = 'bob'")
        .await;
    let unknown = service.log_in("nobody", PASSWORD).await;
    unknown.assert_error(40101);
    let wrong = service.log_in("alice", "wrong").await;
    let without = service.log_in("bob", PASSWORD).await;
    // A userid that could not be registered is simply unknown.
    let unusable = service.log_in("a b\u{200b}", PASSWORD).await;
    let endless = service.log_in(&"x".repeat(5_000), &"y".repeat(5_000)).await;
    for other in [wrong, without, unusable, endless] {
        assert_eq!(Whole::of(&other), Whole::of(&unknown));
    }
    assert_eq!(service.database.count("people.user_session").await, 0);
}

#[tokio::test]
async fn a_password_is_compared_exactly() {
    let service = Service::start().await;
    service.register("alice").await;
    for (n, wrong) in [
        "correct horse battery stapl",
        "correct horse battery staple ",
        " correct horse battery staple",
        "Correct horse battery staple",
        "correct  horse battery staple",
        "correct horse battery staplee",
        "correct\u{a0}horse battery staple",
        "ｃorrect horse battery staple",
        "correct horse battery staple\u{200b}",
    ]
    .into_iter()
    .enumerate()
    {
        // From different addresses: a single one would soon have to wait.
        let mut attempt = request(
            Method::POST,
            "/auth/login",
            &[("content-type", "application/json")],
            json!({ "userid": "alice", "password": wrong }).to_string(),
        );
        let source = format!("203.0.113.{n}:1").parse::<std::net::SocketAddr>();
        attempt
            .extensions_mut()
            .insert(axum::extract::ConnectInfo(source.expect("an address")));
        service.send(attempt).await.assert_error(40101);
    }
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn no_policy_applies_to_a_password_that_is_tried() {
    let service = Service::start().await;
    service.register("alice").await;
    for tried in ["x", "password", &"p".repeat(1_000), "alice"] {
        service.log_in("alice", tried).await.assert_error(40101);
    }
}

#[tokio::test]
async fn a_missing_an_empty_or_a_wrongly_typed_field_is_refused() {
    let service = Service::start().await;
    let (required, string, empty) = ("is required", "must be a string", "must not be empty");
    for (body, refused) in [
        (json!({}), [("userid", required), ("password", required)]),
        (
            json!({ "userid": null, "password": null }),
            [("userid", required), ("password", required)],
        ),
        (
            json!({ "userid": 1, "password": ["x"] }),
            [("userid", string), ("password", string)],
        ),
        (
            json!({ "userid": "", "password": "" }),
            [("userid", empty), ("password", empty)],
        ),
        (
            json!({ "username": "alice", "password": false }),
            [("userid", required), ("password", string)],
        ),
        (
            json!({ "userid": "a\u{0}", "password": "b\u{0}" }),
            [
                ("userid", "must not have a NUL character"),
                ("password", "must not have a NUL character"),
            ],
        ),
    ] {
        let reply = service.post("/auth/login", &body).await;
        reply.assert_refused(&refused);
        assert_eq!(reply.header("pragma"), Some("no-cache"));
    }
    let reply = service
        .post("/auth/login", &json!({ "userid": "alice", "password": {} }))
        .await;
    reply.assert_refused(&[("password", string)]);
}

#[tokio::test]
async fn members_that_are_not_declared_are_ignored() {
    let service = Service::start().await;
    service.register("alice").await;
    let reply = service
        .post(
            "/auth/login",
            &json!({ "userid": "alice", "password": PASSWORD, "username": "bob", "grant_type": 7 }),
        )
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["data"]["user_info"]["userid"], "alice");
}

#[tokio::test]
async fn sql_in_a_field_is_plain_text() {
    let service = Service::start().await;
    service.register("alice").await;
    for userid in [
        "alice'--",
        "' OR '1'='1",
        "alice\"; DROP TABLE people.\"user\"; --",
        "$1",
        "%",
        "a_ice",
    ] {
        service.log_in(userid, PASSWORD).await.assert_error(40101);
    }
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn every_login_is_a_session_of_its_own_and_earlier_ones_stay() {
    let service = Service::start().await;
    service.register("alice").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(service.log_in("alice", PASSWORD).await.access_token());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 3);
    assert_eq!(
        service
            .database
            .count("people.user_session WHERE logout_time IS NULL")
            .await,
        3
    );
    for token in &tokens {
        assert_eq!(service.get("/auth/me", token).await.status, 200);
    }
}

#[tokio::test]
async fn the_session_row_has_the_digest_of_the_token_and_its_times() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let row = service
        .database
        .text("SELECT token FROM people.user_session")
        .await;
    assert_eq!(row, Some(sha256_hex(&token)));
    let times = service
        .database
        .text(
            "SELECT expires_at - login_time = interval '1 hour' AND logout_time IS NULL
                AND login_time BETWEEN now() - interval '1 hour' AND now() FROM people.user_session",
        )
        .await;
    assert_eq!(times.as_deref(), Some("true"));
    let owner = "people.user_session s JOIN people.\"user\" u USING (user_id) WHERE u.userid = 'alice'";
    assert_eq!(service.database.count(owner).await, 1);
}

#[tokio::test]
async fn no_raw_token_and_no_password_is_anywhere_in_the_database() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let tables = "SELECT string_agg(row, ' ') FROM (
            SELECT u::text AS row FROM people.\"user\" u
            UNION ALL SELECT s::text FROM people.user_session s
            UNION ALL SELECT a::text FROM people.attempt a
            UNION ALL SELECT k::text FROM people.known_network k
        ) AS rows";
    let everything = service.database.text(tables).await.expect("rows");
    assert!(everything.contains("alice"), "{everything}");
    for secret in [PASSWORD, &token].into_iter().chain(token.split('.')) {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
}

#[tokio::test]
async fn the_lifetime_is_a_setting() {
    let service = Service::start_with(&[("ACCESS_TOKEN_EXPIRE_MINUTES", "525600")]).await;
    service.register("alice").await;
    let reply = service.log_in("alice", PASSWORD).await;
    assert_eq!(reply.json()["data"]["expires_in"], 31_536_000);
    let lifetime = service
        .database
        .text("SELECT extract(epoch FROM expires_at - login_time)::bigint FROM people.user_session")
        .await;
    assert_eq!(lifetime.as_deref(), Some("31536000"));
    assert_eq!(service.get("/auth/me", &reply.access_token()).await.status, 200);
}

#[tokio::test]
async fn an_account_of_the_python_back_end_logs_in() {
    let service = Service::start().await;
    // No name, no new reg_time, and a userid that registration would reject today.
    service
        .database
        .execute(
            "INSERT INTO people.\"user\" (user_id, userid, user_name, reg_time, password_hash) VALUES
                ('00000000-0000-0000-0000-000000000001', 'old user', NULL, '2020-02-29 12:34:56.789+00',
                 '$2b$04$abcdefghijklmnopqrstuu7EJV7kdjBBQxyb0HjTh9KS7.Lah/6CG')",
        )
        .await;
    let reply = service.log_in("Old User", PASSWORD).await;
    assert_reply!(reply, @r#"
    200 {"code":1,"message":"success","data":{"access_token":"[token]","token_type":"bearer",
      "expires_in":3600,"user_info":{"user_id":"00000000-0000-0000-0000-000000000001",
      "userid":"old user","user_name":"old user","country":null,"job":null,"phone":null,"email":null,
      "email_verified":false,"init_cn_level":null,"roles":[],"reg_time":"2020-02-29T12:34:56.789Z"}}}
    pragma: no-cache
    "#);
}

#[tokio::test]
async fn reg_time_has_the_precision_of_the_database() {
    let service = Service::start().await;
    service.register("alice").await;
    for (stored, told) in [
        ("2026-01-02 03:04:05+00", "2026-01-02T03:04:05Z"),
        ("2026-01-02 03:04:05.6+02", "2026-01-02T01:04:05.600Z"),
        ("2026-01-02 03:04:05.000001+00", "2026-01-02T03:04:05.000001Z"),
    ] {
        service
            .database
            .execute(&format!("UPDATE people.\"user\" SET reg_time = '{stored}'"))
            .await;
        let info = service.log_in("alice", PASSWORD).await.json()["data"]["user_info"].take();
        let reg_time = info["reg_time"].as_str().expect("text");
        assert!(reg_time.ends_with('Z'), "{reg_time}");
        let reg_time: DateTime<Utc> = reg_time.parse().expect("RFC 3339");
        assert_eq!(reg_time, told.parse::<DateTime<Utc>>().expect("RFC 3339"));
    }
}

#[tokio::test]
async fn the_token_names_user_and_session() {
    let service = Service::start().await;
    let user_id = service.register("alice").await.json()["data"]["user_info"]["user_id"].take();
    service.log_in("alice", PASSWORD).await;
    let row = "SELECT session_id || ' ' || user_id FROM people.user_session";
    let row = service.database.text(row).await.expect("a session");
    let (session, user) = row.split_once(' ').expect("two ids");
    assert_eq!(user_id, Value::from(user));
    assert_eq!(session.parse::<Uuid>().expect("a UUID").get_version_num(), 4);
}
