//! `POST /auth/logout`.

use axum::http::Method;

use crate::harness::{PASSWORD, SECRET_KEY, Service, request};
use crate::snapshot::assert_reply;

#[tokio::test]
async fn a_logout_answers_200_without_data() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    assert_reply!(service.log_out(&token).await, @r#"200 {"code":1,"message":"success","data":null}"#);
}

#[tokio::test]
async fn a_logout_sets_the_logout_time_once() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let row = "SELECT s FROM people.user_session s";
    let logged_out = "SELECT logout_time BETWEEN login_time AND now() FROM people.user_session";
    assert_eq!(service.database.text(logged_out).await, None);
    service.log_out(&token).await;
    assert_eq!(service.database.text(logged_out).await.as_deref(), Some("true"));
    let before = service.database.text(row).await;
    service.log_out(&token).await.assert_error(40103);
    assert_eq!(service.database.text(row).await, before);
}

#[tokio::test]
async fn a_token_is_revoked_on_every_instance_immediately() {
    let service = Service::start().await;
    let other = Service::on(service.database.clone(), &[]);
    let token = service.token_of_new_user("alice").await;
    assert_eq!(other.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.log_out(&token).await.status, 200);
    for instance in [&other, &service] {
        let reply = instance.get("/auth/me", &token).await;
        reply.assert_error(40103);
        instance.log_out(&token).await.assert_error(40103);
    }
}

#[tokio::test]
async fn other_sessions_of_the_user_stay() {
    let service = Service::start().await;
    let phone = service.token_of_new_user("alice").await;
    let laptop = service.log_in("alice", PASSWORD).await.access_token();
    assert_eq!(service.log_out(&phone).await.status, 200);
    assert_eq!(service.get("/auth/me", &phone).await.status, 401);
    assert_eq!(service.get("/auth/me", &laptop).await.status, 200);
    assert_eq!(
        service
            .database
            .count("people.user_session WHERE logout_time IS NULL")
            .await,
        1
    );
}

#[tokio::test]
async fn a_new_login_after_a_logout_works() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service.log_out(&token).await;
    let again = service.log_in("alice", PASSWORD).await.access_token();
    assert_ne!(again, token);
    assert_eq!(service.get("/auth/me", &again).await.status, 200);
    assert_eq!(service.get("/auth/me", &token).await.status, 401);
}

#[tokio::test]
async fn an_expired_session_cannot_be_logged_out() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service
        .database
        .execute("UPDATE people.user_session SET expires_at = now()")
        .await;
    service.log_out(&token).await.assert_error(40103);
    let open = "people.user_session WHERE logout_time IS NULL";
    assert_eq!(service.database.count(open).await, 1);
}

#[tokio::test]
async fn a_deleted_session_cannot_be_logged_out() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service.database.execute("DELETE FROM people.\"user\"").await;
    assert_eq!(service.database.count("people.user_session").await, 0);
    service.log_out(&token).await.assert_error(40103);
}

#[tokio::test]
async fn a_token_of_another_database_is_refused() {
    let service = Service::start().await;
    service.token_of_new_user("alice").await;
    let foreign = Service::start_with(&[("SECRET_KEY", SECRET_KEY)]).await;
    let token = foreign.token_of_new_user("alice").await;
    service.log_out(&token).await.assert_error(40103);
    assert_eq!(foreign.get("/auth/me", &token).await.status, 200);
}

#[tokio::test]
async fn a_logout_needs_no_body_and_no_content_type() {
    let service = Service::start().await;
    for (userid, headers, body) in [
        ("a", [].as_slice(), ""),
        ("b", &[("content-type", "application/json")], "{}"),
        ("c", &[("content-type", "application/json")], "{"),
        ("d", &[("content-type", "text/plain")], "x"),
    ] {
        let token = service.token_of_new_user(userid).await;
        let authorization = format!("Bearer {token}");
        let mut headers = headers.to_vec();
        headers.push(("authorization", &authorization));
        let reply = service
            .send(request(Method::POST, "/auth/logout", &headers, body))
            .await;
        assert_reply!(reply, @r#"200 {"code":1,"message":"success","data":null}"#);
    }
}

#[tokio::test]
async fn a_get_does_not_log_out() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let reply = service.get("/auth/logout", &token).await;
    reply.assert_error(40501);
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
}
