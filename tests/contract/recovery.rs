//! `POST /auth/forgot` and `POST /auth/reset`: a new password by a link in a mail.

use axum::http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{FAST, PASSWORD, SECRET_KEY, Service, request, token_of, written};

const NEW: &str = "six candles under the bridge";
const ADDRESS: &str = "alice@example.com";

/// A service with alice, who has an address.
async fn with_alice(settings: &[(&str, &str)]) -> Service {
    let service = Service::start_with(settings).await;
    let reply = service.register_with(json!({ "email": ADDRESS })).await;
    assert_eq!(reply.status, 200);
    service
}

/// A valid token for a new password of `account`.
async fn token_for(service: &Service, account: &str) -> String {
    service.forgot(account).await.assert_success(&Value::Null);
    service.mailed_token().await
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_by_a_link_and_every_session_ends() {
    let service = with_alice(&FAST).await;
    let phone = service.log_in("alice", PASSWORD).await.access_token();
    service.forgot("alice").await.assert_success(&Value::Null);
    let mails = service.mails().await;
    let token = token_of(&mails[0]);
    insta::assert_snapshot!(written(&mails).replace(&token, "[token]"), @r#"
    To: alice@example.com
    Subject: Set a new password

    Somebody asked for a new password for the account "alice". This link sets one; it is valid for one hour:

    https://app.example.com/reset#token=[token]

    If you did not ask for this, ignore this mail: nothing has changed.
    "#);
    assert_eq!(token.len(), 48);
    service.reset(&token, NEW).await.assert_success(&Value::Null);
    service.get("/auth/me", &phone).await.assert_error(40103);
    service.log_in("alice", PASSWORD).await.assert_error(40101);
    let reply = service.log_in("alice", NEW).await;
    assert_eq!(reply.json()["data"]["user_info"]["email_verified"], true);
    // The owner is told.
    let mails = service.mails().await;
    insta::assert_snapshot!(written(&mails), @r#"
    To: alice@example.com
    Subject: Your password was changed

    The password of the account "alice" was changed, and its other sessions have ended.

    If this was not you, set a new one: ask for a mail with "I forgot my password".
    "#);
    // The ended session is marked, for readers of the table.
    let open = "people.user_session WHERE logout_time IS NULL";
    assert_eq!(service.database.count(open).await, 1);
}

#[tokio::test]
async fn a_link_is_used_once() {
    let service = with_alice(&FAST).await;
    let token = token_for(&service, "alice").await;
    service.reset(&token, NEW).await.assert_success(&Value::Null);
    service.reset(&token, PASSWORD).await.assert_error(41001);
    assert_eq!(service.log_in("alice", NEW).await.status, 200);
}

#[tokio::test]
async fn of_parallel_uses_of_a_link_one_succeeds() {
    let service = with_alice(&FAST).await;
    let token = token_for(&service, "alice").await;
    let uses = (0..20).map(|n| {
        let (service, token) = (service.clone(), token.clone());
        async move { service.reset(&token, &format!("{NEW} {n}")).await }
    });
    let replies = uses.collect::<JoinSet<_>>().join_all().await;
    let done = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(done, 1);
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.assert_error(41001);
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test]
async fn a_refused_password_leaves_the_link_valid() {
    let service = with_alice(&FAST).await;
    let token = token_for(&service, "alice").await;
    for (new, message) in [
        ("short", "must have at least 8 characters"),
        (
            "alice@example",
            "is easily guessed from the userid, user name, e-mail, phone or the service's name",
        ),
        ("P@ssw0rd123", "is a simple variation of a common password"),
    ] {
        let reply = service.reset(&token, new).await;
        reply.assert_refused(&[("new_password", message)]);
    }
    service.reset(&token, NEW).await.assert_success(&Value::Null);
}

#[tokio::test]
async fn missing_fields_are_refused_before_the_link() {
    let service = with_alice(&FAST).await;
    let reply = service.post("/auth/reset", &json!({ "token": 1 })).await;
    reply.assert_refused(&[("token", "must be a string"), ("new_password", "is required")]);
    let reply = service
        .post("/auth/email/confirm", &json!({ "token": null }))
        .await;
    reply.assert_refused(&[("token", "is required")]);
    for account in [
        json!(null),
        json!(""),
        json!("  "),
        json!("a".repeat(255)),
        json!("a\0b"),
        json!(1),
    ] {
        let reply = service.post("/auth/forgot", &json!({ "account": account })).await;
        assert_eq!(reply.status, 422, "{account}");
    }
    assert_eq!(service.forgot(&"漢".repeat(254)).await.status, 200);
    // The link is judged before the new password.
    service.reset("x", "short").await.assert_error(41001);
}

#[tokio::test]
async fn what_changes_the_account_ends_the_link() {
    let changes: [(&str, &str); 6] = [
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
            "UPDATE people.\"user\" SET email = 'other@example.com'",
        ),
        ("no address", "UPDATE people.\"user\" SET email = NULL"),
        ("disabled", "UPDATE people.\"user\" SET disabled_at = now()"),
        ("gone", "DELETE FROM people.\"user\""),
    ];
    for (change, sql) in changes {
        let service = with_alice(&FAST).await;
        let token = token_for(&service, "alice").await;
        service.database.execute(sql).await;
        let reply = service.reset(&token, NEW).await;
        assert_eq!(reply.json()["code"], 41001, "{change}");
    }
}

#[tokio::test]
async fn a_log_in_that_replaces_the_hash_ends_the_link() {
    let service = with_alice(&[]).await;
    let token = token_for(&service, "alice").await;
    let stronger = Service::on(service.database.clone(), &FAST);
    assert_eq!(stronger.log_in("alice", PASSWORD).await.status, 200);
    service.reset(&token, NEW).await.assert_error(41001);
}

#[tokio::test]
async fn a_link_is_valid_for_an_hour_from_the_request() {
    let service = with_alice(&FAST).await;
    for (age, status) in [("59 minutes 50 seconds", 200), ("60 minutes 1 second", 410)] {
        service
            .database
            .execute("DELETE FROM people.attempt; DELETE FROM people.outbox")
            .await;
        service.forgot("alice").await.assert_success(&Value::Null);
        let older = format!("UPDATE people.outbox SET asked_at = now() - interval '{age}'");
        service.database.execute(&older).await;
        let token = service.mailed_token().await;
        assert_eq!(
            service.reset(&token, &format!("{NEW} {status}")).await.status,
            status
        );
    }
}

#[tokio::test]
async fn a_link_outlives_one_rotation_of_the_key() {
    let service = with_alice(&FAST).await;
    let token = token_for(&service, "alice").await;
    let new_key = "another key for tests, of 32 bytes or more";
    let keys = [("SECRET_KEY", new_key), ("SECRET_KEY_PREVIOUS", SECRET_KEY)];
    let rotated = [&FAST[..], &keys].concat();
    let retired = Service::on(service.database.clone(), &[&FAST[..], &keys[..1]].concat());
    retired.reset(&token, NEW).await.assert_error(41001);
    let rotated = Service::on(service.database.clone(), &rotated);
    rotated.reset(&token, NEW).await.assert_success(&Value::Null);
}

#[tokio::test]
async fn only_a_post_uses_a_link() {
    let service = with_alice(&FAST).await;
    let token = token_for(&service, "alice").await;
    let body = json!({ "token": token, "new_password": NEW }).to_string();
    let mut paths: Vec<String> = functions::routes()
        .iter()
        .map(|route| route.path().to_owned())
        .collect();
    paths.extend(["/".to_owned(), "/docs".to_owned(), "/auth/reset/".to_owned()]);
    for path in paths {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            let path = format!("{path}?token={token}&new_password=six+candles+under+the+bridge");
            let headers = [
                ("content-type", "application/json"),
                ("origin", "http://localhost:5173"),
                ("access-control-request-method", "POST"),
            ];
            let request = request(method.clone(), &path, &headers, body.clone());
            let (status, ..) = service.exchange(request).await;
            assert!(status.as_u16() < 500, "{method} {path}: {status}");
        }
    }
    service.reset(&token, NEW).await.assert_success(&Value::Null);
}

#[tokio::test]
async fn a_reset_clears_the_counts_of_its_userid() {
    let service = with_alice(&FAST).await;
    for _ in 0..10 {
        service.log_in("alice", "wrong").await.assert_error(40101);
    }
    service.log_in("alice", PASSWORD).await.assert_too_many(1);
    let token = token_for(&service, "alice").await;
    service.reset(&token, NEW).await.assert_success(&Value::Null);
    assert_eq!(service.log_in("alice", NEW).await.status, 200);
}

#[tokio::test]
async fn an_account_without_a_password_gets_its_first_one() {
    let service = with_alice(&FAST).await;
    service
        .database
        .execute("UPDATE people.\"user\" SET password_hash = NULL")
        .await;
    let token = token_for(&service, "alice").await;
    service.reset(&token, NEW).await.assert_success(&Value::Null);
    assert_eq!(service.log_in("alice", NEW).await.status, 200);
}

#[tokio::test]
async fn the_answer_is_the_same_whoever_is_meant() {
    let service = with_alice(&FAST).await;
    service.register("bob").await;
    service
        .register_with(json!({ "userid": "carol", "email": "carol@example.com" }))
        .await;
    let disable = "UPDATE people.\"user\" SET disabled_at = now() WHERE userid = 'carol'";
    service.database.execute(disable).await;
    let first = service.forgot("alice").await;
    for account in [
        "nobody",
        "bob",
        "carol",
        ADDRESS,
        "nobody@example.com",
        "alice",
        "alice",
        "alice",
        "alice",
    ] {
        let reply = service.forgot(account).await;
        assert_eq!(
            (reply.status, &reply.text),
            (first.status, &first.text),
            "{account}"
        );
        let names =
            |headers: &axum::http::HeaderMap| headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&reply.headers), names(&first.headers), "{account}");
    }
    let to: Vec<String> = service.mails().await.into_iter().map(|mail| mail.to).collect();
    // Three for the userid, one for the address.
    assert_eq!(to, [ADDRESS; 4]);
}

