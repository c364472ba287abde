//! `cargo bench --bench equal_work`: does the response time reveal whether a userid has an account, a password, or a
//! hash of another kind; or, of a request for a new password, whom it means? All kinds of failure are measured in one
//! random order and compared with a rank test, which needs no assumption about the distribution. Prints the results and
//! asserts nothing: on a busy machine single attempts may be slow.

#[path = "../contract/harness.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod harness;
#[path = "../contract/proxy.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod proxy;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use axum::extract::ConnectInfo;
use axum::http::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::{Database, PASSWORD, Service, request};
use crate::proxy::{Link, Proxy};

/// Accounts of each kind: with 300 attempts, each stays below the 100 free failures of a userid.
const ACCOUNTS: u32 = 4;
/// Attempts of each kind.
const ATTEMPTS: u32 = 300;
/// Attempts of each kind if each computes both kinds of hash, about a quarter of a second.
const SLOW_ATTEMPTS: u32 = 40;
/// Requests of each kind for a new password, each for another account: of more than three for one, no mail is sent.
const MAIL_REQUESTS: u32 = 500;
/// If two kinds take equally long, a random attempt of the first is slower than one of the second in half of all cases.
/// Above this share, or below its complement, somebody with enough attempts can tell them apart.
const LEAK: f64 = 0.6;
/// Significance level: a difference that equal kinds would show more often than this does not count.
const CHANCE: f64 = 0.01;

/// One kind of request. Kinds that are compared have accounts of the same length.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    path: &'static str,
    status: u16,
    /// Sent one after another, then again.
    bodies: Arc<[Value]>,
}

impl Kind {
    /// Log-ins that fail, with userids that begin with `prefix`.
    fn log_in(name: &'static str, prefix: &str, status: u16, password: &str) -> Self {
        let bodies = (0..ACCOUNTS).map(|n| json!({ "userid": format!("{prefix}{n}"), "password": password }));
        Self {
            name,
            path: "/auth/login",
            status,
            bodies: bodies.collect(),
        }
    }

    /// Requests for a mail with a link, for accounts that begin with `prefix`.
    fn forgot(name: &'static str, prefix: &str) -> Self {
        let bodies = (0..MAIL_REQUESTS).map(|n| json!({ "account": format!("{prefix}{n:03}") }));
        Self {
            name,
            path: "/auth/forgot",
            status: 200,
            bodies: bodies.collect(),
        }
    }

    fn failures(password: &str) -> [Self; 3] {
        [
            Self::log_in("unknown userid", "nobody", 401, password),
            Self::log_in("wrong password", "argon2", 401, password),
            Self::log_in("no password set", "nohash", 401, password),
        ]
    }

    fn other_parameters(password: &str) -> Self {
        Self::log_in("wrong password, t = 3", "argon3", 401, password)
    }

    fn bcrypt(password: &str) -> Self {
        Self::log_in("wrong password, bcrypt", "bcrypt", 401, password)
    }
}

const LOCKED: [(&str, &str); 2] = [("locked, unknown", "locked-no"), ("locked, known", "locked-ok")];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!(
        "A leak: one kind takes longer than another in over {:.0} % of the pairs, and chance alone (p) would do that in \
         under {:.0} % of such runs. To be run on a quiet machine.\n",
        100.0 * LEAK,
        100.0 * CHANCE
    );
    let service =
        Service::start_with(&[("FAILURES_PER_ADDRESS", "0"), ("MAILS_PER_ADDRESS_PER_HOUR", "0")]).await;
    add_accounts_with_addresses(&service).await;
    let same = [
        Kind::forgot("unknown account", "nobody-"),
        Kind::forgot("known account", "known--"),
        Kind::forgot("disabled account", "disabld"),
        Kind::forgot("account without address", "no-mail"),
    ];
    measure("Requests for a new password", &service, &same, MAIL_REQUESTS, 1).await;

    create_accounts(&service).await;
    let wrong = "wrong password";
    measure("Failures", &service, &Kind::failures(wrong), ATTEMPTS, 1).await;
    let locked = LOCKED.map(|(name, prefix)| Kind::log_in(name, prefix, 429, wrong));
    measure("Answers to a locked userid", &service, &locked, ATTEMPTS, 1).await;

    forget_attempts(&service).await;
    add_accounts_with_other_parameters(&service).await;
    let same = [&Kind::failures(wrong)[..], &[Kind::other_parameters(wrong)]].concat();
    let title = "Failures while some hashes have other parameters";
    measure(title, &service, &same, ATTEMPTS, 1).await;

    add_bcrypt_accounts(&service).await;
    // No more at a time than there are processors: an attempt must not wait for another's hash.
    let at_once = std::thread::available_parallelism().map_or(1, |processors| processors.get().min(4));
    for (title, password) in [
        ("Failures while some hashes are bcrypt's", wrong),
        // bcrypt hashes such a password both as typed and normalized.
        (
            "The same with a password that is not in normal form",
            "wrong pa\u{308}ssword",
        ),
    ] {
        forget_attempts(&service).await;
        let others = [Kind::other_parameters(password), Kind::bcrypt(password)];
        let same = [&Kind::failures(password)[..], &others].concat();
        measure(title, &service, &same, SLOW_ATTEMPTS, at_once).await;
    }
}

