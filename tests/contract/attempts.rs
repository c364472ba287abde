//! Section 6: too many attempts. Time is moved in the database (`since` of the counts), never waited for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::{Method, StatusCode};
use serde_json::json;
use sqlx::Executor as _;

use crate::harness::{Database, PASSWORD, Reply, Service, request};

const A: &str = "198.51.100.1";
const B: &str = "198.51.100.2";

impl Service {
    async fn log_in_from(&self, address: &str, userid: &str, password: &str) -> Reply {
        let body = json!({ "userid": userid, "password": password });
        self.post_from(address, "/auth/login", &body).await
    }

    async fn register_from(&self, address: &str, userid: &str) -> Reply {
        self.post_from(
            address,
            "/user/register",
            &json!({ "userid": userid, "password": PASSWORD }),
        )
        .await
    }

    async fn post_from(&self, address: &str, path: &str, body: &serde_json::Value) -> Reply {
        let mut request = request(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        );
        request
            .extensions_mut()
            .insert(ConnectInfo(SocketAddr::new(address.parse().unwrap(), 40_000)));
        self.send(request).await
    }

    async fn fail_from(&self, address: &str, userid: &str, times: u32) {
        for _ in 0..times {
            let reply = self.log_in_from(address, userid, "wrong").await;
            reply.assert_error(401, 40101, "The userid or the password is wrong.");
        }
        self.at_once().await;
    }

    /// As if the attempts so far had been at this moment, however slow the machine is.
    async fn at_once(&self) {
        self.database
            .execute("UPDATE people.attempt SET since = now() WHERE since > now() - interval '1 minute'")
            .await;
    }

    /// As if so much time had passed.
    async fn pass(&self, interval: &str) {
        self.database
            .execute(&format!(
                "UPDATE people.attempt SET since = since - interval '{interval}'"
            ))
            .await;
    }
}

fn assert_too_many(reply: &Reply, retry_after: u32) {
    reply.assert_envelope(
        429,
        &json!({
            "code": 42901,
            "message": "There were too many attempts.",
            "data": { "retry_after": retry_after },
        }),
    );
    assert_eq!(reply.header("retry-after"), Some(&*retry_after.to_string()));
}

