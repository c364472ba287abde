//! Limits for attempts. Instead of waiting, the times in the counts are changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::{Method, StatusCode};
use serde_json::json;
use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::harness::{Database, FAST, PASSWORD, Reply, Service, request};

const A: &str = "198.51.100.1";
const B: &str = "198.51.100.2";

impl Service {
    pub async fn log_in_from(&self, address: &str, userid: &str, password: &str) -> Reply {
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
            reply.assert_error(40101);
        }
        self.at_once().await;
    }

    async fn succeed_from(&self, address: &str, userid: &str) {
        let reply = self.log_in_from(address, userid, PASSWORD).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }

    /// As if all attempts so far had been made at this moment and had failed, however slow the machine is.
    async fn at_once(&self) {
        self.database
            .execute(
                "UPDATE people.attempt SET in_flight = '{}', failed_at = now()
                 WHERE greatest(failed_at, (SELECT max(t) FROM unnest(in_flight) AS t))
                       BETWEEN now() - interval '1 minute' AND now()",
            )
            .await;
    }

    /// As if this much time had passed. Attempts in flight have failed by then.
    async fn pass(&self, interval: &str) {
        self.database
            .execute(&format!(
                "UPDATE people.attempt
                 SET failed_at = greatest(failed_at, (SELECT max(t) FROM unnest(in_flight) AS t)) - interval '{interval}',
                     in_flight = '{{}}', forgotten_at = forgotten_at - interval '{interval}';
                 UPDATE people.known_network SET last_login = last_login - interval '{interval}'"
            ))
            .await;
    }

    /// Sends log-ins from one address all at once, as (userid, password): how often each status came.
    async fn log_in_at_once(
        instances: &[Self],
        address: &'static str,
        attempts: &[(String, &'static str)],
    ) -> BTreeMap<u16, usize> {
        let mut running = JoinSet::new();
        for (n, (userid, password)) in attempts.iter().cloned().enumerate() {
            let instance = instances[n % instances.len()].clone();
            running.spawn(async move {
                instance
                    .log_in_from(address, &userid, password)
                    .await
                    .status
                    .as_u16()
            });
        }
        let mut answers = BTreeMap::new();
        for status in running.join_all().await {
            *answers.entry(status).or_insert(0) += 1;
        }
        answers
    }
}

#[tokio::test]
async fn ten_failures_are_free_then_the_right_password_has_to_wait_too() {
    let service = Service::start().await;
    service.register("alice").await;
    service.fail_from(A, "alice", 10).await;
    service.log_in_from(A, "alice", PASSWORD).await.assert_too_many(1);
    service.pass("1 second").await;
    assert_eq!(
        service.log_in_from(A, "alice", PASSWORD).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_wait_doubles_with_each_further_failure_up_to_900_seconds() {
    let service = Service::start().await;
    service.fail_from(A, "alice", 10).await;
    // In the end, one decays for each that is added.
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 900, 900, 900] {
        service
            .log_in_from(A, "alice", "wrong")
            .await
            .assert_too_many(wait);
        service.pass(&format!("{wait} seconds")).await;
        service.fail_from(A, "alice", 1).await;
    }
}

#[tokio::test]
async fn an_attempt_rejected_during_a_wait_neither_counts_nor_prolongs_it() {
    let service = Service::start().await;
    service.fail_from(A, "alice", 10).await;
    for _ in 0..10 {
        service.log_in_from(A, "alice", "wrong").await.assert_too_many(1);
    }
    service.pass("1 second").await;
    service.fail_from(A, "alice", 1).await;
    service.log_in_from(A, "alice", "wrong").await.assert_too_many(2);
}

#[tokio::test]
async fn an_unknown_userid_has_the_same_limits_and_answers() {
    let service = Service::start().await;
    service.register("alice").await;
    for userid in ["alice", "nobody"] {
        service.fail_from(A, userid, 10).await;
        service.log_in_from(A, userid, "wrong").await.assert_too_many(1);
    }
}

#[tokio::test]
async fn spellings_of_one_userid_share_its_count() {
    let service = Service::start().await;
    for userid in ["alice", "ALICE", "Ａlice", "aLICE", "ａｌｉｃｅ"] {
        service.fail_from(A, userid, 2).await;
    }
    service.log_in_from(A, "Alice", "wrong").await.assert_too_many(1);
}

#[tokio::test]
async fn the_form_variant_counts_and_waits_alike() {
    let service = Service::start().await;
    for _ in 0..10 {
        assert_eq!(
            service.post_form("username=alice&password=wrong").await.status,
            StatusCode::BAD_REQUEST
        );
    }
    service.at_once().await;
    service
        .post_form("username=alice&password=wrong")
        .await
        .assert_too_many(1);
    service.log_in("alice", "wrong").await.assert_too_many(1);
}

#[tokio::test]
async fn an_attacker_who_is_locked_out_does_not_lock_out_the_victim_elsewhere() {
    let service = Service::start().await;
    service.register("alice").await;
    service.fail_from(A, "alice", 10).await;
    service.log_in_from(A, "alice", PASSWORD).await.assert_too_many(1);
    service.succeed_from(B, "alice").await;
}

#[tokio::test]
async fn a_userid_has_100_free_failures_from_all_addresses_together() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    for userid in ["alice", "nobody"] {
        for n in 0..25 {
            service.fail_from(&format!("198.51.100.{n}"), userid, 4).await;
        }
        let reply = service.log_in_from("198.51.100.200", userid, PASSWORD).await;
        reply.assert_too_many(1);
    }
}

/// 111 failures from 24 addresses, then one in a quarter of an hour: from anywhere else, the userid has to wait for
/// good.
#[tokio::test]
async fn guesses_from_elsewhere_do_not_lock_out_users_where_they_logged_in_within_30_days() {
    let service = Service::start_with(&[FAST[0], FAST[1], ("FAILURES_PER_ADDRESS", "0")]).await;
    service.register("alice").await;
    service.succeed_from(B, "alice").await;
    for n in 0..100 {
        service
            .fail_from(&format!("192.0.2.{}", n % 24), "alice", 1)
            .await;
    }
    for n in 0..11 {
        service.pass("900 seconds").await;
        // One has decayed in the meantime, so this one is free, and the next is not.
        service
            .fail_from(&format!("192.0.2.{}", 30 + n), "alice", 1)
            .await;
        service.log_in_from(A, "alice", PASSWORD).await.assert_too_many(1);
        service.succeed_from(B, "alice").await;
    }
    service.pass("29 days").await;
    service.succeed_from(B, "alice").await;
    service.pass("30 days 1 second").await;
    service
        .database
        .execute(
            "INSERT INTO people.attempt
             SELECT sha256(convert_to('userid', 'utf8') || '\\x00' || convert_to('alice', 'utf8')),
                    now() + 100 * interval '15 minutes', now()",
        )
        .await;
    service.log_in_from(B, "alice", PASSWORD).await.assert_too_many(1);
}

#[tokio::test]
async fn failures_from_a_known_address_do_not_count_against_the_userid_elsewhere() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    service.succeed_from(B, "alice").await;
    service.database.execute("DELETE FROM people.attempt").await;
    service.fail_from(B, "alice", 10).await;
    let counted = "people.attempt WHERE forgotten_at > now()";
    assert_eq!(
        service.database.count(counted).await,
        2,
        "userid and address, address"
    );
    service.fail_from(A, "alice", 1).await;
    assert_eq!(service.database.count(counted).await, 5);
}

