//! Every statement finds its rows with an index, so that requests take as long with many users as with few. The bench
//! `growth` measures the times; here the statistics of the server show whether a whole table was read.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use sqlx::Executor as _;
use tokio::time::timeout;

use crate::admin::Operator;
use crate::examples::session_id;
use crate::harness::{Database, FAST, PASSWORD, Service, token_of};

/// So many that to read them all is more work than to look some up. Sessions and networks are nobody's: to check whose
/// they are would be counted too.
const ROWS: u32 = 20_000;

/// More, since each run of `outbox` takes a thousand.
const OUTBOX_ROWS: u32 = 3 * ROWS;

/// Of each kind. From the sixth on, the server may use a plan that it keeps for any value.
const REQUESTS: u32 = 8;

/// The token in the newest mail with this subject.
async fn newest_link(service: &Service, subject: &str) -> String {
    let mails = service.mails().await;
    let newest = mails.iter().rfind(|mail| mail.subject == subject);
    token_of(newest.expect("a mail"))
}

/// A database with rows that nobody asks for.
async fn filled() -> Database {
    let database = Database::migrated().await;
    let fill = format!(
        r#"
        INSERT INTO people."user" (userid, user_name, email, password_hash)
        SELECT 'user-' || n, 'User ' || n, 'user-' || n || '@example.com', '$argon2id$v=19$m=64,t=2,p=1$' || repeat('x', 66)
        FROM generate_series(1, {ROWS}) AS n;

        INSERT INTO people.user_session (session_id, token, expires_at)
        SELECT gen_random_uuid(), repeat('0', 64), now() + interval '1 hour' FROM generate_series(1, {ROWS});

        INSERT INTO people.outbox (kind, asked_at)
        SELECT 'user_deleted', now() + interval '1 hour' + n * interval '1 ms' FROM generate_series(1, {OUTBOX_ROWS}) AS n;

        INSERT INTO people.attempt (key, forgotten_at, failed_at)
        SELECT sha256(n::text::bytea), now() + interval '1 hour', now() FROM generate_series(1, {ROWS}) AS n;

        SET session_replication_role = replica;
        INSERT INTO people.known_network (user_id, network, last_login)
        SELECT gen_random_uuid(), '198.51.100.7', now() FROM generate_series(1, {ROWS});
        RESET session_replication_role;

        ANALYZE
        "#
    );
    database.execute(&fill).await;
    database
}

/// The names of the tables that a plan, or a part of one, reads from end to end.
fn read_whole(plan: &Value, tables: &mut Vec<String>) {
    if plan["Node Type"] == "Seq Scan" && plan["Schema"] == "people" {
        tables.push(plan["Relation Name"].as_str().unwrap_or_default().to_owned());
    }
    let parts = plan["Plans"].as_array().into_iter().flatten();
    parts.for_each(|part| read_whole(part, tables));
}

#[tokio::test]
async fn the_plan_of_every_statement_reads_no_table_from_end_to_end() {
    let database = filled().await;
    let mut connection = database.connect().await;
    // The plan for any value, which a connection keeps.
    connection
        .execute("SET plan_cache_mode = force_generic_plan")
        .await
        .unwrap();
    let (mut whole, mut checked) = (Vec::new(), 0);
    // As `cargo sqlx prepare` wrote them down: every statement that is checked at compile time.
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.sqlx")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let prepared: Value = serde_json::from_str(&text).unwrap();
        let statement = prepared["query"].as_str().unwrap();
        let parameters = prepared["describe"]["parameters"]["Left"]
            .as_array()
            .unwrap()
            .len();
        let values = vec!["NULL"; parameters].join(", ");
        let values = if parameters == 0 {
            values
        } else {
            format!("({values})")
        };
        connection
            .execute(&*format!("PREPARE checked AS {statement}"))
            .await
            .unwrap();
        let explained: Value =
            sqlx::query_scalar(&format!("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE checked{values}"))
                .persistent(false)
                .fetch_one(&mut connection)
                .await
                .expect(statement);
        connection.execute("DEALLOCATE checked").await.unwrap();
        let mut tables = Vec::new();
        read_whole(&explained[0]["Plan"], &mut tables);
        checked += usize::from(statement.contains("people."));
        if !tables.is_empty() {
            whole.push((tables, statement.to_owned()));
        }
    }
    assert!(checked > 20, "{checked}");
    assert_eq!(whole, []);
}

