//! `GET /auth/sessions`, `DELETE /auth/sessions`, `DELETE /auth/sessions/{session_id}`, and the lifetime of sessions.

use axum::http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::examples::session_id;
use crate::harness::{PASSWORD, Service, request};
use crate::snapshot::assert_reply;

/// The settings that end a session after an hour without a request.
const IDLE: [(&str, &str); 2] = [
    ("SESSION_IDLE_MINUTES", "60"),
    ("ACCESS_TOKEN_EXPIRE_MINUTES", "1440"),
];

impl Service {
    /// Logs in with this user agent.
    async fn log_in_as(&self, userid: &str, user_agent: &str) -> String {
        let headers = [("content-type", "application/json"), ("user-agent", user_agent)];
        let body = json!({ "userid": userid, "password": PASSWORD }).to_string();
        let reply = self
            .send(request(Method::POST, "/auth/login", &headers, body))
            .await;
        reply.access_token()
    }

    /// The ids of the sessions in the list for `token`.
    async fn listed(&self, token: &str) -> Vec<String> {
        let list = self.sessions(token).await.json();
        let sessions = list["data"]["sessions"].as_array().expect("a list");
        let ids = sessions.iter().map(|session| session["session_id"].as_str());
        ids.map(|id| id.expect("an id").to_owned()).collect()
    }
}

