//! `POST /auth/email` and `POST /auth/email/confirm`: an address is verified, or changed, by a link that was sent to
//! it.

use axum::http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{FAST, PASSWORD, Service, token_of, written};

const NEW: &str = "six candles under the bridge";
const OLD_ADDRESS: &str = "alice@example.com";
const NEW_ADDRESS: &str = "alice@example.org";

/// A service with alice, who has an address, and her token.
async fn with_alice() -> (Service, String) {
    let service = Service::start_with(&FAST).await;
    let reply = service.register_with(json!({ "email": OLD_ADDRESS })).await;
    assert_eq!(reply.status, 200);
    let token = service.log_in("alice", PASSWORD).await.access_token();
    (service, token)
}

/// The token of the link that confirms `address`.
async fn link_for(service: &Service, token: &str, address: &str) -> String {
    let reply = service.change_email(token, address, PASSWORD).await;
    reply.assert_success(&Value::Null);
    service.mailed_token().await
}

/// Address, and whether it is verified.
async fn address(service: &Service, token: &str) -> (Value, Value) {
    let user_info = service.get("/auth/me", token).await.json()["data"]["user_info"].take();
    (user_info["email"].clone(), user_info["email_verified"].clone())
}

#[tokio::test]
async fn the_present_address_is_verified_by_its_link() {
    let (service, token) = with_alice().await;
    let reply = service.change_email(&token, OLD_ADDRESS, PASSWORD).await;
    reply.assert_success(&Value::Null);
    let mails = service.mails().await;
    let link = token_of(&mails[0]);
    insta::assert_snapshot!(written(&mails).replace(&link, "[token]"), @r#"
    To: alice@example.com
    Subject: Confirm your e-mail address

    Follow this link to make this the address of the account "alice"; it is valid for 24 hours:

    https://app.example.com/email#token=[token]

    If you did not ask for this, ignore this mail: nothing has changed.
    "#);
    assert_eq!(
        address(&service, &token).await,
        (json!(OLD_ADDRESS), json!(false))
    );
    service.confirm_email(&link).await.assert_success(&Value::Null);
    assert_eq!(address(&service, &token).await, (json!(OLD_ADDRESS), json!(true)));
    // Nobody has lost an address.
    assert_eq!(service.mails().await, []);
}

#[tokio::test]
async fn an_address_changes_when_its_link_is_followed_and_the_former_one_is_told() {
    let (service, token) = with_alice().await;
    let link = link_for(&service, &token, "  alice@example.org ").await;
    assert_eq!(
        address(&service, &token).await,
        (json!(OLD_ADDRESS), json!(false))
    );
    // The link needs no session.
    service.log_out(&token).await;
    service.confirm_email(&link).await.assert_success(&Value::Null);
    let token = service.log_in("alice", PASSWORD).await.access_token();
    assert_eq!(address(&service, &token).await, (json!(NEW_ADDRESS), json!(true)));
    insta::assert_snapshot!(written(&service.mails().await), @r#"
    To: alice@example.com
    Subject: Your e-mail address was changed

    This is no longer the address of the account "alice": it has another one now.

    If this was not you, ask the support of the application.
    "#);
    // Sessions go on.
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
}

#[tokio::test]
async fn an_account_without_an_address_gets_one() {
    let service = Service::start_with(&FAST).await;
    let token = service.token_of_new_user("alice").await;
    let link = link_for(&service, &token, NEW_ADDRESS).await;
    service.confirm_email(&link).await.assert_success(&Value::Null);
    assert_eq!(address(&service, &token).await, (json!(NEW_ADDRESS), json!(true)));
    assert_eq!(service.mails().await, []);
}

#[tokio::test]
async fn a_confirmation_may_be_repeated_until_the_address_changes_again() {
    let (service, token) = with_alice().await;
    let there = link_for(&service, &token, NEW_ADDRESS).await;
    for _ in 0..3 {
        service.confirm_email(&there).await.assert_success(&Value::Null);
    }
    assert_eq!(service.mails().await.len(), 1);
    let back = link_for(&service, &token, OLD_ADDRESS).await;
    service.confirm_email(&back).await.assert_success(&Value::Null);
    service.confirm_email(&there).await.assert_error(41001);
    service.confirm_email(&back).await.assert_success(&Value::Null);
    assert_eq!(address(&service, &token).await, (json!(OLD_ADDRESS), json!(true)));
}

#[tokio::test]
async fn of_several_links_that_were_asked_for_one_changes_the_address() {
    let (service, token) = with_alice().await;
    let first = link_for(&service, &token, "first@example.org").await;
    let second = link_for(&service, &token, "second@example.org").await;
    let confirmations = (0..10).map(|n| {
        let (service, link) = (service.clone(), [&first, &second][n % 2].clone());
        async move { (n % 2, service.confirm_email(&link).await.status.as_u16()) }
    });
    let statuses = confirmations.collect::<JoinSet<_>>().join_all().await;
    let of = |link| {
        statuses
            .iter()
            .filter(move |(n, _)| *n == link)
            .map(|(_, status)| *status)
    };
    let mut outcomes = [of(0).collect::<Vec<_>>(), of(1).collect()];
    // Whichever came first, all its repetitions succeed, and none of the other's.
    outcomes.sort();
    assert_eq!(outcomes, [[200; 5].to_vec(), [410; 5].to_vec()]);
    assert_eq!(service.database.deadlocks().await, 0);
    assert_eq!(service.mails().await.len(), 1);
}

#[tokio::test]
async fn what_changes_the_account_ends_the_link() {
    for (change, sql) in [
        (
            "a new password",
            "UPDATE people.\"user\" SET password_version = password_version + 1",
        ),
        (
            "another hash",
            "UPDATE people.\"user\" SET password_hash = password_hash || ' '",
        ),
        (
            "another address",
            "UPDATE people.\"user\" SET email = 'x@example.com', email_version = email_version + 1",
        ),
        ("disabled", "UPDATE people.\"user\" SET disabled_at = now()"),
        ("gone", "DELETE FROM people.\"user\""),
    ] {
        let (service, token) = with_alice().await;
        let link = link_for(&service, &token, NEW_ADDRESS).await;
        service.database.execute(sql).await;
        let reply = service.confirm_email(&link).await;
        assert_eq!(reply.json()["code"], 41001, "{change}");
    }
}

#[tokio::test]
async fn a_link_that_was_asked_for_nearly_a_day_ago_is_valid() {
    let (service, token) = with_alice().await;
    let reply = service.change_email(&token, NEW_ADDRESS, PASSWORD).await;
    reply.assert_success(&Value::Null);
    let older = "UPDATE people.outbox SET asked_at = now() - interval '23 hours 55 minutes'";
    service.database.execute(older).await;
    let link = service.mailed_token().await;
    service.confirm_email(&link).await.assert_success(&Value::Null);
}

#[tokio::test]
async fn a_wrong_current_password_counts_and_sends_nothing() {
    let (service, token) = with_alice().await;
    for _ in 0..10 {
        service
            .change_email(&token, NEW_ADDRESS, "wrong")
            .await
            .assert_error(40301);
    }
    service
        .change_email(&token, NEW_ADDRESS, PASSWORD)
        .await
        .assert_too_many(1);
    assert_eq!(service.mails().await, []);
}

#[tokio::test]
async fn fields_are_checked_before_the_session_and_the_shape_of_the_address_last() {
    let (service, token) = with_alice().await;
    let body = json!({ "email": 1 });
    let reply = service.call_as(Method::POST, "/auth/email", "x", &body).await;
    reply.assert_refused(&[("email", "must be a string"), ("current_password", "is required")]);
    service
        .change_email("x", "no address", "wrong")
        .await
        .assert_error(40103);
    service
        .change_email(&token, "no address", "wrong")
        .await
        .assert_error(40301);
    for _ in 0..12 {
        // Given back each time.
        let reply = service.change_email(&token, "no address", PASSWORD).await;
        reply.assert_refused(&[("email", "must be an e-mail address of at most 254 characters")]);
    }
    assert_eq!(service.mails().await, []);
}

#[tokio::test]
async fn a_link_for_an_address_sets_no_password_and_the_other_way_round() {
    let (service, token) = with_alice().await;
    let email_link = link_for(&service, &token, NEW_ADDRESS).await;
    service.forgot("alice").await;
    let reset_link = service.mailed_token().await;
    service.reset(&email_link, NEW).await.assert_error(41001);
    service.confirm_email(&reset_link).await.assert_error(41001);
    // Nor is it an access token.
    service.get("/auth/me", &email_link).await.assert_error(40103);
}

#[tokio::test]
async fn a_profile_cannot_change_the_address() {
    let (service, token) = with_alice().await;
    let body = json!({ "email": NEW_ADDRESS });
    let reply = service.call_as(Method::PATCH, "/auth/me", &token, &body).await;
    reply.assert_refused(&[("email", "cannot be changed here")]);
}