async fn add_accounts_with_addresses(service: &Service) {
    let insert = format!(
        r#"
        INSERT INTO people."user" (userid, user_name, email, email_verified_at, disabled_at)
        SELECT kind || to_char(n, 'FM000'), kind, CASE WHEN kind <> 'no-mail' THEN kind || n || '@example.com' END,
               now(), CASE WHEN kind = 'disabld' THEN now() END
        FROM unnest(ARRAY['known--', 'disabld', 'no-mail']) AS kind, generate_series(0, {MAIL_REQUESTS} - 1) AS n
        "#
    );
    service.database.execute(&insert).await;
}

/// Otherwise the failures of several measurements would lock the userids.
async fn forget_attempts(service: &Service) {
    service.database.execute("DELETE FROM people.attempt").await;
}

async fn create_accounts(service: &Service) {
    for prefix in ["argon2", "nohash", "locked-ok"] {
        for n in 0..ACCOUNTS {
            let reply = service.register(&format!("{prefix}{n}")).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
        }
    }
    let database = &service.database;
    let no_hash = r#"UPDATE people."user" SET password_hash = NULL WHERE userid LIKE 'nohash%'"#;
    database.execute(no_hash).await;
    for (name, prefix) in LOCKED {
        let kind = Kind::log_in(name, prefix, 401, "wrong password");
        for n in 0..ACCOUNTS {
            attempt(service, &kind, n).await;
        }
    }
    // So many that the userid has to wait from every address.
    database.lock_out().await;
}

async fn add_accounts_with_other_parameters(service: &Service) {
    let settings = [("ARGON2_ITERATIONS", "3")];
    let service = Service::on(service.database.clone(), &settings);
    for n in 0..ACCOUNTS {
        let userid = format!("argon3{n}");
        assert_eq!(service.register(&userid).await.status, 200);
    }
}

async fn add_bcrypt_accounts(service: &Service) {
    let hash = bcrypt::hash(PASSWORD, 12).expect("a hash");
    for n in 0..ACCOUNTS {
        let userid = format!("bcrypt{n}");
        let insert = format!(
            r#"INSERT INTO people."user" (userid, user_name, password_hash) VALUES ('{userid}', '{userid}', '{hash}')"#
        );
        service.database.execute(&insert).await;
    }
}

/// Milliseconds of one attempt from a new address.
async fn attempt(service: &Service, kind: &Kind, n: u32) -> f64 {
    static ADDRESS: AtomicU32 = AtomicU32::new(0x0a00_0001);
    let address = Ipv4Addr::from_bits(ADDRESS.fetch_add(1, Ordering::Relaxed));
    let body = kind.bodies[usize::try_from(n).unwrap_or(0) % kind.bodies.len()].to_string();
    let json = [("content-type", "application/json")];
    let mut request = request(Method::POST, kind.path, &json, body);
    let source = SocketAddr::from((address, 40_000));
    request.extensions_mut().insert(ConnectInfo(source));
    let started = Instant::now();
    let reply = service.send(request).await;
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    assert_eq!(
        reply.status.as_u16(),
        kind.status,
        "{}: {}",
        kind.name,
        reply.text
    );
    milliseconds
}