#[tokio::test]
async fn the_list_has_every_live_session_newest_first_with_its_device_and_address() {
    let service = Service::start().await;
    service.register("alice").await;
    let phone = service.log_in_as("alice", "Phone/1.0").await;
    let laptop = service.log_in_as("alice", "Laptop/2.0").await;
    let reply = service.sessions(&phone).await;
    assert_reply!(reply, @r#"
    200 {"code":1,"message":"success","data":{"sessions":[{"session_id":"[uuid]","current":false,
      "login_time":"[now]","last_seen":"[now]","expires_at":"[now]","user_agent":"Laptop/2.0",
      "address":"203.0.113.7"},{"session_id":"[uuid]","current":true,"login_time":"[now]",
      "last_seen":"[now]","expires_at":"[now]","user_agent":"Phone/1.0","address":"203.0.113.7"}]}}
    "#);
    assert_eq!(
        service.listed(&phone).await,
        [session_id(&laptop), session_id(&phone)]
    );
}

#[tokio::test]
async fn a_user_agent_is_kept_without_control_characters_up_to_256_code_points() {
    let service = Service::start().await;
    service.register("alice").await;
    for (sent, kept) in [
        (b"Caf\xc3\xa9\tBrowser".to_vec(), Some("CaféBrowser".to_owned())),
        ("学".repeat(300).into_bytes(), Some("学".repeat(256))),
        (b"latin-1: \xe9".to_vec(), Some("latin-1: \u{fffd}".to_owned())),
        (b"\t".to_vec(), None),
        (
            b"'); DROP TABLE people.\"user\"; --".to_vec(),
            Some("'); DROP TABLE people.\"user\"; --".to_owned()),
        ),
    ] {
        let body = json!({ "userid": "alice", "password": PASSWORD }).to_string();
        let mut login = request(
            Method::POST,
            "/auth/login",
            &[("content-type", "application/json")],
            body,
        );
        let value = axum::http::HeaderValue::from_bytes(&sent).expect("a header");
        login.headers_mut().insert("user-agent", value);
        let token = service.send(login).await.access_token();
        let list = service.sessions(&token).await.json();
        assert_eq!(list["data"]["sessions"][0]["user_agent"], json!(kept));
    }
}

#[tokio::test]
async fn the_list_has_only_live_sessions() {
    let service = Service::start_with(&IDLE).await;
    service.register("alice").await;
    let token = service.log_in("alice", PASSWORD).await.access_token();
    let others = [
        "logout_time = now()",
        "expires_at = now()",
        "last_seen = now() - interval '61 minutes'",
        "password_version = 7",
    ];
    for change in others {
        let other = service.log_in("alice", PASSWORD).await.access_token();
        assert_eq!(service.listed(&token).await.len(), 2, "{change}");
        let session = session_id(&other);
        let sql = format!("UPDATE people.user_session SET {change} WHERE session_id = '{session}'");
        service.database.execute(&sql).await;
        assert_eq!(service.listed(&token).await, [session_id(&token)], "{change}");
        service.sessions(&other).await.assert_error(40103);
        service.end_session(&token, &session).await.assert_error(40402);
    }
}

#[tokio::test]
async fn the_list_has_no_sessions_of_other_users() {
    let service = Service::start().await;
    let alice = service.token_of_new_user("alice").await;
    service.token_of_new_user("bob").await;
    assert_eq!(service.listed(&alice).await, [session_id(&alice)]);
}

#[tokio::test]
async fn of_more_than_100_sessions_the_newest_and_always_the_current_one_are_listed() {
    let service = Service::start().await;
    let oldest = service.token_of_new_user("alice").await;
    let sql = "INSERT INTO people.user_session (session_id, user_id, token, login_time, expires_at)
        SELECT gen_random_uuid(), user_id, repeat('0', 64), now() + n * interval '1 second', now() + interval '1 hour'
        FROM people.\"user\", generate_series(1, 150) AS n";
    service.database.execute(sql).await;
    let listed = service.listed(&oldest).await;
    assert_eq!(listed.len(), 100);
    assert_eq!(listed.last(), Some(&session_id(&oldest)));
    let newest = "SELECT session_id FROM people.user_session ORDER BY login_time DESC LIMIT 1";
    assert_eq!(service.database.text(newest).await.as_ref(), listed.first());
}

#[tokio::test]
async fn an_ended_session_is_revoked_everywhere_immediately_and_others_continue() {
    let service = Service::start().await;
    let other_instance = Service::on(service.database.clone(), &[]);
    let phone = service.token_of_new_user("alice").await;
    let laptop = service.log_in("alice", PASSWORD).await.access_token();
    let tablet = service.log_in("alice", PASSWORD).await.access_token();
    assert_eq!(other_instance.get("/auth/me", &laptop).await.status, 200);
    let reply = service.end_session(&phone, &session_id(&laptop)).await;
    reply.assert_success(&Value::Null);
    for instance in [&service, &other_instance] {
        instance.get("/auth/me", &laptop).await.assert_error(40103);
    }
    for token in [&phone, &tablet] {
        assert_eq!(service.get("/auth/me", token).await.status, 200);
    }
    let again = service.end_session(&phone, &session_id(&laptop)).await;
    again.assert_error(40402);
}

#[tokio::test]
async fn ids_of_other_users_unknown_and_malformed_ids_get_the_same_response() {
    let service = Service::start().await;
    let alice = service.token_of_new_user("alice").await;
    let bob = service.token_of_new_user("bob").await;
    let id = session_id(&alice);
    let upper = id.to_uppercase();
    let ids = [
        &session_id(&bob),
        "00000000-0000-0000-0000-000000000000",
        "4d2f9f30-5a3b-4c6e-9a1e-0d8c5b7e6f01",
        "0",
        "..%2Fsessions",
        "%00",
        "%F0%9F%98%80",
        &id[1..],
        "'",
    ];
    for other in ids {
        service.end_session(&alice, other).await.assert_error(40402);
    }
    assert_eq!(service.get("/auth/me", &bob).await.status, 200);
    // The same UUID in another spelling is the same.
    assert_eq!(service.end_session(&alice, &upper).await.status, 200);
}

#[tokio::test]
async fn ending_the_current_session_is_a_log_out() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let reply = service.end_session(&token, &session_id(&token)).await;
    reply.assert_success(&Value::Null);
    let reply = service.end_session(&token, &session_id(&token)).await;
    reply.assert_error(40103);
}

#[tokio::test]
async fn ending_the_others_keeps_the_current_session() {
    let service = Service::start().await;
    let phone = service.token_of_new_user("alice").await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(service.log_in("alice", PASSWORD).await.access_token());
    }
    let bob = service.token_of_new_user("bob").await;
    let reply = service.end_other_sessions(&phone).await;
    reply.assert_success(&json!({ "ended": 3, "more": false }));
    for token in &others {
        service.get("/auth/me", token).await.assert_error(40103);
    }
    for token in [&phone, &bob] {
        assert_eq!(service.get("/auth/me", token).await.status, 200);
    }
    let reply = service.end_other_sessions(&phone).await;
    reply.assert_success(&json!({ "ended": 0, "more": false }));
}