#[tokio::test]
async fn five_failures_are_free_then_the_right_password_has_to_wait_too() {
    let service = Service::start().await;
    service.register("alice").await;
    service.fail_from(A, "alice", 5).await;
    assert_too_many(&service.log_in_from(A, "alice", PASSWORD).await, 1);
    service.pass("1 second").await;
    assert_eq!(
        service.log_in_from(A, "alice", PASSWORD).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_wait_doubles_with_each_further_failure_up_to_900_seconds() {
    let service = Service::start().await;
    service.fail_from(A, "alice", 5).await;
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        assert_too_many(&service.log_in_from(A, "alice", "wrong").await, wait);
        service.pass(&format!("{wait} seconds")).await;
        service.fail_from(A, "alice", 1).await;
    }
}

#[tokio::test]
async fn an_attempt_that_has_to_wait_neither_counts_nor_prolongs_the_wait() {
    let service = Service::start().await;
    service.fail_from(A, "alice", 5).await;
    for _ in 0..10 {
        assert_too_many(&service.log_in_from(A, "alice", "wrong").await, 1);
    }
    service.pass("1 second").await;
    service.fail_from(A, "alice", 1).await;
    assert_too_many(&service.log_in_from(A, "alice", "wrong").await, 2);
}

#[tokio::test]
async fn an_unknown_userid_has_the_same_limits_and_answers() {
    let service = Service::start().await;
    service.register("alice").await;
    for userid in ["alice", "nobody"] {
        service.fail_from(A, userid, 5).await;
        assert_too_many(&service.log_in_from(A, userid, "wrong").await, 1);
    }
}

#[tokio::test]
async fn spellings_of_one_userid_share_its_count() {
    let service = Service::start().await;
    for userid in ["alice", "ALICE", "Ａlice", "aLICE", "ａｌｉｃｅ"] {
        service.fail_from(A, userid, 1).await;
    }
    assert_too_many(&service.log_in_from(A, "Alice", "wrong").await, 1);
}

#[tokio::test]
async fn the_form_variant_counts_and_waits_alike() {
    let service = Service::start().await;
    for _ in 0..5 {
        assert_eq!(
            service.post_form("username=alice&password=wrong").await.status,
            StatusCode::BAD_REQUEST
        );
    }
    assert_too_many(&service.post_form("username=alice&password=wrong").await, 1);
    assert_too_many(&service.log_in("alice", "wrong").await, 1);
}

#[tokio::test]
async fn an_attacker_who_is_locked_out_does_not_lock_out_the_victim_elsewhere() {
    let service = Service::start().await;
    service.register("alice").await;
    service.fail_from(A, "alice", 5).await;
    assert_too_many(&service.log_in_from(A, "alice", PASSWORD).await, 1);
    assert_eq!(
        service.log_in_from(B, "alice", PASSWORD).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_userid_has_100_free_failures_from_all_addresses_together() {
    let service = Service::start_with(&[("ARGON2_MEMORY_KIB", "64"), ("ARGON2_ITERATIONS", "1")]).await;
    service.register("alice").await;
    for n in 0..25 {
        service.fail_from(&format!("198.51.100.{n}"), "alice", 4).await;
    }
    assert_too_many(&service.log_in_from("198.51.100.200", "alice", PASSWORD).await, 1);
}

#[tokio::test]
async fn an_address_has_50_free_failures_for_all_userids_together() {
    let service = Service::start_with(&[("ARGON2_MEMORY_KIB", "64"), ("ARGON2_ITERATIONS", "1")]).await;
    service.register("alice").await;
    for n in 0..50 {
        service.fail_from(A, &format!("nobody-{n}"), 1).await;
    }
    assert_too_many(&service.log_in_from(A, "alice", PASSWORD).await, 1);
    assert_eq!(
        service.log_in_from(B, "alice", PASSWORD).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn addresses_of_one_ipv6_network_are_one_source() {
    let service = Service::start().await;
    for n in 1..=5 {
        service.fail_from(&format!("2001:db8:1:2::{n}"), "alice", 1).await;
    }
    assert_too_many(
        &service.log_in_from("2001:db8:1:2:ffff::", "alice", "wrong").await,
        1,
    );
    service.fail_from("2001:db8:1:3::1", "alice", 1).await;
}

#[tokio::test]
async fn a_setting_raises_or_lifts_the_limit_of_an_address() {
    let cheap = [("ARGON2_MEMORY_KIB", "64"), ("ARGON2_ITERATIONS", "1")];
    let service = Service::start_with(&[cheap[0], cheap[1], ("FAILURES_PER_ADDRESS", "2")]).await;
    service.fail_from(A, "nobody-1", 1).await;
    service.fail_from(A, "nobody-2", 1).await;
    assert_too_many(&service.log_in_from(A, "nobody-3", "wrong").await, 1);

    let service = Service::start_with(&[cheap[0], cheap[1], ("FAILURES_PER_ADDRESS", "0")]).await;
    for n in 0..60 {
        service.fail_from(A, &format!("nobody-{n}"), 1).await;
    }
}

#[tokio::test]
async fn a_success_clears_the_counts_of_its_userid_and_no_other() {
    let service = Service::start().await;
    service.register("alice").await;
    service.register("mallory").await;
    service.fail_from(A, "alice", 4).await;
    service.fail_from(A, "mallory", 4).await;
    assert_eq!(
        service.log_in_from(A, "mallory", PASSWORD).await.status,
        StatusCode::OK
    );
    // Mallory's five are free again, alice's fifth is the last.
    service.fail_from(A, "mallory", 5).await;
    service.fail_from(A, "alice", 1).await;
    assert_too_many(&service.log_in_from(A, "alice", PASSWORD).await, 1);
}

#[tokio::test]
async fn an_attackers_own_successes_do_not_clear_the_count_of_the_address() {
    let service = Service::start_with(&[("FAILURES_PER_ADDRESS", "3")]).await;
    service.register("mallory").await;
    for n in 0..3 {
        service.fail_from(A, &format!("victim-{n}"), 1).await;
        if n < 2 {
            assert_eq!(
                service.log_in_from(A, "mallory", PASSWORD).await.status,
                StatusCode::OK
            );
        }
    }
    assert_too_many(&service.log_in_from(A, "victim-3", "wrong").await, 1);
}

#[tokio::test]
async fn a_success_gives_its_reservation_back_and_makes_nobody_wait() {
    let service = Service::start_with(&[("FAILURES_PER_ADDRESS", "3")]).await;
    service.register("alice").await;
    service.fail_from(A, "nobody", 3).await;
    service.pass("1 second").await;
    // The fourth attempt is reserved, succeeds, and leaves the count and its time as they were.
    for _ in 0..5 {
        assert_eq!(
            service.log_in_from(A, "alice", PASSWORD).await.status,
            StatusCode::OK
        );
    }
    service.fail_from(A, "nobody", 1).await;
    assert_too_many(&service.log_in_from(A, "alice", PASSWORD).await, 2);
}

#[tokio::test]
async fn a_count_is_forgotten_after_a_day_without_failures() {
    let service = Service::start().await;
    service.fail_from(A, "alice", 5).await;
    service.pass("1 day 1 second").await;
    service.fail_from(A, "alice", 5).await;
    assert_too_many(&service.log_in_from(A, "alice", "wrong").await, 1);
}

#[tokio::test]
async fn rows_of_the_past_are_removed_in_passing_a_few_at_a_time() {
    let service = Service::start().await;
    service
        .database
        .execute(
            "INSERT INTO people.attempt
             SELECT sha256(n::text::bytea), 1, now() - interval '25 hours' FROM generate_series(1, 25) n",
        )
        .await;
    let old = "people.attempt WHERE since < now() - interval '1 day'";
    for left in [15, 5, 0] {
        service.fail_from(A, "alice", 1).await;
        assert_eq!(service.database.count(old).await, left);
    }
}

#[tokio::test]
async fn counts_survive_a_cold_start_and_are_shared_by_instances() {
    let database = Database::migrated().await;
    for _ in 0..5 {
        let cold = Service::on(database.clone(), &[]);
        cold.fail_from(A, "alice", 1).await;
    }
    assert_too_many(
        &Service::on(database, &[]).log_in_from(A, "alice", "wrong").await,
        1,
    );
}

#[tokio::test]
async fn parallel_guesses_at_several_instances_never_pass_the_limit() {
    let database = Database::migrated().await;
    let instances: Vec<_> = (0..5).map(|_| Service::on(database.clone(), &[])).collect();
    let guess_everywhere = async || {
        let guesses: Vec<_> = (0..60)
            .map(|n| {
                let instance = instances[n % 5].clone();
                tokio::spawn(async move { instance.log_in_from(A, "alice", "wrong").await.status.as_u16() })
            })
            .collect();
        let mut answers = BTreeMap::new();
        for guess in guesses {
            *answers.entry(guess.await.unwrap()).or_insert(0) += 1;
        }
        answers
    };
    // The sixteenth failure costs 900 s of waiting: none of the others gets through, however slow the machine is.
    instances[0].fail_from(A, "alice", 1).await;
    database
        .execute("UPDATE people.attempt SET failures = 15, since = now() - interval '16 minutes'")
        .await;
    assert_eq!(guess_everywhere().await, BTreeMap::from([(401, 1), (429, 59)]));
    assert_eq!(guess_everywhere().await, BTreeMap::from([(429, 60)]));
}

#[tokio::test]
async fn parallel_logins_of_many_users_behind_one_address_do_not_deadlock() {
    let database = Database::migrated().await;
    let settings = [("ARGON2_MEMORY_KIB", "64"), ("ARGON2_ITERATIONS", "1")];
    let instances: Vec<_> = (0..4).map(|_| Service::on(database.clone(), &settings)).collect();
    for n in 0..10 {
        instances[0].register_from(B, &format!("pupil-{n}")).await;
    }
    let logins: Vec<_> = (0..40)
        .map(|n| {
            let instance = instances[n % 4].clone();
            tokio::spawn(async move {
                instance
                    .log_in_from(A, &format!("pupil-{}", n % 10), PASSWORD)
                    .await
                    .status
            })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), StatusCode::OK);
    }
    let failures = database
        .text("SELECT sum(failures) FROM people.attempt WHERE failures < 10")
        .await;
    assert_eq!(failures.as_deref(), Some("0"), "every reservation was given back");
}

/// Four logins of one user at once, in the one order in which the refund of the second meets the row that the third
/// made and the fourth holds.
#[tokio::test]
async fn a_refund_waits_for_no_row_that_it_has_not_locked_in_order() {
    let database = Database::migrated().await;
    database
        .execute(
            r"INSERT INTO people.attempt VALUES ('\x00', 1, now()), ('\x01', 1, now()), ('\x02', 1, now())",
        )
        .await;
    let mut first = database.connect().await;
    first
        .execute(r"BEGIN; SELECT FROM people.attempt WHERE key = '\x00' FOR UPDATE")
        .await
        .unwrap();
    let mut second = database.connect().await;
    let refund = tokio::spawn(async move {
        second
            .execute(r"SELECT people.refund_attempt(ARRAY['\x00', '\x01']::bytea[], '\x02', now(), now())")
            .await
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while database.text(waiting).await.as_deref() != Some("1") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    database
        .execute(r"DELETE FROM people.attempt WHERE key = '\x01'")
        .await;
    database
        .execute(r"INSERT INTO people.attempt VALUES ('\x01', 1, now())")
        .await;
    let mut fourth = database.connect().await;
    fourth
        .execute(r"BEGIN; SELECT FROM people.attempt WHERE key = '\x01' FOR UPDATE")
        .await
        .unwrap();
    first.execute("ROLLBACK").await.unwrap();
    fourth
        .execute(r"SELECT FROM people.attempt WHERE key = '\x02' FOR UPDATE; COMMIT")
        .await
        .unwrap();
    refund.await.unwrap().unwrap();
    let left = database
        .text(
            "SELECT string_agg(encode(key, 'hex') || '=' || failures, ' ' ORDER BY key) FROM people.attempt",
        )
        .await;
    assert_eq!(left.as_deref(), Some("01=1 02=0"));
}

#[tokio::test]
async fn the_source_address_is_the_gateways_and_never_a_header() {
    let service = Service::start().await;
    for n in 0..5 {
        let forged = format!("192.0.2.{n}");
        let headers = [
            ("content-type", "application/json"),
            ("x-forwarded-for", &*forged),
            ("forwarded", &*format!("for={forged}")),
            ("x-real-ip", &*forged),
        ];
        let body = json!({ "userid": "alice", "password": "wrong" }).to_string();
        let reply = service
            .send(request(Method::POST, "/auth/login", &headers, body))
            .await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    service.at_once().await;
    assert_too_many(&service.log_in("alice", "wrong").await, 1);
}

#[tokio::test]
async fn an_address_registers_100_users_in_an_hour() {
    let service = Service::start_with(&[("ARGON2_MEMORY_KIB", "64"), ("ARGON2_ITERATIONS", "1")]).await;
    for n in 0..100 {
        assert_eq!(
            service.register_from(A, &format!("user-{n}")).await.status,
            StatusCode::OK
        );
    }
    let refused = service.register_from(A, "one-more").await;
    let wait = refused.json()["data"]["retry_after"].as_u64().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
    assert_too_many(&refused, u32::try_from(wait).unwrap());
    assert_eq!(
        service.register_from(B, "from-elsewhere").await.status,
        StatusCode::OK
    );
    service.pass("1 hour").await;
    assert_eq!(service.register_from(A, "one-more").await.status, StatusCode::OK);
}

#[tokio::test]
async fn parallel_registrations_never_pass_the_limit() {
    let settings = [
        ("ARGON2_MEMORY_KIB", "64"),
        ("ARGON2_ITERATIONS", "1"),
        ("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "7"),
    ];
    let service = Service::start_with(&settings).await;
    let registrations: Vec<_> = (0..30)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(async move {
                service
                    .register_from(A, &format!("user-{n}"))
                    .await
                    .status
                    .as_u16()
            })
        })
        .collect();
    let mut answers = BTreeMap::new();
    for registration in registrations {
        *answers.entry(registration.await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(answers, BTreeMap::from([(200, 7), (429, 23)]));
    assert_eq!(service.database.count("people.\"user\"").await, 7);
}

#[tokio::test]
async fn a_refused_registration_does_not_count() {
    let service = Service::start_with(&[("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "1")]).await;
    for _ in 0..3 {
        let reply = service
            .post(
                "/user/register",
                &json!({ "userid": "alice", "password": "short" }),
            )
            .await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(service.register("alice").await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_are_digests() {
    let service = Service::start().await;
    service.fail_from(A, "alice", 1).await;
    let rows = service
        .database
        .text("SELECT string_agg(encode(key, 'hex'), ' ' ORDER BY key) FROM people.attempt")
        .await
        .unwrap();
    assert_eq!(rows.split(' ').count(), 3);
    for row in rows.split(' ') {
        assert_eq!(row.len(), 64);
        assert!(!row.contains("616c696365"), "alice in hex");
    }
}
