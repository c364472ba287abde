//! The function `outbox`: what becomes of the rows of the outbox.

use functions::outbox::Event;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{FAST, PASSWORD, Service, written};

async fn service() -> Service {
    Service::start_with(&FAST).await
}

/// Adds a user with this address; `verified` or not.
async fn add(service: &Service, userid: &str, email: &str, verified: bool) {
    let verified_at = if verified { "now()" } else { "NULL" };
    let sql = format!(
        "INSERT INTO people.\"user\" (userid, email, email_verified_at) VALUES ('{userid}', '{email}', {verified_at})"
    );
    service.database.execute(&sql).await;
}

/// Adds `rows` notices to `address`.
async fn notices(service: &Service, rows: u32, address: &str) {
    let sql = format!(
        "INSERT INTO people.outbox (kind, address, asked_at)
         SELECT 'password_changed', '{address}', now() - interval '1 minute' + n * interval '1 ms'
         FROM generate_series(1, {rows}) AS n"
    );
    service.database.execute(&sql).await;
}

#[tokio::test]
async fn a_deleted_user_is_told_and_so_are_other_services() {
    let service = service().await;
    service
        .register_with(json!({ "email": "alice@example.com" }))
        .await;
    service.register("bob").await;
    let mut events = Vec::new();
    for userid in ["alice", "bob"] {
        let login = service.log_in(userid, PASSWORD).await;
        let user_id = login.json()["data"]["user_info"]["user_id"].clone();
        assert_eq!(
            service.delete_user(&login.access_token(), PASSWORD).await.status,
            200
        );
        events.push(Event {
            kind: "user_deleted",
            detail: json!({ "user_id": user_id }),
        });
    }
    // Whatever happened to it meanwhile.
    service
        .database
        .execute("UPDATE people.outbox SET asked_at = now() - interval '29 days'")
        .await;
    let outgoing = service.outgoing().await;
    insta::assert_snapshot!(written(&outgoing.mails), @r#"
    To: alice@example.com
    Subject: Your account was deleted

    The account with this address was deleted, with all its data here.

    If this was not you, ask the support of the application.
    "#);
    outgoing
        .events
        .iter()
        .for_each(|event| assert!(events.contains(event)));
    assert_eq!(outgoing.events.len(), 2);
    assert_eq!(service.outgoing().await, functions::outbox::Outgoing::default());
}

#[tokio::test]
async fn what_is_over_a_day_old_is_dropped() {
    let service = service().await;
    add(&service, "alice", "alice@example.com", true).await;
    service.forgot("alice").await;
    notices(&service, 1, "alice@example.com").await;
    service
        .database
        .execute("UPDATE people.outbox SET asked_at = now() - interval '25 hours'")
        .await;
    assert_eq!(service.mails().await, []);
    assert_eq!(service.database.count("people.outbox").await, 0);
}

#[tokio::test]
async fn at_most_a_hundred_mails_are_taken_oldest_first_and_rows_without_a_mail_do_not_wait() {
    let service = service().await;
    add(&service, "alice", "alice@example.com", true).await;
    notices(&service, 150, "alice@example.com").await;
    let unknown = "INSERT INTO people.outbox (kind, userid) SELECT 'reset', 'nobody-' || n FROM generate_series(1, 500) AS n";
    service.database.execute(unknown).await;
    assert_eq!(service.mails().await.len(), 100);
    assert_eq!(service.database.count("people.outbox").await, 50);
    assert_eq!(service.mails().await.len(), 50);
    assert_eq!(service.database.count("people.outbox").await, 0);
    // At most 1,000 rows at once.
    let unknown = unknown.replace("500", "1200");
    service.database.execute(&unknown).await;
    assert_eq!(service.mails().await, []);
    assert_eq!(service.database.count("people.outbox").await, 200);
}

#[tokio::test]
async fn two_at_once_take_different_rows() {
    let service = service().await;
    add(&service, "alice", "alice@example.com", true).await;
    notices(&service, 150, "alice@example.com").await;
    for n in 0..20 {
        add(
            &service,
            &format!("user-{n}"),
            &format!("user-{n}@example.com"),
            false,
        )
        .await;
        service
            .database
            .execute(&format!(
                "INSERT INTO people.outbox (kind, userid) VALUES ('reset', 'user-{n}')"
            ))
            .await;
    }
    let runs = (0..4).map(|_| {
        let service = service.clone();
        async move { service.mails().await.len() }
    });
    let at_once: usize = runs.collect::<JoinSet<_>>().join_all().await.iter().sum();
    let mut later = 0;
    for _ in 0..2 {
        later += service.mails().await.len();
    }
    assert_eq!(at_once + later, 170);
    assert_eq!(service.database.count("people.outbox").await, 0);
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test]
async fn an_address_that_nobody_has_verified_gets_ten_mails_an_hour() {
    let service = service().await;
    add(&service, "alice", "alice@example.com", true).await;
    add(&service, "mallory", "victim@example.com", false).await;
    notices(&service, 12, "alice@example.com").await;
    notices(&service, 12, "Victim@example.com").await;
    notices(&service, 1, "other@example.com").await;
    let to = |mails: &[functions::outbox::Mail], address: &str| {
        mails
            .iter()
            .filter(|mail| mail.to.eq_ignore_ascii_case(address))
            .count()
    };
    let mails = service.mails().await;
    assert_eq!(to(&mails, "alice@example.com"), 12);
    assert_eq!(to(&mails, "victim@example.com"), 10);
    assert_eq!(to(&mails, "other@example.com"), 1);
    assert_eq!(service.database.count("people.outbox").await, 0);
    // Counted in the database: another instance sends no more either.
    notices(&service, 1, "victim@example.com").await;
    assert_eq!(Service::on(service.database.clone(), &FAST).mails().await, []);
}

#[tokio::test]
async fn nobody_fills_the_verified_mailbox_of_somebody_else() {
    let service = service().await;
    add(&service, "victim", "victim@example.com", true).await;
    let token = service.token_of_new_user("mallory").await;
    for _ in 0..15 {
        let reply = service.change_email(&token, "victim@example.com", PASSWORD).await;
        assert_eq!(reply.status, 200);
    }
    assert_eq!(service.mails().await.len(), 10);
    // What the victim asks for still arrives.
    service.forgot("victim@example.com").await;
    assert_eq!(service.mails().await.len(), 1);
}

#[tokio::test]
async fn a_mail_has_nothing_that_a_client_chose_but_a_plain_userid() {
    for (userid, named) in [
        ("canary-userid", true),
        ("canary.example.com", false),
        ("канарейка", false),
        ("canary@x.org", false),
    ] {
        let service = service().await;
        let canary = "canary-http://evil.example";
        let body = json!({
            "userid": userid, "user_name": canary, "country": canary, "job": canary, "init_cn_level": canary,
            "email": "alice@example.com",
        });
        assert_eq!(service.register_with(body).await.status, 200, "{userid}");
        let token = service.log_in(userid, PASSWORD).await.access_token();
        service.forgot(userid).await;
        service.change_email(&token, "new@example.com", PASSWORD).await;
        service
            .change_password(&token, PASSWORD, "six candles under the bridge")
            .await;
        service
            .database
            .execute(
                "INSERT INTO people.outbox (kind, user_id, address)
            SELECT 'email_changed', user_id, 'old@example.com' FROM people.\"user\"",
            )
            .await;
        service.delete_user(&token, "six candles under the bridge").await;
        let mails = service.mails().await;
        assert!(!mails.is_empty());
        for mail in mails {
            let text = format!("{}{}", mail.subject, mail.text);
            assert!(!text.contains("evil"), "{text}");
            assert!(named || !text.contains(userid), "{text}");
            assert!(text.is_ascii());
        }
    }
}

#[tokio::test]
async fn an_invitation_sets_the_first_password_within_a_week() {
    let service = service().await;
    add(&service, "alice", "alice@example.com", false).await;
    let invite = "INSERT INTO people.outbox (kind, user_id, asked_at)
        SELECT 'invite', user_id, now() - interval '23 hours' FROM people.\"user\"";
    service.database.execute(invite).await;
    let mails = service.mails().await;
    let token = crate::harness::token_of(&mails[0]);
    insta::assert_snapshot!(written(&mails).replace(&token, "[token]"), @r#"
    To: alice@example.com
    Subject: Your new account

    You have been invited: follow this link to set the password of the account "alice". It is valid for 7 days:

    https://app.example.com/reset#token=[token]

    If you do not want it, ignore this mail.
    "#);
    service
        .reset(&token, PASSWORD)
        .await
        .assert_success(&serde_json::Value::Null);
    let reply = service.log_in("alice", PASSWORD).await;
    assert_eq!(reply.json()["data"]["user_info"]["email_verified"], true);
    service.reset(&token, PASSWORD).await.assert_error(41001);
}

#[tokio::test]
async fn who_is_disabled_or_gone_gets_no_link() {
    let service = service().await;
    add(&service, "alice", "alice@example.com", true).await;
    let every_kind = "INSERT INTO people.outbox (kind, user_id, address)
        SELECT kind, user_id, 'new@example.com' FROM people.\"user\", unnest(ARRAY['reset', 'invite', 'email']) AS kind";
    service.database.execute(every_kind).await;
    service
        .database
        .execute("UPDATE people.\"user\" SET disabled_at = now()")
        .await;
    assert_eq!(service.mails().await, []);
    service.database.execute(every_kind).await;
    service.database.execute("DELETE FROM people.\"user\"").await;
    assert_eq!(service.mails().await, []);
}