#[tokio::test]
async fn a_success_clears_the_count_of_its_userid_only_from_an_address_that_was_unknown() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    service.succeed_from(B, "alice").await;
    service.fail_from(A, "alice", 9).await;
    let of_userid = "people.attempt WHERE forgotten_at > now()
        AND key = sha256(convert_to('userid', 'utf8') || '\\x00' || convert_to('alice', 'utf8'))";
    assert_eq!(service.database.count(of_userid).await, 1);
    service.succeed_from(B, "alice").await;
    assert_eq!(service.database.count(of_userid).await, 1);
    service.succeed_from(A, "alice").await;
    assert_eq!(service.database.count(of_userid).await, 0);
}

#[tokio::test]
async fn a_known_network_belongs_to_its_user_and_is_deleted_with_the_user() {
    let service = Service::start_with(&FAST).await;
    for (userid, address) in [("alice", "2001:db8:1:2::3"), ("bob", A), ("bob", B), ("bob", B)] {
        service.register(userid).await;
        service.succeed_from(address, userid).await;
    }
    let known = "SELECT string_agg(userid || ' ' || network, ', ' ORDER BY userid, network)
                 FROM people.known_network JOIN people.\"user\" USING (user_id)";
    assert_eq!(
        service.database.text(known).await.as_deref(),
        Some("alice 2001:db8:1:2::/64, bob 198.51.100.1/32, bob 198.51.100.2/32")
    );
    service
        .database
        .execute("DELETE FROM people.\"user\" WHERE userid = 'bob'")
        .await;
    assert_eq!(service.database.count("people.known_network").await, 1);
}

