//! Concurrent requests.

use std::collections::BTreeMap;

use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::harness::{FAST, PASSWORD, Reply, Service};

/// The number of responses with each status.
fn tally(replies: &[Reply]) -> BTreeMap<u16, usize> {
    let mut tally = BTreeMap::new();
    for reply in replies {
        *tally.entry(reply.status.as_u16()).or_default() += 1;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_50_registrations_of_one_userid_one_succeeds_and_49_are_409() {
    let service = Service::start_with(&FAST).await;
    let spellings = ["alice", "Alice", "ALICE", "Ａlice", "ａｌｉｃｅ"];
    let mut registrations = JoinSet::new();
    for n in 0..50 {
        let service = service.clone();
        registrations.spawn(async move { service.register(spellings[n % spellings.len()]).await });
    }
    let replies = registrations.join_all().await;
    assert_eq!(tally(&replies), BTreeMap::from([(200, 1), (409, 49)]));
    for reply in replies.iter().filter(|reply| reply.status == 409) {
        reply.assert_error(40901);
    }
    assert_eq!(service.database.count("people.\"user\"").await, 1);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_parallel_logouts_of_one_token_exactly_one_succeeds() {
    let service = Service::start().await;
    let other = Service::on(service.database.clone(), &[]);
    let token = service.token_of_new_user("alice").await;
    let mut logouts = JoinSet::new();
    for n in 0..20 {
        let instance = if n % 2 == 0 { &service } else { &other }.clone();
        let token = token.clone();
        logouts.spawn(async move { instance.log_out(&token).await });
    }
    let replies = logouts.join_all().await;
    assert_eq!(tally(&replies), BTreeMap::from([(200, 1), (401, 19)]));
    for reply in replies.iter().filter(|reply| reply.status == 401) {
        reply.assert_error(40103);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_logins_open_separate_sessions() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    let mut logins = JoinSet::new();
    for _ in 0..20 {
        let service = service.clone();
        logins.spawn(async move { service.log_in("alice", PASSWORD).await });
    }
    let replies = logins.join_all().await;
    assert_eq!(tally(&replies), BTreeMap::from([(200, 20)]));
    for reply in &replies {
        let me = service.get("/auth/me", &reply.access_token()).await;
        assert_eq!(me.status, 200);
    }
    assert_eq!(service.database.count("people.user_session").await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_logins_replace_an_old_hash_once_and_all_succeed() {
    let service = Service::start().await;
    let old = Service::on(service.database.clone(), &FAST);
    old.register("alice").await;
    // Record every change of a hash.
    service
        .database
        .execute(
            "CREATE TABLE public.change (old_hash text, new_hash text);
             CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.change VALUES (old.password_hash, new.password_hash); RETURN new; END $$;
             CREATE TRIGGER change AFTER UPDATE ON people.\"user\" FOR EACH ROW EXECUTE FUNCTION note_change()",
        )
        .await;
    let mut logins = JoinSet::new();
    for _ in 0..5 {
        let service = service.clone();
        logins.spawn(async move { service.log_in("alice", PASSWORD).await });
    }
    let replies = logins.join_all().await;
    assert_eq!(tally(&replies), BTreeMap::from([(200, 5)]));
    let once = "public.change WHERE old_hash LIKE '$argon2id$v=19$m=64,t=1,p=1$%'
        AND new_hash LIKE '$argon2id$v=19$m=19456,t=2,p=1$%'";
    assert_eq!(service.database.count(once).await, 1);
    assert_eq!(service.database.count("public.change").await, 1);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(service.database.count("public.change").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_and_a_logout_of_another_session_do_not_conflict() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let (login, logout) = tokio::join!(service.log_in("alice", PASSWORD), service.log_out(&token));
    assert_eq!((login.status.as_u16(), logout.status.as_u16()), (200, 200));
    let live = service.get("/auth/me", &login.access_token()).await;
    let dead = service.get("/auth/me", &token).await;
    assert_eq!((live.status.as_u16(), dead.status.as_u16()), (200, 401));
}

/// The user is deleted after the password was verified and before the session is written: without a lock, the session
/// would violate its foreign key.
#[tokio::test]
async fn a_log_in_whose_user_is_being_deleted_fails_like_an_unknown_one() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    let mut deletion = service.database.connect().await;
    deletion
        .execute(r#"BEGIN; DELETE FROM people."user""#)
        .await
        .expect("deleted, not yet committed");
    let login = tokio::spawn({
        let service = service.clone();
        async move { service.log_in("alice", PASSWORD).await }
    });
    let waiting = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while service.database.count(waiting).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    deletion.execute("COMMIT").await.expect("committed");
    let reply = login.await.expect("an answer");
    reply.assert_error(40101);
    assert_eq!(service.database.count("people.user_session").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn log_ins_concurrent_with_deletions_of_their_users_are_200_or_401_and_never_deadlock() {
    let service = Service::start_with(&FAST).await;
    for round in 0..20 {
        service.register("alice").await;
        let mut log_ins = JoinSet::new();
        for _ in 0..8 {
            let service = service.clone();
            log_ins.spawn(async move { service.log_in("alice", PASSWORD).await });
        }
        tokio::time::sleep(std::time::Duration::from_millis(round)).await;
        service.database.execute(r#"DELETE FROM people."user""#).await;
        for reply in log_ins.join_all().await {
            assert!([200, 401, 429].contains(&reply.status.as_u16()), "{}", reply.text);
        }
        service.database.execute("DELETE FROM people.attempt").await;
    }
    assert_eq!(service.database.count("people.user_session").await, 0);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(service.database.text(deadlocks).await.as_deref(), Some("0"));
}
