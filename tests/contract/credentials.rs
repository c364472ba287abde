//! `POST /auth/password`, `POST /user/delete`, and disabled accounts.

use axum::http::Method;
use serde_json::{Value, json};

use crate::examples::session_id;
use crate::harness::{PASSWORD, Service};

const NEW: &str = "six candles under the bridge";

#[tokio::test]
async fn a_new_password_ends_every_other_session_and_keeps_this_one() {
    let service = Service::start().await;
    let phone = service.token_of_new_user("alice").await;
    let laptop = service.log_in("alice", PASSWORD).await.access_token();
    let reply = service.change_password(&laptop, PASSWORD, NEW).await;
    reply.assert_success(&Value::Null);
    service.get("/auth/me", &phone).await.assert_error(40103);
    assert_eq!(service.get("/auth/me", &laptop).await.status, 200);
    let reply = service.log_in("alice", PASSWORD).await;
    reply.assert_error(40101);
    assert_eq!(service.log_in("alice", NEW).await.status, 200);
    // The ended session is marked, for readers of the table.
    let marked = format!(
        "people.user_session WHERE session_id = '{}' AND logout_time IS NOT NULL",
        session_id(&phone)
    );
    assert_eq!(service.database.count(&marked).await, 1);
    // Again, from the remaining session.
    let reply = service.change_password(&laptop, NEW, PASSWORD).await;
    reply.assert_success(&Value::Null);
    assert_eq!(service.get("/auth/me", &laptop).await.status, 200);
}

#[tokio::test]
async fn the_owner_is_notified_if_there_is_an_address() {
    let service = Service::start().await;
    let body = json!({ "userid": "alice", "password": PASSWORD, "email": "alice@example.com" });
    service.post("/user/register", &body).await;
    let token = service.log_in("alice", PASSWORD).await.access_token();
    service.change_password(&token, PASSWORD, NEW).await;
    let bob = service.token_of_new_user("bob").await;
    service.change_password(&bob, PASSWORD, NEW).await;
    let told = "SELECT string_agg(concat_ws(' ', kind, o.userid, address, u.userid), ',')
        FROM people.outbox o JOIN people.\"user\" u USING (user_id)";
    assert_eq!(
        service.database.text(told).await.as_deref(),
        Some("password_changed alice@example.com alice")
    );
}

#[tokio::test]
async fn a_wrong_current_password_changes_nothing_and_counts_as_a_failed_log_in() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for attempt in 0..10 {
        let reply = if attempt % 2 == 0 {
            service.change_password(&token, "wrong", NEW).await
        } else {
            service.delete_user(&token, "wrong").await
        };
        reply.assert_error(40301);
    }
    service
        .change_password(&token, PASSWORD, NEW)
        .await
        .assert_too_many(1);
    service.delete_user(&token, PASSWORD).await.assert_too_many(1);
    service.log_in("alice", PASSWORD).await.assert_too_many(1);
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
}

#[tokio::test]
async fn a_right_current_password_clears_the_count() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for (current, new) in [(PASSWORD, NEW), (NEW, PASSWORD)] {
        for _ in 0..9 {
            service
                .change_password(&token, "wrong", NEW)
                .await
                .assert_error(40301);
        }
        assert_eq!(service.change_password(&token, current, new).await.status, 200);
    }
    // Even if the new password is rejected.
    for _ in 0..3 {
        for _ in 0..9 {
            service
                .change_password(&token, "wrong", NEW)
                .await
                .assert_error(40301);
        }
        assert_eq!(
            service.change_password(&token, PASSWORD, "short").await.status,
            422
        );
    }
}

