//! `PATCH /auth/me`.

use axum::http::Method;
use serde_json::{Value, json};

use crate::harness::{PASSWORD, Reply, Service};

impl Service {
    async fn patch(&self, token: &str, body: &Value) -> Reply {
        self.call_as(Method::PATCH, "/auth/me", token, body).await
    }

    async fn alice(&self) -> String {
        let body = json!({
            "userid": "alice", "password": PASSWORD, "user_name": "Alice L.", "country": "UK", "job": "reader",
            "phone": "+44 1", "email": "alice@example.com", "init_cn_level": "HSK 1",
        });
        assert_eq!(self.post("/user/register", &body).await.status, 200);
        self.log_in("alice", PASSWORD).await.access_token()
    }
}

#[tokio::test]
async fn given_members_change_absent_ones_are_kept_and_null_clears() {
    let service = Service::start().await;
    let token = service.alice().await;
    let before = service.get("/auth/me", &token).await.json();
    let mut expected = before["data"]["user_info"].clone();
    for (patch, changes) in [
        (json!({}), json!({})),
        (json!({ "job": "writer" }), json!({ "job": "writer" })),
        (
            json!({ "country": null, "phone": "", "job": "  ", "unknown": 1 }),
            json!({ "country": null, "phone": null, "job": null }),
        ),
        (
            json!({ "user_name": " 爱丽丝 ", "init_cn_level": "HSK 6", "phone": "+86 10" }),
            json!({ "user_name": "爱丽丝", "init_cn_level": "HSK 6", "phone": "+86 10" }),
        ),
        (json!({ "user_name": null }), json!({ "user_name": "alice" })),
    ] {
        for (name, value) in changes.as_object().expect("an object") {
            expected[name] = value.clone();
        }
        let reply = service.patch(&token, &patch).await;
        let data = json!({ "user_info": expected });
        reply.assert_success(&data);
        let me = service.get("/auth/me", &token).await.json();
        assert_eq!(me["data"]["user_info"], expected);
    }
}

#[tokio::test]
async fn every_refused_member_is_named_and_nothing_is_changed() {
    let service = Service::start().await;
    let token = service.alice().await;
    let before = service.get("/auth/me", &token).await.text;
    let reply = service
        .patch(
            &token,
            &json!({
                "userid": "bob", "email": null, "password": "", "roles": ["admin"], "job": "writer", "phone": "x",
                "user_name": 7, "country": "a\u{7}b", "init_cn_level": "x".repeat(33),
            }),
        )
        .await;
    reply.assert_refused(&[
        ("userid", "cannot be changed here"),
        ("email", "cannot be changed here"),
        ("password", "cannot be changed here"),
        ("roles", "cannot be changed here"),
        ("user_name", "must be a string"),
        ("country", "must not have control characters"),
        ("phone", "must have only digits and + ( ) - . and spaces"),
        ("init_cn_level", "must have at most 32 characters"),
    ]);
    assert_eq!(service.get("/auth/me", &token).await.text, before);
}

#[tokio::test]
async fn without_a_live_session_nothing_is_changed() {
    let service = Service::start().await;
    let token = service.alice().await;
    let other = service.token_of_new_user("bob").await;
    service.log_out(&token).await;
    for body in [json!({ "job": "writer" }), json!({})] {
        service.patch(&token, &body).await.assert_error(40103);
    }
    let jobs = "people.\"user\" WHERE job = 'writer'";
    assert_eq!(service.database.count(jobs).await, 0);
    service.patch(&other, &json!({ "job": "writer" })).await;
    assert_eq!(service.database.count(jobs).await, 1);
}