#[tokio::test]
async fn an_address_has_50_free_failures_for_all_userids_together() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    for n in 0..50 {
        service.fail_from(A, &format!("nobody-{n}"), 1).await;
    }
    service.log_in_from(A, "alice", PASSWORD).await.assert_too_many(1);
    assert_eq!(
        service.log_in_from(B, "alice", PASSWORD).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn addresses_of_one_ipv6_network_are_one_source() {
    let service = Service::start().await;
    for n in 1..=10 {
        service.fail_from(&format!("2001:db8:1:2::{n}"), "alice", 1).await;
    }
    service
        .log_in_from("2001:db8:1:2:ffff::", "alice", "wrong")
        .await
        .assert_too_many(1);
    service.fail_from("2001:db8:1:3::1", "alice", 1).await;
}

#[tokio::test]
async fn a_setting_raises_or_lifts_the_limit_of_an_address() {
    let service = Service::start_with(&[FAST[0], FAST[1], ("FAILURES_PER_ADDRESS", "2")]).await;
    service.fail_from(A, "nobody-1", 1).await;
    service.fail_from(A, "nobody-2", 1).await;
    service
        .log_in_from(A, "nobody-3", "wrong")
        .await
        .assert_too_many(1);

    let service = Service::start_with(&[FAST[0], FAST[1], ("FAILURES_PER_ADDRESS", "0")]).await;
    for n in 0..60 {
        service.fail_from(A, &format!("nobody-{n}"), 1).await;
    }
}

#[tokio::test]
async fn a_success_clears_the_counts_of_its_userid_and_no_other() {
    let service = Service::start_with(&FAST).await;
    service.register("alice").await;
    service.register("mallory").await;
    service.fail_from(A, "alice", 9).await;
    service.fail_from(A, "mallory", 9).await;
    service.succeed_from(A, "mallory").await;
    // Mallory's ten are free again, alice's tenth is the last.
    service.fail_from(A, "mallory", 10).await;
    service.fail_from(A, "alice", 1).await;
    service.log_in_from(A, "alice", PASSWORD).await.assert_too_many(1);
}

#[tokio::test]
async fn an_attackers_own_successes_do_not_clear_the_count_of_the_address() {
    let service = Service::start_with(&[("FAILURES_PER_ADDRESS", "3")]).await;
    service.register("mallory").await;
    for n in 0..3 {
        service.fail_from(A, &format!("victim-{n}"), 1).await;
        if n < 2 {
            service.succeed_from(A, "mallory").await;
        }
    }
    service
        .log_in_from(A, "victim-3", "wrong")
        .await
        .assert_too_many(1);
}

#[tokio::test]
async fn a_success_gives_its_reservation_back_and_causes_no_wait() {
    let service = Service::start_with(&[("FAILURES_PER_ADDRESS", "3")]).await;
    service.register("alice").await;
    service.fail_from(A, "nobody", 3).await;
    service.pass("1 second").await;
    // The fourth attempt is reserved and succeeds, which leaves the count and its time unchanged.
    for _ in 0..5 {
        assert_eq!(
            service.log_in_from(A, "alice", PASSWORD).await.status,
            StatusCode::OK
        );
    }
    service.fail_from(A, "nobody", 1).await;
    service.log_in_from(A, "alice", PASSWORD).await.assert_too_many(2);
}

#[tokio::test]
async fn a_failure_decays_in_15_minutes_or_in_one_by_address() {
    let service = Service::start_with(&[FAST[0], FAST[1], ("FAILURES_PER_ADDRESS", "12")]).await;
    service.fail_from(A, "alice", 10).await;
    service.log_in_from(A, "alice", "wrong").await.assert_too_many(1);
    service.pass("15 minutes").await;
    service.fail_from(A, "alice", 1).await;
    service.log_in_from(A, "alice", "wrong").await.assert_too_many(1);
    service.pass("30 minutes").await;
    service.fail_from(A, "alice", 2).await;
    service.log_in_from(A, "alice", "wrong").await.assert_too_many(1);

    service.fail_from(A, "nobody", 10).await;
    service
        .log_in_from(A, "somebody", "wrong")
        .await
        .assert_too_many(1);
    service.pass("3 minutes").await;
    service.fail_from(A, "somebody", 3).await;
    service
        .log_in_from(A, "somebody", "wrong")
        .await
        .assert_too_many(1);
}

#[tokio::test]
async fn two_people_behind_one_address_who_mistype_once_a_day_never_have_to_wait() {
    let service = Service::start_with(&FAST).await;
    for userid in ["alice", "bob"] {
        service.register(userid).await;
    }
    for _ in 0..70 {
        for userid in ["alice", "bob"] {
            service.fail_from(A, userid, 1).await;
            service.succeed_from(A, userid).await;
        }
        service.pass("1 day").await;
    }
}

#[tokio::test]
async fn sixty_failures_yesterday_do_not_affect_twenty_concurrent_log_ins() {
    let service = Service::start_with(&FAST).await;
    service.register("pupil-0").await;
    for n in 0..60 {
        if n >= 50 {
            service.pass("900 seconds").await;
        }
        service.fail_from(A, &format!("nobody-{n}"), 1).await;
    }
    service.pass("1 day").await;
    copy_user(&service, 20).await;
    let pupils: Vec<_> = (0..20).map(|n| (format!("pupil-{n}"), PASSWORD)).collect();
    let answers = Service::log_in_at_once(&[service], A, &pupils).await;
    assert_eq!(answers, BTreeMap::from([(200, 20)]));
}

/// `pupil-1` and so on, with the password of `pupil-0`.
async fn copy_user(service: &Service, users: u32) {
    service
        .database
        .execute(&format!(
            r#"INSERT INTO people."user" (userid, user_name, password_hash)
               SELECT 'pupil-' || n, 'Pupil', password_hash FROM people."user", generate_series(1, {users} - 1) AS n
               WHERE userid = 'pupil-0'"#
        ))
        .await;
}

#[tokio::test]
async fn setting_the_clock_back_does_not_prolong_a_wait() {
    let service = Service::start_with(&[FAST[0], FAST[1], ("FAILURES_PER_ADDRESS", "25")]).await;
    service.fail_from(A, "alice", 10).await;
    // As after setting the clock back by an hour: the times in the rows are in the future.
    for n in 0..3 {
        service.pass("-1 hour").await;
        service.log_in_from(A, "alice", "wrong").await.assert_too_many(1);
        service.pass("-10 days").await;
        // The address has no more than it had before.
        service.fail_from(A, &format!("nobody-{n}"), 5).await;
    }
    let service = Service::start_with(&[("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "1")]).await;
    service.register("alice").await;
    service.pass("-1 day").await;
    let wait = service.register("bob").await.json()["data"]["retry_after"].as_u64();
    assert!(
        wait.is_some_and(|wait| (3_590..=3_600).contains(&wait)),
        "{wait:?}"
    );
}

#[tokio::test]
async fn no_wait_is_over_900_seconds() {
    let service = Service::start().await;
    service.fail_from(A, "alice", 1).await;
    for failed_at in ["now()", "now() + interval '3 days'"] {
        service
            .database
            .execute(&format!(
                "UPDATE people.attempt
                 SET forgotten_at = now() + interval '1000 days', failed_at = {failed_at}, in_flight = '{{}}'"
            ))
            .await;
        service
            .log_in_from(A, "alice", "wrong")
            .await
            .assert_too_many(900);
    }
}

#[tokio::test]
async fn counts_survive_a_cold_start_and_are_shared_by_instances() {
    let database = Database::migrated().await;
    for _ in 0..10 {
        let cold = Service::on(database.clone(), &FAST);
        cold.fail_from(A, "alice", 1).await;
    }
    Service::on(database, &[])
        .log_in_from(A, "alice", "wrong")
        .await
        .assert_too_many(1);
}

fn guesses(count: usize) -> Vec<(String, &'static str)> {
    vec![("alice".to_owned(), "wrong"); count]
}

/// Attempts counted for alice and the address.
const VERIFIED: &str = "SELECT round(extract(epoch FROM max(forgotten_at) - now()) / 900) FROM people.attempt
                        WHERE forgotten_at > now() + interval '30 minutes'";

#[tokio::test]
async fn of_50_parallel_guesses_only_the_free_ones_and_those_that_waited_are_verified() {
    let service = Service::start().await;
    let answers = Service::log_in_at_once(std::slice::from_ref(&service), A, &guesses(50)).await;
    // One more after the first second, and another after two more, if this machine takes that long.
    let verified = answers[&401];
    assert!((10..=13).contains(&verified), "{answers:?}");
    assert_eq!(answers, BTreeMap::from([(401, verified), (429, 50 - verified)]));
    let counted = service.database.text(VERIFIED).await;
    assert_eq!(counted, Some(verified.to_string()));
}

#[tokio::test]
async fn parallel_guesses_at_several_instances_never_pass_the_limit() {
    let database = Database::migrated().await;
    let instances: Vec<_> = (0..5).map(|_| Service::on(database.clone(), &[])).collect();
    // The twentieth failure causes a wait of 900 s, so no other succeeds, however slow the machine is.
    instances[0].fail_from(A, "alice", 1).await;
    database
        .execute(
            "UPDATE people.attempt
             SET forgotten_at = now() + 20 * interval '15 minutes', failed_at = now() - interval '16 minutes'",
        )
        .await;
    let answers = Service::log_in_at_once(&instances, A, &guesses(60)).await;
    assert_eq!(answers, BTreeMap::from([(401, 1), (429, 59)]));
    let answers = Service::log_in_at_once(&instances, A, &guesses(60)).await;
    assert_eq!(answers, BTreeMap::from([(429, 60)]));
}

#[tokio::test]
async fn parallel_log_ins_with_the_right_password_all_succeed_and_leave_no_count() {
    for (users, log_ins) in [(1, 8), (1, 20), (1, 40), (40, 40), (10, 80)] {
        for instances in [1, 4] {
            let database = Database::migrated().await;
            let instances: Vec<_> = (0..instances)
                .map(|_| Service::on(database.clone(), &FAST))
                .collect();
            instances[0].register_from(B, "pupil-0").await;
            copy_user(&instances[0], users).await;
            let attempts: Vec<_> = (0..log_ins)
                .map(|n| (format!("pupil-{}", n % users), PASSWORD))
                .collect();
            let answers = Service::log_in_at_once(&instances, A, &attempts).await;
            let all = usize::try_from(log_ins).unwrap();
            assert_eq!(
                answers,
                BTreeMap::from([(200, all)]),
                "{users} users, {log_ins} log-ins"
            );
            assert_eq!(database.count("people.user_session").await, i64::from(log_ins));
            // The registration's.
            assert_eq!(database.count("people.attempt").await, 1);
        }
    }
}

/// Reserves an attempt on three keys, of which the first has 2 free places.
const RESERVE: &str = r"people.reserve_attempt(ARRAY['\x01', '\x02', '\x03']::bytea[], '{2, 100, 50}',
    ARRAY['15 min', '15 min', '1 min']::interval[], '{true, true, true}', '{}')";

#[tokio::test]
async fn an_attempt_in_flight_causes_a_wait_of_at_most_a_second_and_is_not_a_failure() {
    let database = Database::migrated().await;
    let outcome = format!("SELECT (retry_after, only_in_flight, failures) FROM {RESERVE}");
    assert_eq!(database.text(&outcome).await.as_deref(), Some("(,,0)"));
    assert_eq!(database.text(&outcome).await.as_deref(), Some("(,,0)"));
    assert_eq!(database.text(&outcome).await.as_deref(), Some("(1,t,0)"));
    // However many there have been before: these two would make the third wait 512 s, had they failed.
    database
        .execute("UPDATE people.attempt SET forgotten_at = forgotten_at + 8 * interval '15 min'")
        .await;
    assert_eq!(database.text(&outcome).await.as_deref(), Some("(1,t,8)"));
}

#[tokio::test]
async fn an_attempt_that_neither_succeeds_nor_fails_counts_as_failed_after_ten_seconds() {
    let database = Database::migrated().await;
    let outcome = format!("SELECT (retry_after, only_in_flight, failures) FROM {RESERVE}");
    database.text(&outcome).await;
    database.text(&outcome).await;
    let pass = |time: &str| {
        format!(
            "UPDATE people.attempt SET in_flight = ARRAY(SELECT t - interval '{time}' FROM unnest(in_flight) AS t),
                    forgotten_at = forgotten_at - interval '{time}'"
        )
    };
    database.execute(&pass("9 seconds")).await;
    assert_eq!(database.text(&outcome).await.as_deref(), Some("(,,0)"));
    database.execute(&pass("2 seconds")).await;
    assert_eq!(database.text(&outcome).await.as_deref(), Some("(,,2)"));
    database.execute(&pass("1 day")).await;
    assert_eq!(database.text(&outcome).await.as_deref(), Some("(,,0)"));
}

#[tokio::test]
async fn a_success_that_is_sent_twice_gives_its_attempt_back_once() {
    let database = Database::migrated().await;
    let reserved_at = format!("SELECT reserved_at FROM {RESERVE}");
    let mut reserved = Vec::new();
    for _ in 0..2 {
        reserved.push(database.text(&reserved_at).await.unwrap());
    }
    let give_back = format!(
        r"SELECT people.give_back_attempt(ARRAY['\x01', '\x02', '\x03']::bytea[],
            ARRAY['15 min', '15 min', '1 min']::interval[], '{{false, false, false}}', '{}')",
        reserved[0]
    );
    let left = "SELECT string_agg(ceil(extract(epoch FROM forgotten_at - now()) / 60)::text || ' ' || cardinality(in_flight),
                    ', ' ORDER BY key) FROM people.attempt";
    assert_eq!(database.text(left).await.as_deref(), Some("30 2, 30 2, 2 2"));
    for _ in 0..2 {
        database.text(&give_back).await;
        assert_eq!(database.text(left).await.as_deref(), Some("15 1, 15 1, 1 1"));
    }
    // As a log-in sends it, with counts to clear: what failed between the two stays.
    let clear = give_back
        .replace("{false, false, false}", "{true, true, false}")
        .replace(&reserved[0], &reserved[1]);
    database.text(&clear).await;
    assert_eq!(database.text(left).await, None);
    database.text(&reserved_at).await;
    database.text(&clear).await;
    assert_eq!(database.text(left).await.as_deref(), Some("15 1, 15 1, 1 1"));
}

/// Four logins of one user at once, in the one order in which the refund of the second meets the row that the third
/// made and the fourth holds.
#[tokio::test]
async fn giving_an_attempt_back_locks_rows_in_order() {
    let database = Database::migrated().await;
    database
        .execute(
            r"INSERT INTO people.attempt SELECT key, now() + interval '1 minute', 'epoch', ARRAY[timestamptz '2026-01-01']
              FROM unnest(ARRAY['\x00', '\x01', '\x02']::bytea[]) AS key",
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
            .execute(
                r"SELECT people.give_back_attempt(ARRAY['\x00', '\x01', '\x02']::bytea[],
                    ARRAY['1 min', '1 min', '1 min']::interval[], '{true, true, false}', '2026-01-01')",
            )
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
        .execute(r"INSERT INTO people.attempt VALUES ('\x01', now() + interval '1 minute', now())")
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
            "SELECT string_agg(encode(key, 'hex') || '=' || (forgotten_at > now()), ' ' ORDER BY key) FROM people.attempt",
        )
        .await;
    assert_eq!(left.as_deref(), Some("01=true"));
}