#[tokio::test]
async fn fields_are_checked_before_the_session_and_the_rules_for_the_new_password_last() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let post =
        async |token: &str, body: &Value| service.call_as(Method::POST, "/auth/password", token, body).await;
    post("x", &json!({ "current_password": 1 }))
        .await
        .assert_refused(&[
            ("current_password", "must be a string"),
            ("new_password", "is required"),
        ]);
    let short = json!({ "current_password": "wrong", "new_password": "short" });
    post("x", &short).await.assert_error(40103);
    post(&token, &short).await.assert_error(40301);
    for (new, message) in [
        ("", "must have at least 8 characters"),
        ("short", "must have at least 8 characters"),
        ("nul\0in the middle", "must not have a NUL character"),
        ("P@ssw0rd123", "is a simple variation of a common password"),
        (
            "alice-2026",
            "is easily guessed from the userid, user name, e-mail, phone or the service's name",
        ),
    ] {
        let reply = service.change_password(&token, PASSWORD, new).await;
        reply.assert_refused(&[("new_password", message)]);
    }
    service
        .call_as(Method::POST, "/user/delete", "x", &json!({ "password": null }))
        .await
        .assert_refused(&[("password", "is required")]);
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn without_a_live_session_nothing_is_counted() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service.log_out(&token).await;
    service.database.execute("DELETE FROM people.attempt").await;
    service
        .change_password(&token, PASSWORD, NEW)
        .await
        .assert_error(40103);
    service.delete_user(&token, PASSWORD).await.assert_error(40103);
    assert_eq!(service.database.count("people.attempt").await, 0);
}

#[tokio::test]
async fn a_deleted_user_loses_all_sessions_and_the_userid_is_free() {
    let service = Service::start().await;
    let body = json!({ "userid": "alice", "password": PASSWORD, "email": "alice@example.com" });
    service.post("/user/register", &body).await;
    let phone = service.log_in("alice", PASSWORD).await.access_token();
    let laptop = service.log_in("alice", PASSWORD).await.access_token();
    let user_id = service
        .database
        .text("SELECT user_id FROM people.\"user\"")
        .await
        .expect("a user");
    service
        .delete_user(&phone, PASSWORD)
        .await
        .assert_success(&Value::Null);
    for token in [&phone, &laptop] {
        service.get("/auth/me", token).await.assert_error(40103);
    }
    service.delete_user(&phone, PASSWORD).await.assert_error(40103);
    let reply = service.log_in("alice", PASSWORD).await;
    reply.assert_error(40101);
    // Only the outbox still mentions the user.
    let sent = format!(
        "people.outbox WHERE kind = 'user_deleted' AND user_id = '{user_id}' AND address = 'alice@example.com'"
    );
    assert_eq!(service.database.count(&sent).await, 1);
    service.database.execute("DELETE FROM people.outbox").await;
    let tables = "SELECT string_agg(query_to_xml('SELECT * FROM people.' || quote_ident(relname), false, false, '')::text, '')
        FROM pg_class WHERE relnamespace = 'people'::regnamespace AND relkind = 'r'";
    let rows = service.database.text(tables).await.expect("rows");
    for trace in ["alice", &user_id, &session_id(&phone), &session_id(&laptop)] {
        assert!(!rows.contains(trace), "{trace}");
    }
    let again = service.post("/user/register", &body).await.json();
    assert_ne!(again["data"]["user_info"]["user_id"].as_str(), Some(&*user_id));
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn only_somebody_who_knows_the_password_learns_that_an_account_is_disabled() {
    let service = Service::start().await;
    service.register("alice").await;
    service
        .database
        .execute("UPDATE people.\"user\" SET disabled_at = now()")
        .await;
    for _ in 0..5 {
        let reply = service.log_in("alice", PASSWORD).await;
        reply.assert_error(40302);
        let reply = service.log_in("alice", "wrong").await;
        reply.assert_error(40101);
    }
    // Each attempt counts.
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 429);
    assert_eq!(service.database.count("people.user_session").await, 0);
    service
        .database
        .execute("DELETE FROM people.attempt; UPDATE people.\"user\" SET disabled_at = NULL")
        .await;
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_disabled_account_is_an_invalid_grant_to_an_oauth2_client() {
    let service = Service::start().await;
    service.register("alice").await;
    service
        .database
        .execute("UPDATE people.\"user\" SET disabled_at = now()")
        .await;
    let reply = service
        .post_form("username=alice&password=correct+horse+battery+staple")
        .await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()),
        (
            400,
            json!({ "error": "invalid_grant", "error_description": "The account is disabled." })
        )
    );
    reply.assert_common_headers();
}