#[tokio::test]
async fn at_most_1000_sessions_end_per_request_which_reports_that_there_may_be_more() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let sql = "INSERT INTO people.user_session (session_id, user_id, token, expires_at)
        SELECT gen_random_uuid(), user_id, repeat('0', 64), now() + interval '1 hour'
        FROM people.\"user\", generate_series(1, 1001)";
    service.database.execute(sql).await;
    for (ended, more) in [(1000, true), (1, false)] {
        let reply = service.end_other_sessions(&token).await;
        reply.assert_success(&json!({ "ended": ended, "more": more }));
    }
    assert_eq!(service.listed(&token).await, [session_id(&token)]);
}

#[tokio::test]
async fn a_log_in_beyond_100_live_sessions_ends_the_oldest() {
    let service = Service::start().await;
    let oldest = service.token_of_new_user("alice").await;
    let sql = "INSERT INTO people.user_session (session_id, user_id, token, login_time, expires_at)
        SELECT gen_random_uuid(), user_id, repeat('0', 64), now() + n * interval '1 second', now() + interval '1 hour'
        FROM people.\"user\", generate_series(1, 98) AS n";
    service.database.execute(sql).await;
    let hundredth = service.log_in("alice", PASSWORD).await.access_token();
    assert_eq!(service.get("/auth/me", &oldest).await.status, 200);
    let one_more = service.log_in("alice", PASSWORD).await.access_token();
    service.get("/auth/me", &oldest).await.assert_error(40103);
    for token in [&hundredth, &one_more] {
        assert_eq!(service.get("/auth/me", token).await.status, 200);
    }
    assert_eq!(service.listed(&one_more).await.len(), 100);
}

#[tokio::test]
async fn idle_sessions_do_not_count_among_the_100() {
    let service = Service::start_with(&IDLE).await;
    let oldest = service.token_of_new_user("alice").await;
    let sql = "INSERT INTO people.user_session (session_id, user_id, token, expires_at, last_seen)
        SELECT gen_random_uuid(), user_id, repeat('0', 64), now() + interval '1 day', now() - interval '2 hours'
        FROM people.\"user\", generate_series(1, 200)";
    service.database.execute(sql).await;
    service.log_in("alice", PASSWORD).await;
    assert_eq!(service.get("/auth/me", &oldest).await.status, 200);
}

#[tokio::test]
async fn a_session_that_was_idle_too_long_has_ended_for_every_route() {
    let service = Service::start_with(&IDLE).await;
    let token = service.token_of_new_user("alice").await;
    let seen = |minutes: u32| {
        format!("UPDATE people.user_session SET last_seen = now() - interval '{minutes} minutes'")
    };
    service.database.execute(&seen(59)).await;
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    service.database.execute(&seen(61)).await;
    let id = session_id(&token);
    for reply in [
        service.get("/auth/me", &token).await,
        service.sessions(&token).await,
        service.end_session(&token, &id).await,
        service.end_other_sessions(&token).await,
        service
            .call_as(Method::PATCH, "/auth/me", &token, &json!({ "job": "x" }))
            .await,
        service
            .call_as(Method::PATCH, "/auth/me", &token, &json!({}))
            .await,
        service
            .change_password(&token, PASSWORD, "six candles under the bridge")
            .await,
        service.delete_user(&token, PASSWORD).await,
        service.log_out(&token).await,
    ] {
        reply.assert_error(40103);
    }
    assert_eq!(service.database.text(&format!("SELECT last_seen < now() - interval '60 minutes' FROM people.user_session WHERE session_id = '{id}'")).await.as_deref(), Some("true"));
    // Without the limit it continues.
    let unlimited = Service::on(service.database.clone(), &[]);
    assert_eq!(unlimited.get("/auth/me", &token).await.status, 200);
}

