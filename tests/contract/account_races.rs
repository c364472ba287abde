//! Concurrent changes to an account: from several devices, and during log-ins.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::examples::session_id;
use crate::harness::{FAST, PASSWORD, Reply, Service};

const NEW: &str = "six candles under the bridge";

/// Other parameters, so that every log-in replaces the hash.
const FAST_TOO: [(&str, &str); 2] = [("ARGON2_MEMORY_KIB", "72"), ("ARGON2_ITERATIONS", "1")];

/// The number of responses with each code.
fn tally<'a>(replies: impl IntoIterator<Item = &'a Reply>) -> BTreeMap<u64, usize> {
    let mut tally = BTreeMap::new();
    for reply in replies {
        let code = reply.json()["code"].as_u64().expect("a code");
        *tally.entry(code).or_default() += 1;
    }
    tally
}

impl Service {
    /// From as many addresses, so that no number of attempts in flight is too many.
    async fn log_in_in_background(&self, tasks: &mut JoinSet<Reply>, times: usize) {
        for n in 0..times {
            let (service, address) = (self.clone(), format!("198.51.100.{n}"));
            tasks.spawn(async move { service.log_in_from(&address, "alice", PASSWORD).await });
        }
        tokio::task::yield_now().await;
    }

    async fn is_live(&self, token: &str) -> bool {
        self.get("/auth/me", token).await.status == 200
    }
}