#[tokio::test]
async fn an_account_is_found_by_userid_and_address_in_any_case_and_width() {
    for (typed, mails) in [
        ("ALICE", 1),
        ("Ａlice", 1),
        (" alice ", 1),
        ("Alice@Example.COM", 1),
        ("ａlice@example.com", 1),
        ("alıce", 0),
        ("alıce@example.com", 0),
        ("alİce@example.com", 0),
        ("alice@example.co", 0),
        ("%", 0),
        ("alice@example.com\n", 1),
    ] {
        let service = with_alice(&FAST).await;
        service.forgot(typed).await.assert_success(&Value::Null);
        assert_eq!(service.mails().await.len(), mails, "{typed:?}");
    }
}

#[tokio::test]
async fn of_several_accounts_with_an_address_verified_ones_come_first_and_five_get_a_mail() {
    let service = Service::start_with(&FAST).await;
    let family = "INSERT INTO people.\"user\" (userid, email, password_hash, reg_time, email_verified_at)
        SELECT 'user-' || n, 'Family@example.com', 'x', now() - n * interval '1 day', CASE WHEN n = 1 THEN now() END
        FROM generate_series(1, 8) AS n";
    service.database.execute(family).await;
    service
        .forgot("family@EXAMPLE.com")
        .await
        .assert_success(&Value::Null);
    let mails = service.mails().await;
    let named: Vec<&str> = mails
        .iter()
        .filter_map(|mail| mail.text.split('"').nth(1))
        .collect();
    assert_eq!(named, ["user-1", "user-8", "user-7", "user-6", "user-5"]);
    assert!(mails.iter().all(|mail| mail.to == "Family@example.com"));
}