#[tokio::test]
async fn use_is_recorded_once_in_15_minutes_by_every_route() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let other = session_id(&service.log_in("alice", PASSWORD).await.access_token());
    let id = session_id(&token);
    let set = |minutes: u32| {
        format!(
            "UPDATE people.user_session SET last_seen = now() - interval '{minutes} minutes' WHERE session_id = '{id}'"
        )
    };
    let now = format!(
        "SELECT last_seen > now() - interval '1 minute' FROM people.user_session WHERE session_id = '{id}'"
    );
    let profile = json!({ "job": "reader" });
    let address = json!({ "email": "alice@example.com", "current_password": PASSWORD });
    for (what, method, path, body) in [
        ("me", Method::GET, "/auth/me".to_owned(), &Value::Null),
        ("list", Method::GET, "/auth/sessions".to_owned(), &Value::Null),
        (
            "end one",
            Method::DELETE,
            format!("/auth/sessions/{other}"),
            &Value::Null,
        ),
        (
            "end the others",
            Method::DELETE,
            "/auth/sessions".to_owned(),
            &Value::Null,
        ),
        ("profile", Method::PATCH, "/auth/me".to_owned(), &profile),
        ("empty profile", Method::PATCH, "/auth/me".to_owned(), &json!({})),
        ("address", Method::POST, "/auth/email".to_owned(), &address),
    ] {
        if what != "end one" {
            service.database.execute(&set(14)).await;
            assert_eq!(
                service.call_as(method.clone(), &path, &token, body).await.status,
                200,
                "{what}"
            );
            assert_eq!(
                service.database.text(&now).await.as_deref(),
                Some("false"),
                "{what}, seen lately"
            );
        }
        service.database.execute(&set(16)).await;
        assert_eq!(
            service.call_as(method, &path, &token, body).await.status,
            200,
            "{what}"
        );
        assert_eq!(
            service.database.text(&now).await.as_deref(),
            Some("true"),
            "{what}, not seen for long"
        );
    }
}

#[tokio::test]
async fn rejected_requests_do_not_record_use() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service
        .database
        .execute("UPDATE people.user_session SET last_seen = now() - interval '1 day'")
        .await;
    let nobody = "00000000-0000-0000-0000-000000000001";
    assert_eq!(service.end_session(&token, nobody).await.status, 404);
    assert_eq!(
        service
            .change_password(&token, "wrong", "six candles under the bridge")
            .await
            .status,
        403
    );
    let stale = "people.user_session WHERE last_seen < now() - interval '23 hours'";
    assert_eq!(service.database.count(stale).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_concurrent_requests_of_a_stale_session_record_use_once() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service
        .database
        .execute(
            "UPDATE people.user_session SET last_seen = now() - interval '1 day';
             CREATE TABLE public.noted (n int);
             CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.noted VALUES (1); RETURN new; END $$;
             CREATE TRIGGER note AFTER UPDATE ON people.user_session FOR EACH ROW EXECUTE FUNCTION public.note()",
        )
        .await;
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let (service, token) = (service.clone(), token.clone());
        requests.spawn(async move { service.get("/auth/me", &token).await.status });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(service.database.count("public.noted").await, 1);
}

#[tokio::test]
async fn a_stale_session_is_live_on_a_read_only_server() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let name = service.database.name().to_owned();
    service
        .database
        .execute(&format!(
            "UPDATE people.user_session SET last_seen = now() - interval '1 day';
             ALTER DATABASE {name} SET default_transaction_read_only = on"
        ))
        .await;
    // A new instance, for connections with the setting.
    let service = Service::on(service.database.clone(), &[]);
    for _ in 0..3 {
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
        assert_eq!(service.sessions(&token).await.status, 200);
    }
    let reply = service.end_other_sessions(&token).await;
    reply.assert_error(50301);
}

#[tokio::test]
async fn a_session_of_a_disabled_user_is_not_live_until_the_user_is_enabled() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service
        .database
        .execute("UPDATE people.\"user\" SET disabled_at = now()")
        .await;
    for reply in [
        service.get("/auth/me", &token).await,
        service.sessions(&token).await,
        service.delete_user(&token, PASSWORD).await,
        service.log_out(&token).await,
    ] {
        reply.assert_error(40103);
    }
    service
        .database
        .execute("UPDATE people.\"user\" SET disabled_at = NULL")
        .await;
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
}
