//! `cargo bench --bench month [-- --logins 1000000]`: a month of log-ins in minutes, with the hourly deletion
//! of expired sessions. Prints the size of table and indexes at the end of each day. Asserts nothing.
//!
//! Time is simulated: in each hour of the month, "now" is as many hours before the real time as are left of the month,
//! and the times of sessions and the retention are relative to it. Sessions are deleted with the statement of `purge`.

#[path = "../contract/harness.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod harness;

use std::env;
use std::time::Instant;

use chrono::TimeDelta;
use shared::sessions;
use sqlx::{Executor as _, PgConnection, Row as _};

use crate::harness::Service;

const DAYS: i64 = 30;
/// The default of `SESSION_RETENTION_DAYS`.
const RETENTION: TimeDelta = TimeDelta::days(7);
/// The batch size of `purge`.
const BATCH: u32 = 1_000;
/// Users who log in, chosen at random.
const USERS: u32 = 10_000;
/// One in this many log-ins is followed by a log-out; other sessions expire after an hour.
const LOGGED_OUT: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = env::args().collect();
    let logins: u32 = arguments
        .iter()
        .position(|argument| argument == "--logins")
        .map_or(100_000, |position| {
            arguments[position + 1].parse().expect("--logins NUMBER")
        });

    let service = Service::start().await;
    let mut connection = service.database.connect().await;
    prepare(&mut connection).await;
    println!(
        "{logins} log-ins a day, of which one in {LOGGED_OUT} is logged out and the others expire after an hour; removed {} \
         days later\n",
        RETENTION.num_days()
    );
    println!("  day      rows   table  indexes    B/row   dead rows   removal of {BATCH}: p50, most");
    let mut removals = Vec::new();
    for day in 1..=DAYS {
        for hour in 1..=24 {
            let left = TimeDelta::hours(DAYS * 24 - ((day - 1) * 24 + hour));
            log_in(&mut connection, logins / 24, left).await;
            remove(&mut connection, left, &mut removals).await;
        }
        print_day(&mut connection, day, &mut removals).await;
    }
}

async fn prepare(connection: &mut PgConnection) {
    // A simulated hour takes less than a second: autovacuum has to run as often.
    connection
        .execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        .await
        .expect("the server is ours");
    connection
        .execute("SELECT pg_reload_conf()")
        .await
        .expect("it reloads");
    connection
        .execute("CREATE TEMPORARY TABLE hour (session_id uuid)")
        .await
        .expect("a table");
    let users = format!(
        r#"INSERT INTO people."user" (userid) SELECT 'pupil-' || n FROM generate_series(1, {USERS}) n"#
    );
    connection.execute(&*users).await.expect("users");
}

/// The log-ins and log-outs of the hour that ends `left` before now. Tokens are 64 hex digits, like real ones.
async fn log_in(connection: &mut PgConnection, logins: u32, left: TimeDelta) {
    let statements = format!(
        r#"WITH users AS (SELECT array_agg(user_id) AS ids FROM people."user"),
           inserted AS (
               INSERT INTO people.user_session (session_id, user_id, token, login_time, expires_at)
               SELECT gen_random_uuid(), ids[1 + floor(random() * {USERS})::int],
                      md5(random()::text) || md5(random()::text), began, began + interval '1 hour'
               FROM users, generate_series(1, {logins}),
                    LATERAL (SELECT now() - interval '{} hours' - random() * interval '1 hour' AS began) AS login
               RETURNING session_id
           )
           INSERT INTO hour SELECT session_id FROM inserted;
           UPDATE people.user_session SET logout_time = login_time + interval '10 minutes'
           WHERE session_id IN (SELECT session_id FROM hour WHERE random() * {LOGGED_OUT} < 1);
           TRUNCATE hour"#,
        left.num_hours(),
    );
    connection.execute(&*statements).await.expect("log-ins");
}

/// What `purge` does every hour.
async fn remove(connection: &mut PgConnection, left: TimeDelta, removals: &mut Vec<f64>) {
    loop {
        let started = Instant::now();
        let removed = sessions::purge(&mut *connection, left + RETENTION, BATCH)
            .await
            .expect("it removes");
        if removed < u64::from(BATCH) {
            return;
        }
        removals.push(started.elapsed().as_secs_f64() * 1e3);
    }
}

async fn print_day(connection: &mut PgConnection, day: i64, removals: &mut Vec<f64>) {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM people.user_session), pg_table_size(relid), pg_indexes_size(relid), n_dead_tup
         FROM pg_stat_user_tables WHERE relid = 'people.user_session'::regclass",
    )
    .fetch_one(connection)
    .await
    .expect("a row");
    let [rows, table, indexes, dead] = [0, 1, 2, 3].map(|column| row.get::<i64, _>(column));
    removals.sort_unstable_by(f64::total_cmp);
    let removal = match (removals.get(removals.len() / 2), removals.last()) {
        (Some(median), Some(most)) => format!("{median:.1} ms, {most:.1} ms"),
        _ => "-".to_owned(),
    };
    removals.clear();
    println!(
        "{day:>5} {rows:>9} {:>4} MB {:>5} MB {:>8} {dead:>11}   {removal}",
        table / 1_000_000,
        indexes / 1_000_000,
        (table + indexes) / rows.max(1),
    );
}
