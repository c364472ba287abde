//! The function `purge`: expired sessions and stale counts are deleted after some time. Instead of waiting, times in
//! the database are changed.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::config::Environment;
use sqlx::Executor as _;

use crate::harness::{Database, PASSWORD, Service};
use crate::proxy::{Link, Proxy};

impl Database {
    async fn purge(&self, settings: &[(&str, &str)]) -> Value {
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("DATABASE_URL", &*self.url);
        json!(functions::purge::handle(&environment).await.expect("it purges"))
    }

    async fn purge_after(&self, days: &str) -> Value {
        self.purge(&[("SESSION_RETENTION_DAYS", days)]).await
    }

    /// Adds sessions of a user that ended this long ago, by a log-out or by expiry.
    async fn add_sessions(&self, count: u32, ended: &str, logged_out: bool) {
        let (logout_time, expires_at) = if logged_out {
            (
                format!("now() - interval '{ended}'"),
                "now() + interval '1 day'".to_owned(),
            )
        } else {
            ("NULL".to_owned(), format!("now() - interval '{ended}'"))
        };
        self.execute(&format!(
            r#"INSERT INTO people.user_session (session_id, user_id, logout_time, expires_at)
               SELECT gen_random_uuid(), user_id, {logout_time}, {expires_at}
               FROM people."user", generate_series(1, {count})"#
        ))
        .await;
    }
}

fn report(sessions: u64, attempts: u64) -> Value {
    json!({ "sessions": sessions, "attempts": attempts, "known_networks": 0, "outbox": 0, "complete": true })
}

#[tokio::test]
async fn a_session_is_deleted_a_week_after_its_log_out_or_expiry() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    for logged_out in [true, false] {
        service.database.add_sessions(1, "8 days", logged_out).await;
        service.database.add_sessions(1, "6 days", logged_out).await;
    }
    assert_eq!(service.database.purge(&[]).await, report(2, 0));
    assert_eq!(service.database.count("people.user_session").await, 3);
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_retention_is_a_setting_and_a_live_session_stays_even_without_any() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    service.database.add_sessions(1, "8 days", true).await;
    let purge = |days| service.database.purge_after(days);
    assert_eq!(purge("9").await, report(0, 0));
    assert_eq!(purge("0").await, report(1, 0));
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
    for unusable in ["-1", "3651", "a week"] {
        let environment = [
            ("DATABASE_URL", &*service.database.url),
            ("SESSION_RETENTION_DAYS", unusable),
        ];
        let error = functions::purge::handle(&environment.into_iter().collect())
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "SESSION_RETENTION_DAYS must be a whole number from 0 to 3650"
        );
    }
}

#[tokio::test]
async fn more_than_one_batch_is_deleted_and_nothing_is_left_for_the_second_run() {
    let service = Service::start().await;
    service.register("alice").await;
    service.database.add_sessions(2_500, "8 days", false).await;
    service
        .database
        .execute(
            "INSERT INTO people.attempt
             SELECT sha256(n::text::bytea), now() - interval '1 second', 'epoch' FROM generate_series(1, 1500) n",
        )
        .await;
    assert_eq!(service.database.purge(&[]).await, report(2_500, 1_500));
    assert_eq!(service.database.purge(&[]).await, report(0, 0));
    // The registration's count has not decayed yet.
    assert_eq!(service.database.count("people.attempt").await, 1);
}

#[tokio::test]
async fn a_network_is_known_for_30_days_after_the_last_log_in() {
    let service = Service::start().await;
    service.token_of_new_user("alice").await;
    service
        .database
        .execute(
            "INSERT INTO people.known_network
             SELECT user_id, '198.51.100.0'::inet + n, now() - n * interval '1 day'
             FROM people.\"user\", generate_series(28, 32) AS n",
        )
        .await;
    let report = service.database.purge(&[]).await;
    assert_eq!(
        report["known_networks"], 3,
        "those of 30 days and a moment ago, too"
    );
    assert_eq!(service.database.count("people.known_network").await, 3);
}

#[tokio::test]
async fn concurrent_runs_delete_everything_once() {
    let service = Service::start().await;
    service.register("alice").await;
    service.database.add_sessions(3_000, "8 days", true).await;
    let runs = tokio::join!(service.database.purge(&[]), service.database.purge(&[]));
    let removed: u64 = [runs.0, runs.1]
        .iter()
        .map(|run| run["sessions"].as_u64().unwrap())
        .sum();
    assert_eq!(removed, 3_000);
    assert_eq!(service.database.count("people.user_session").await, 0);
}

#[tokio::test]
async fn a_log_in_does_not_wait_for_a_purge() {
    let service = Service::start().await;
    service.register("alice").await;
    service.database.add_sessions(10, "8 days", true).await;
    // Locks, as held by a batch in progress.
    let mut batch = service.database.connect().await;
    batch
        .execute("BEGIN; DELETE FROM people.user_session")
        .await
        .unwrap();
    let token = service.log_in("alice", PASSWORD).await.access_token();
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
    assert_eq!(service.log_out(&token).await.status, StatusCode::OK);
    // Another run skips what this one is deleting.
    assert_eq!(service.database.purge(&[]).await, report(0, 0));
}

#[tokio::test]
async fn a_database_error_fails_the_run_with_a_reason() {
    let mut database = Database::migrated().await;
    database.url = database.url.replace(database.name(), "there_is_none");
    let settings = [("DATABASE_URL", &*database.url)];
    let error = functions::purge::handle(&settings.into_iter().collect())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "database unavailable: SQLSTATE 3D000");
}

#[tokio::test]
async fn a_run_waits_for_a_database_that_is_not_up_yet() {
    let database = Database::migrated().await;
    let proxy = Proxy::to(&database, Link::Refusing).await;
    let behind = proxy.of(&database);
    let (report, ()) = tokio::join!(behind.purge(&[]), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        // As while it resumes: it accepts the connection, but does not respond.
        proxy.set(Link::Silent);
        tokio::time::sleep(Duration::from_millis(700)).await;
        proxy.set(Link::Up);
    });
    let nothing = json!({ "sessions": 0, "attempts": 0, "known_networks": 0, "outbox": 0, "complete": true });
    assert_eq!(report, nothing);
}

#[tokio::test]
async fn what_nobody_took_out_of_the_outbox_is_removed_after_30_days() {
    let database = Database::migrated().await;
    let add = "INSERT INTO people.outbox (kind, user_id, asked_at)
        SELECT 'user_deleted', gen_random_uuid(), now() - n * interval '1 day' FROM unnest(ARRAY[0, 29, 31, 400]) AS n";
    database.execute(add).await;
    let mut expected = report(0, 0);
    expected["outbox"] = json!(2);
    assert_eq!(database.purge(&[]).await, expected);
    assert_eq!(database.count("people.outbox").await, 2);
}