#[tokio::test]
async fn no_request_reads_a_table_or_an_index_from_end_to_end() {
    let database = filled().await;
    let service = Service::on(database.clone(), &FAST);
    let operator = Operator::of(&database);
    for n in 0..REQUESTS {
        let userid = format!("new-{n}");
        let token = service.token_of_new_user(&userid).await;
        assert_eq!(service.get("/auth/me", &token).await.status, 200);
        assert_eq!(service.log_in(&userid, "wrong password").await.status, 401);
        let unknown = format!("unknown-{n}");
        assert_eq!(service.log_in(&unknown, PASSWORD).await.status, 401);
        let other = session_id(&service.log_in(&userid, PASSWORD).await.access_token());
        assert_eq!(service.sessions(&token).await.status, 200);
        assert_eq!(service.end_session(&token, &other).await.status, 200);
        assert_eq!(service.end_other_sessions(&token).await.status, 200);
        let profile = serde_json::json!({ "job": "reader" });
        let updated = service
            .call_as(axum::http::Method::PATCH, "/auth/me", &token, &profile)
            .await;
        assert_eq!(updated.status, 200);
        let changed = service
            .change_password(&token, PASSWORD, "six candles under the bridge")
            .await;
        assert_eq!(changed.status, 200);
        let mailed = service
            .change_email(
                &token,
                &format!("{userid}@example.com"),
                "six candles under the bridge",
            )
            .await;
        assert_eq!(mailed.status, 200);
        let link = newest_link(&service, "Confirm your e-mail address").await;
        assert_eq!(service.confirm_email(&link).await.status, 200);
        assert_eq!(service.forgot(&userid).await.status, 200);
        let link = newest_link(&service, "Set a new password").await;
        assert_eq!(service.reset(&link, PASSWORD).await.status, 200);
        assert_eq!(service.forgot(&format!("{userid}@example.com")).await.status, 200);
        let gone = service.token_of_new_user(&format!("gone-{n}")).await;
        assert_eq!(service.delete_user(&gone, PASSWORD).await.status, 200);
        let token = service.log_in(&userid, PASSWORD).await.access_token();
        assert_eq!(service.log_out(&token).await.status, 200);
        assert_eq!(service.register(&userid).await.status, 409);
        operator
            .every_action(&format!("user-{}", n + 1), &format!("invited-{n}"))
            .await;
    }
    drop(operator);
    // The statistics of a connection are complete when it has ended.
    drop(service);
    let counted = format!(
        "
        SELECT idx_scan >= {} AND NOT EXISTS (
            SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'people')
        FROM pg_stat_user_tables WHERE relname = 'user_session'
        ",
        2 * REQUESTS
    );
    let until_counted = async {
        while database.text(&counted).await.as_deref() != Some("true") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), until_counted)
        .await
        .expect("the server counts");
    // Live rows: how many dead entries of an index are passed by depends on how busy the server is.
    let read_to_their_end = format!(
        "
        SELECT string_agg(name || ' ' || rows, ', ' ORDER BY name)
        FROM (SELECT relname AS name, greatest(seq_tup_read, idx_tup_fetch) AS rows FROM pg_stat_user_tables) AS read
        WHERE rows >= CASE WHEN name = 'outbox' THEN {OUTBOX_ROWS} ELSE {ROWS} END
        "
    );
    assert_eq!(database.text(&read_to_their_end).await, None);
}