#[tokio::test]
async fn the_source_address_is_the_gateways_and_never_a_header() {
    let service = Service::start().await;
    for n in 0..10 {
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
    service.log_in("alice", "wrong").await.assert_too_many(1);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_source_address_is_the_viewers() {
    let settings = [
        ("TRUSTED_PROXY", "cloudfront"),
        ("TRUSTED_PROXY_SECRET", "0123456789abcdef"),
    ];
    let service = Service::start_with(&[FAST[0], FAST[1], settings[0], settings[1]]).await;
    let fail = async |viewer: &str, secret: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("cloudfront-viewer-address", viewer),
            ("x-origin-verify", secret),
        ];
        let body = json!({ "userid": "alice", "password": "wrong" }).to_string();
        let reply = service
            .send(request(Method::POST, "/auth/login", &headers, body))
            .await;
        reply.status.as_u16()
    };
    // Without the secret, all have the address that the gateway sees.
    for n in 0..10 {
        assert_eq!(fail(&format!("192.0.2.{n}:4711"), "0123456789abcdeF").await, 401);
    }
    service.at_once().await;
    assert_eq!(fail("192.0.2.77:4711", "").await, 429);
    for n in 0..10 {
        assert_eq!(
            fail(&format!("2001:db8:1:2::{n}:471{n}"), "0123456789abcdef").await,
            401
        );
    }
    service.at_once().await;
    assert_eq!(fail("2001:db8:1:2:ffff::1:4711", "0123456789abcdef").await, 429);
    assert_eq!(fail("192.0.2.77:4711", "0123456789abcdef").await, 401);
}

#[tokio::test]
async fn an_address_registers_100_users_and_then_one_in_36_seconds() {
    let service = Service::start_with(&FAST).await;
    for n in 0..100 {
        let reply = service.register_from(A, &format!("user-{n}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{n}");
    }
    // As if all had been made at this moment.
    let at_once =
        "UPDATE people.attempt SET forgotten_at = now() + 100 * interval '36 seconds', failed_at = now()";
    service.database.execute(at_once).await;
    service.register_from(A, "one-more").await.assert_too_many(36);
    let reply = service.register_from(B, "from-elsewhere").await;
    assert_eq!(reply.status, StatusCode::OK);
    service.pass("36 seconds").await;
    assert_eq!(service.register_from(A, "one-more").await.status, StatusCode::OK);
    let refused = service.register_from(A, "and-another").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    service.pass("1 hour").await;
    for n in 0..5 {
        let reply = service.register_from(A, &format!("later-{n}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{n}");
    }
}

#[tokio::test]
async fn parallel_registrations_never_pass_the_limit() {
    let settings = [FAST[0], FAST[1], ("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "7")];
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
            .register_with(json!({ "userid": "alice", "password": "short" }))
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