#[tokio::test]
async fn an_empty_address_of_an_earlier_back_end_is_none() {
    let service = with_alice(&FAST).await;
    service
        .database
        .execute(r#"UPDATE people."user" SET email = ''"#)
        .await;
    service.forgot("alice").await.assert_success(&Value::Null);
    assert_eq!(service.mails().await, []);
    assert_eq!(service.database.count("people.outbox").await, 0);
}

#[tokio::test]
async fn a_source_may_ask_twenty_times_an_hour() {
    let service = with_alice(&FAST).await;
    for n in 0..20 {
        service
            .forgot(&format!("nobody-{n}"))
            .await
            .assert_success(&Value::Null);
    }
    let reply = service.forgot("alice").await;
    assert_eq!(reply.status, 429);
    let retry_after = reply.json()["data"]["retry_after"].as_u64().expect("seconds");
    // One is forgotten in three minutes; the requests took a part of that.
    assert!((1..=180).contains(&retry_after), "{retry_after}");
    assert_eq!(service.database.count("people.outbox").await, 20);
    let unlimited = [&FAST[..], &[("MAILS_PER_ADDRESS_PER_HOUR", "0")]].concat();
    let unlimited = Service::on(service.database.clone(), &unlimited);
    unlimited.forgot("alice").await.assert_success(&Value::Null);
}

#[tokio::test]
async fn where_no_mail_is_set_up_the_endpoints_do_not_exist() {
    let service = with_alice(&[("MAIL_FROM", "")]).await;
    let token = service.log_in("alice", PASSWORD).await.access_token();
    service.forgot("alice").await.assert_error(40401);
    service.reset("x", NEW).await.assert_error(40401);
    service
        .change_email(&token, ADDRESS, PASSWORD)
        .await
        .assert_error(40401);
    service.confirm_email("x").await.assert_error(40401);
    assert_eq!(service.database.count("people.outbox").await, 0);
}

#[tokio::test]
async fn a_malformed_link_costs_no_round_trip() {
    let service = with_alice(&FAST).await;
    let token = token_for(&service, "alice").await;
    let nowhere = Service::on(
        crate::harness::Database {
            url: "postgres://nobody@127.0.0.1:1/none?sslmode=disable".to_owned(),
        },
        &FAST,
    );
    for malformed in [
        String::new(),
        "x".to_owned(),
        "=".repeat(48),
        format!("{token}="),
        format!("{token}AAAA"),
        token[..44].to_owned(),
        "A".repeat(4096),
        format!("{token} "),
        token.replace(&token[10..11], "*"),
    ] {
        nowhere.reset(&malformed, NEW).await.assert_error(41001);
        nowhere.confirm_email(&malformed).await.assert_error(41001);
    }
}
