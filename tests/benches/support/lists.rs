//! Limits of lists: many counts of failed log-ins, and one user's many sessions.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Database, PASSWORD, Reply, Service};
use crate::times::{Percentiles, rounded};

const COUNTERS: [u32; 2] = [1_000, 1_000_000];
const FAILED_LOGINS: usize = 300;
const SESSIONS: u32 = 100_000;
/// All sessions are made live again before each.
const ROUNDS: usize = 10;
const REQUESTS: [&str; 5] = ["me", "list", "login", "end the others", "change of password"];

/// Measures on the smallest and the largest database. `service` makes an instance.
pub async fn measure(small: &Database, large: &Database, service: impl Fn(&Database) -> Service) -> Value {
    let failed_login = failed_logins([small, large], &service).await;
    json!({ "failed_login": failed_login, "sessions_of_a_user": sessions(large, &service(large)).await })
}

/// Failed log-ins with few counts in the table and with many, in turns.
async fn failed_logins(databases: [&Database; 2], service: impl Fn(&Database) -> Service) -> Value {
    for (database, counters) in databases.into_iter().zip(COUNTERS) {
        database
            .execute(&format!(
                "INSERT INTO people.attempt (key, forgotten_at, failed_at)
                 SELECT sha256(('list ' || n)::bytea), now() + n % 1000 * interval '1 minute' + interval '1 hour', now()
                 FROM generate_series(1, {counters} - (SELECT count(*) FROM people.attempt)) AS n"
            ))
            .await;
        database.execute("VACUUM ANALYZE people.attempt").await;
    }
    let services = databases.map(service);
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..FAILED_LOGINS + 50 {
        for (service, times) in services.iter().zip(&mut times) {
            let userid = format!("nobody-{number}");
            let took = timed(service.log_in(&userid, "wrong password"), 401).await;
            // The first ones prepare statements and read pages.
            if number >= 50 {
                times.push(took);
            }
        }
    }
    let [few, many] = times.map(Percentiles::of);
    println!(
        "\nA failed log-in: p50 {:.3} ms with {} counts, {:.3} ms with {}: {:.2} ×",
        few.p50,
        COUNTERS[0],
        many.p50,
        COUNTERS[1],
        many.p50 / few.p50
    );
    json!({ "counts": COUNTERS, "few": few.json(), "many": many.json(), "ratio": rounded(many.p50 / few.p50) })
}

/// Requests of a user with one session and of another with many, in turns.
async fn sessions(database: &Database, service: &Service) -> Value {
    let mut times: Vec<[Vec<f64>; 2]> = REQUESTS.map(|_| [Vec::new(), Vec::new()]).into();
    let mut passwords = [PASSWORD.to_owned(), PASSWORD.to_owned()];
    for userid in ["one", "many"] {
        timed(service.register(userid), 200).await;
    }
    database
        .execute(&format!(
            "INSERT INTO people.user_session (session_id, user_id, token, expires_at)
             SELECT gen_random_uuid(), user_id, repeat('0', 64), now() + interval '1 day'
             FROM people.\"user\", generate_series(1, {SESSIONS}) WHERE userid = 'many'"
        ))
        .await;
    for round in 0..=ROUNDS {
        database
            .execute(
                "UPDATE people.user_session s SET logout_time = NULL, password_version = u.password_version
                 FROM people.\"user\" u WHERE u.userid = 'many' AND s.user_id = u.user_id",
            )
            .await;
        database.execute("VACUUM ANALYZE people.user_session").await;
        for (which, userid) in ["one", "many"].into_iter().enumerate() {
            let password = passwords[which].clone();
            let token = service.log_in(userid, &password).await.access_token();
            let new = format!("quiet lantern {round} over the harbour");
            let took = [
                timed(service.get("/auth/me", &token), 200).await,
                timed(service.sessions(&token), 200).await,
                timed(service.log_in(userid, &password), 200).await,
                timed(service.end_other_sessions(&token), 200).await,
                timed(service.change_password(&token, &password, &new), 200).await,
            ];
            passwords[which] = new;
            // The first round prepares statements and reads pages.
            if round > 0 {
                times
                    .iter_mut()
                    .zip(took)
                    .for_each(|(times, took)| times[which].push(took));
            }
        }
    }
    println!("Requests of a user with {SESSIONS} sessions, and of one with few: p50 in ms");
    let mut results = Vec::new();
    for (request, [few, many]) in REQUESTS.iter().zip(times) {
        let [few, many] = [few, many].map(Percentiles::of);
        println!("  {request:<20}{:>9.3}{:>9.3}", many.p50, few.p50);
        results.push(json!({ "request": request, "few": few.json(), "many": many.json() }));
    }
    json!({ "sessions": SESSIONS, "requests": results })
}

/// Milliseconds of a request with this status.
async fn timed(request: impl Future<Output = Reply>, status: u16) -> f64 {
    let started = Instant::now();
    let reply = request.await;
    let took = started.elapsed().as_secs_f64() * 1e3;
    assert_eq!(reply.status, status, "{}", reply.text);
    took
}