/// Makes attempts of all kinds in one random order, `at_once` at a time, and compares their times.
async fn measure(title: &str, service: &Service, kinds: &[Kind], attempts: u32, at_once: usize) {
    println!("{title}: {attempts} of each kind in random order, {at_once} at a time");
    let round_trips = round_trips(service, kinds).await;
    let mut order: Vec<(usize, u32)> = (0..kinds.len())
        .flat_map(|kind| (0..attempts).map(move |n| (kind, n)))
        .collect();
    order.sort_by_cached_key(|_| Uuid::new_v4());
    let mut times = vec![Vec::new(); kinds.len()];
    let permits = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for (kind, n) in order {
        let permit = permits.clone().acquire_owned().await.expect("never closed");
        let (service, attempted) = (service.clone(), kinds[kind].clone());
        running.spawn(async move {
            let took = attempt(&service, &attempted, n).await;
            drop(permit);
            (kind, took)
        });
        while let Some(done) = running.try_join_next() {
            let (kind, took) = done.expect("an attempt");
            times[kind].push(took);
        }
    }
    while let Some(done) = running.join_next().await {
        let (kind, took) = done.expect("an attempt");
        times[kind].push(took);
    }
    for times in &mut times {
        times.sort_unstable_by(f64::total_cmp);
    }
    println!(
        "  {:<24}{:>12}{:>12}{:>12}{:>14}",
        "milliseconds", "quartile", "median", "quartile", "round trips"
    );
    for ((kind, times), round_trips) in kinds.iter().zip(&times).zip(round_trips) {
        let [low, median, high] = [1, 2, 3].map(|quarter| times[times.len() * quarter / 4]);
        println!(
            "  {:<24}{low:>12.3}{median:>12.3}{high:>12.3}{round_trips:>14}",
            kind.name
        );
    }
    for first in 0..kinds.len() {
        for second in first + 1..kinds.len() {
            compare(&kinds[first], &times[first], &kinds[second], &times[second]);
        }
    }
    println!();
}

/// Round trips to the database of one attempt of each kind, on an open connection.
async fn round_trips(service: &Service, kinds: &[Kind]) -> Vec<usize> {
    let proxy = Proxy::to(&service.database, Link::Up).await;
    let proxied: Database = proxy.of(&service.database);
    let proxied = Service::on(proxied, &[("FAILURES_PER_ADDRESS", "0")]);
    let mut counted = Vec::new();
    for kind in kinds {
        // The first attempt connects and prepares the statement. A recently used connection is not pinged.
        attempt(&proxied, kind, 0).await;
        let health = request(Method::GET, "/health", &[], "");
        assert_eq!(proxied.send(health).await.status, 200);
        proxy.round_trips();
        attempt(&proxied, kind, 1).await;
        counted.push(proxy.round_trips());
    }
    counted
}

/// The Mann-Whitney test, in plain words.
fn compare(first: &Kind, first_times: &[f64], second: &Kind, second_times: &[f64]) {
    let (share, p) = mann_whitney(first_times, second_times);
    let verdict = if p >= CHANCE {
        "no difference to be seen"
    } else if !(1.0 - LEAK..=LEAK).contains(&share) {
        "A LEAK"
    } else {
        "a small difference"
    };
    let p = if p < 0.001 {
        "p < 0.001".to_owned()
    } else {
        format!("p = {p:.3}")
    };
    println!(
        "  {} takes longer than {} in {:.1} % of the pairs ({p}): {verdict}",
        first.name,
        second.name,
        100.0 * share
    );
}

/// The share of pairs in which the first is longer (ties count half), and the probability of a share at least that far
/// from one half if the two are equal (normal approximation).
fn mann_whitney(first: &[f64], second: &[f64]) -> (f64, f64) {
    let size = |times: &[f64]| times.iter().map(|_| 1.0).sum::<f64>();
    let (n, m) = (size(first), size(second));
    let longer: f64 = first
        .iter()
        .flat_map(|a| second.iter().map(move |b| a.total_cmp(b)))
        .map(|order| match order {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .sum();
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    let z = (longer - n * m / 2.0).abs() / deviation;
    (
        longer / (n * m),
        complementary_error(z / std::f64::consts::SQRT_2),
    )
}

/// Abramowitz and Stegun, 7.1.26; error below 1.5e-7.
fn complementary_error(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ]
    .into_iter()
    .fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    polynomial * (-x * x).exp()
}
