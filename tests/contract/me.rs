//! `GET /auth/me`.

use serde_json::json;

use crate::harness::{PASSWORD, Service};
use crate::snapshot::assert_reply;

#[tokio::test]
async fn me_answers_user_id_and_the_whole_user_info() {
    let service = Service::start().await;
    let registered = service
        .register_with(json!({
            "userid": "Alice",
            "user_name": "Alice L.",
            "country": "UK",
            "job": "reader",
            "phone": "+44 1",
            "email": "alice@example.com",
            "init_cn_level": "HSK 1",
        }))
        .await
        .json();
    let user_info = &registered["data"]["user_info"];
    let token = service.log_in("alice", PASSWORD).await.access_token();
    let reply = service.get("/auth/me", &token).await;
    assert_eq!(
        reply.json()["data"],
        json!({ "user_id": user_info["user_id"], "user_info": user_info })
    );
    assert_reply!(reply, @r#"
    200 {"code":1,"message":"success","data":{"user_id":"[uuid]","user_info":{"user_id":"[uuid]",
      "userid":"alice","user_name":"Alice L.","country":"UK","job":"reader","phone":"+44 1",
      "email":"alice@example.com","email_verified":false,"init_cn_level":"HSK 1","roles":[],
      "reg_time":"[now]"}}}
    "#);
}

#[tokio::test]
async fn me_returns_the_user_of_the_token_among_many() {
    let service = Service::start().await;
    let alice = service.token_of_new_user("alice").await;
    let bob = service.token_of_new_user("bob").await;
    for (token, userid) in [(alice, "alice"), (bob, "bob")] {
        let me = service.get("/auth/me", &token).await.json();
        assert_eq!(me["data"]["user_info"]["userid"], userid);
        let sql = format!("SELECT user_id FROM people.\"user\" WHERE userid = '{userid}'");
        let user_id = service.database.text(&sql).await;
        assert_eq!(me["data"]["user_id"].as_str(), user_id.as_deref());
    }
}

#[tokio::test]
async fn me_returns_the_current_row() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service
        .database
        .execute("UPDATE people.\"user\" SET user_name = 'Alicia', country = 'ES'")
        .await;
    let info = service.get("/auth/me", &token).await.json()["data"]["user_info"].take();
    assert_eq!(
        (&info["user_name"], &info["country"]),
        (&json!("Alicia"), &json!("ES"))
    );
}

#[tokio::test]
async fn me_changes_nothing() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let rows = "SELECT string_agg(s::text, ' ') || (SELECT string_agg(u::text, ' ') FROM people.\"user\" u)
        FROM people.user_session s";
    let before = service.database.text(rows).await;
    for _ in 0..2 {
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
    }
    assert_eq!(service.database.text(rows).await, before);
}

#[tokio::test]
async fn a_session_that_expired_by_the_databases_clock_is_not_live() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for (expires_at, status) in [
        ("now() - interval '1 second'", 401),
        ("now()", 401),
        ("now() + interval '1 minute'", 200),
    ] {
        service
            .database
            .execute(&format!(
                "UPDATE people.user_session SET expires_at = {expires_at}"
            ))
            .await;
        let reply = service.get("/auth/me", &token).await;
        assert_eq!(reply.status, status, "{expires_at}");
        if status == 401 {
            reply.assert_error(40103);
        }
    }
}

#[tokio::test]
async fn a_token_without_its_session_its_user_or_its_digest_is_not_live() {
    for change in [
        "UPDATE people.user_session SET logout_time = now()",
        "UPDATE people.user_session SET token = repeat('0', 64)",
        "UPDATE people.user_session SET token = NULL",
        "UPDATE people.user_session SET session_id = gen_random_uuid()",
        "UPDATE people.user_session SET user_id = (SELECT user_id FROM people.\"user\" WHERE userid = 'bob')",
        "DELETE FROM people.user_session",
        "DELETE FROM people.\"user\" WHERE userid = 'alice'",
    ] {
        let service = Service::start_with(&[("ARGON2_MEMORY_KIB", "64")]).await;
        service.register("bob").await;
        let token = service.token_of_new_user("alice").await;
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
        service.database.execute(change).await;
        let reply = service.get("/auth/me", &token).await;
        reply.assert_error(40103);
    }
}

#[tokio::test]
async fn a_logged_out_session_stays_revoked_though_it_has_not_expired() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service.log_out(&token).await;
    service
        .database
        .execute("UPDATE people.user_session SET expires_at = now() + interval '1 year'")
        .await;
    let reply = service.get("/auth/me", &token).await;
    reply.assert_error(40103);
}

#[tokio::test]
async fn an_account_without_a_password_keeps_its_sessions() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service
        .database
        .execute("UPDATE people.\"user\" SET password_hash = NULL")
        .await;
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
}