#[tokio::test]
async fn a_log_in_that_verified_the_old_password_before_it_was_changed_opens_no_live_session() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    let mut change = service.database.connect().await;
    change
        .execute(r#"BEGIN; UPDATE people."user" SET password_version = password_version + 1"#)
        .await
        .expect("changed, not yet committed");
    let login = tokio::spawn({
        let service = service.clone();
        async move { service.log_in("alice", PASSWORD).await }
    });
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while service.database.count(waiting).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    change.execute("COMMIT").await.expect("committed");
    let reply = login.await.expect("an answer");
    reply.assert_error(40101);
    assert_eq!(service.database.count("people.live_session").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_session_of_a_concurrent_log_in_survives_a_password_change() {
    let service = Service::start_with(&FAST).await;
    for round in 0..12 {
        let token = service.token_of_new_user("alice").await;
        let mut tasks = JoinSet::new();
        service.log_in_in_background(&mut tasks, 8).await;
        tokio::time::sleep(Duration::from_millis(round)).await;
        let change = service.change_password(&token, PASSWORD, NEW).await;
        assert_eq!(change.status, 200, "{}", change.text);
        for reply in tasks.join_all().await {
            match reply.json()["code"].as_u64() {
                Some(1) => assert!(!service.is_live(&reply.access_token()).await, "round {round}"),
                code => assert_eq!(code, Some(40101), "{}", reply.text),
            }
        }
        assert!(service.is_live(&token).await);
        let reset = "DELETE FROM people.\"user\"; DELETE FROM people.attempt";
        service.database.execute(reset).await;
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_session_of_a_concurrent_log_in_survives_a_reset() {
    let service = Service::start_with(&FAST).await;
    for round in 0..12 {
        service
            .register_with(json!({ "email": "alice@example.com" }))
            .await;
        service.forgot("alice").await.assert_success(&Value::Null);
        let link = service.mailed_token().await;
        let mut tasks = JoinSet::new();
        service.log_in_in_background(&mut tasks, 8).await;
        tokio::time::sleep(Duration::from_millis(round)).await;
        service.reset(&link, NEW).await.assert_success(&Value::Null);
        for reply in tasks.join_all().await {
            match reply.json()["code"].as_u64() {
                Some(1) => assert!(!service.is_live(&reply.access_token()).await, "round {round}"),
                code => assert_eq!(code, Some(40101), "{}", reply.text),
            }
        }
        assert_eq!(service.log_in("alice", NEW).await.status, 200);
        let reset = "DELETE FROM people.\"user\"; DELETE FROM people.attempt; DELETE FROM people.outbox";
        service.database.execute(reset).await;
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_reset_and_a_password_change_at_once_exactly_one_succeeds() {
    let service = Service::start_with(&FAST).await;
    for round in 0..8 {
        service
            .register_with(json!({ "email": "alice@example.com" }))
            .await;
        let token = service.log_in("alice", PASSWORD).await.access_token();
        service.forgot("alice").await.assert_success(&Value::Null);
        let link = service.mailed_token().await;
        let (reset, change) = tokio::join!(
            service.reset(&link, NEW),
            service.change_password(&token, PASSWORD, "seven candles under the bridge"),
        );
        match (&reset.status.as_u16(), &change.status.as_u16()) {
            (200, 403 | 401) => assert!(!service.is_live(&token).await, "round {round}"),
            (410, 200) => assert!(service.is_live(&token).await, "round {round}"),
            _ => panic!("round {round}: {} {}", reset.text, change.text),
        }
        let again = "DELETE FROM people.\"user\"; DELETE FROM people.attempt; DELETE FROM people.outbox";
        service.database.execute(again).await;
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn log_ins_that_replace_an_old_hash_do_not_conflict_with_a_password_change() {
    let old = Service::start_with(&FAST).await;
    let service = Service::on(old.database.clone(), &FAST_TOO);
    for round in 0..12 {
        let token = old.token_of_new_user("alice").await;
        let mut tasks = JoinSet::new();
        service.log_in_in_background(&mut tasks, 20).await;
        tokio::time::sleep(Duration::from_millis(round)).await;
        // It fails neither because the hash that it verified has been replaced, nor does it make a log-in fail but
        // those that come after it.
        let change = service.change_password(&token, PASSWORD, NEW).await;
        assert_eq!(change.status, 200, "{}", change.text);
        let after = tasks.join_all().await;
        assert!(
            tally(&after).keys().all(|code| [1, 40101].contains(code)),
            "{:?}",
            tally(&after)
        );
        assert_eq!(service.log_in("alice", NEW).await.status, 200);
        let reset = "DELETE FROM people.\"user\"; DELETE FROM people.attempt";
        service.database.execute(reset).await;
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_password_changes_exactly_one_succeeds() {
    let service = Service::start_with(&FAST).await;
    for round in 0..8 {
        let tokens = [
            service.token_of_new_user("alice").await,
            service.log_in("alice", PASSWORD).await.access_token(),
        ];
        let mut tasks = JoinSet::new();
        for n in 0..6 {
            let (service, token) = (service.clone(), tokens[n % 2].clone());
            tasks.spawn(async move {
                let new = format!("{NEW} {n}");
                (
                    token.clone(),
                    new.clone(),
                    service.change_password(&token, PASSWORD, &new).await,
                )
            });
        }
        let outcomes = tasks.join_all().await;
        let tally = tally(outcomes.iter().map(|(_, _, reply)| reply));
        assert_eq!(tally.get(&1), Some(&1), "round {round}: {tally:?}");
        // From the session that made the change, the others verified a password that is no longer the account's; the
        // other session is over.
        assert!(
            tally.keys().all(|code| [1, 40301, 40103].contains(code)),
            "{tally:?}"
        );
        let (winner, new, _) = outcomes
            .iter()
            .find(|(_, _, reply)| reply.status == 200)
            .expect("one");
        for token in &tokens {
            assert_eq!(service.is_live(token).await, token == winner);
        }
        assert_eq!(service.log_in("alice", new).await.status, 200);
        let reset = "DELETE FROM people.\"user\"; DELETE FROM people.attempt";
        service.database.execute(reset).await;
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

/// A statement that waited for the change has to see the changed session.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_session_that_changes_the_password_stays_live_for_concurrent_requests() {
    let service = Service::start_with(&FAST).await;
    let token = service.token_of_new_user("alice").await;
    let (mut current, mut new) = (PASSWORD, NEW);
    for round in 0..15 {
        let mut tasks = JoinSet::new();
        for n in 0..8 {
            let (service, token) = (service.clone(), token.clone());
            tasks.spawn(async move {
                let patch = json!({ "job": format!("job {n}") });
                match n % 4 {
                    0 => service.call_as(Method::PATCH, "/auth/me", &token, &patch).await,
                    1 => service.end_other_sessions(&token).await,
                    2 => service.get("/auth/me", &token).await,
                    _ => service.sessions(&token).await,
                }
            });
        }
        tokio::time::sleep(Duration::from_micros(300 * round)).await;
        let change = service.change_password(&token, current, new).await;
        assert_eq!(change.status, 200, "{}", change.text);
        for reply in tasks.join_all().await {
            assert_eq!(reply.status, 200, "round {round}: {}", reply.text);
        }
        std::mem::swap(&mut current, &mut new);
    }
    // A log-out concurrent with a change takes precedence.
    let logout = tokio::spawn({
        let (service, token) = (service.clone(), token.clone());
        async move { service.log_out(&token).await }
    });
    let change = service.change_password(&token, current, new).await;
    assert!([200, 401].contains(&change.status.as_u16()), "{}", change.text);
    assert_eq!(logout.await.expect("an answer").status, 200);
    assert!(!service.is_live(&token).await);
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn devices_that_end_each_other_change_the_password_and_delete_the_account_never_deadlock() {
    let service = Service::start_with(&FAST).await;
    for _ in 0..12 {
        let mut tokens = vec![service.token_of_new_user("alice").await];
        for _ in 0..3 {
            tokens.push(service.log_in("alice", PASSWORD).await.access_token());
        }
        let mut tasks = JoinSet::new();
        for (n, token) in tokens.iter().cloned().enumerate() {
            let next = session_id(&tokens[(n + 1) % tokens.len()]);
            let service = service.clone();
            tasks.spawn(async move {
                let mut replies = vec![service.end_session(&token, &next).await];
                replies.push(service.end_other_sessions(&token).await);
                replies.push(service.change_password(&token, PASSWORD, NEW).await);
                if n == 0 {
                    replies.push(service.delete_user(&token, NEW).await);
                }
                replies.push(service.log_out(&token).await);
                replies
            });
        }
        let mut log_ins = JoinSet::new();
        service.log_in_in_background(&mut log_ins, 4).await;
        let replies: Vec<Reply> = tasks.join_all().await.into_iter().flatten().collect();
        for reply in replies.iter().chain(&log_ins.join_all().await) {
            assert!(reply.status.as_u16() < 500, "{}", reply.text);
        }
        let reset = "DELETE FROM people.\"user\"; DELETE FROM people.attempt";
        service.database.execute(reset).await;
    }
    assert_eq!(service.database.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_requests_to_end_one_session_exactly_one_succeeds() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for _ in 0..5 {
        let other = session_id(&service.log_in("alice", PASSWORD).await.access_token());
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (service, token, other) = (service.clone(), token.clone(), other.clone());
            tasks.spawn(async move { service.end_session(&token, &other).await });
        }
        let replies = tasks.join_all().await;
        assert_eq!(tally(&replies), BTreeMap::from([(1, 1), (40402, 7)]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_deletions_exactly_one_succeeds_and_sends_an_event() {
    let service = Service::start_with(&FAST).await;
    let token = service.token_of_new_user("alice").await;
    let mut tasks = JoinSet::new();
    for _ in 0..5 {
        let (service, token) = (service.clone(), token.clone());
        tasks.spawn(async move { service.delete_user(&token, PASSWORD).await });
    }
    let replies = tasks.join_all().await;
    assert_eq!(tally(&replies), BTreeMap::from([(1, 1), (40103, 4)]));
    assert_eq!(service.database.count("people.outbox").await, 1);
}

/// Somebody who knows the password must not be able to prevent its owner from changing it.
#[tokio::test]
async fn a_user_with_100_000_sessions_can_list_them_change_the_password_log_in_and_be_deleted() {
    let service = Service::start_with(&FAST).await;
    let token = service.token_of_new_user("alice").await;
    let flood = "INSERT INTO people.user_session (session_id, user_id, token, expires_at)
        SELECT gen_random_uuid(), user_id, repeat('0', 64), now() + interval '1 hour'
        FROM people.\"user\", generate_series(1, 100000)";
    service.database.execute(flood).await;
    assert_eq!(service.sessions(&token).await.status, 200);
    assert_eq!(
        service.end_other_sessions(&token).await.json()["data"],
        json!({ "ended": 1000, "more": true })
    );
    let reply = service.change_password(&token, PASSWORD, NEW).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(service.database.count("people.live_session").await, 1);
    let list = service.sessions(&token).await.json();
    assert_eq!(list["data"]["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!(service.log_in("alice", NEW).await.status, 200);
    let reply = service
        .call_as(Method::DELETE, "/auth/sessions", &token, &Value::Null)
        .await;
    assert_eq!(reply.json()["data"], json!({ "ended": 1, "more": true }));
    let reply = service.delete_user(&token, NEW).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}
