//! `cargo bench --bench soak [-- MINUTES]`: the deployed binaries, one instance of each function under a small runtime
//! API, for an hour at half of what one client gets, with `outbox` and `purge` running and the signing key rotated
//! twice. Watches the memory of each instance, the size of the tables and the number of connections. Writes `soak.json`
//! and `soak.svg` to `docs/performance`, or to `target/performance` if it runs for less than ten minutes. Fails if a
//! request does not succeed or a connection is left over; asserts nothing about memory. `--binaries DIRECTORY` uses
//! `DIRECTORY/NAME/bootstrap` instead of building them.

#[path = "../contract/harness.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod harness;
#[path = "figures/instance.rs"]
#[expect(dead_code, reason = "what only the figures use")]
mod instance;
#[path = "support/timeline.rs"]
mod timeline;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::{Value, json};

use crate::harness::{Database, PASSWORD, SECRET_KEY};
use crate::instance::Instance;
use crate::timeline::Timeline;

/// Every function with a connection to the database but `migrate` and `admin`.
const FUNCTIONS: [&str; 10] = [
    "register",
    "login",
    "logout",
    "me",
    "account",
    "credentials",
    "authorizer",
    "health",
    "outbox",
    "purge",
];
const USERS: usize = 200;
/// Requests at full speed, to know what half of it is.
const CALIBRATION: Duration = Duration::from_secs(20);
const SAMPLE: Duration = Duration::from_secs(10);
/// More often than deployed, since an hour stands for days.
const OUTBOX: Duration = Duration::from_secs(10);
const PURGE: Duration = Duration::from_secs(30);
/// A token is thrown away sooner than it expires.
const TOKEN_MINUTES: u64 = 5;
const TOKEN_USED: Duration = Duration::from_mins(4);
const TABLES: [&str; 5] = ["user", "user_session", "attempt", "known_network", "outbox"];

/// Of a hundred requests.
const MIX: [(Action, usize); 10] = [
    (Action::Me, 62),
    (Action::Authorizer, 10),
    (Action::LogIn, 10),
    (Action::LogOut, 8),
    (Action::Sessions, 3),
    (Action::Health, 2),
    (Action::Profile, 1),
    (Action::ChangePassword, 1),
    (Action::Forgot, 1),
    (Action::Replace, 2),
];

#[derive(Clone, Copy)]
enum Action {
    Me,
    Authorizer,
    LogIn,
    LogOut,
    Sessions,
    Health,
    Profile,
    ChangePassword,
    Forgot,
    /// A user is deleted, and another registers.
    Replace,
}

struct User {
    userid: String,
    password: String,
    tokens: Vec<(String, Instant)>,
}

/// The instances, and the people who use them.
struct Service {
    database: Database,
    instances: BTreeMap<&'static str, Instance>,
    users: Vec<User>,
    /// How often the key has been rotated.
    rotations: usize,
    requests: usize,
    failures: Vec<String>,
}

/// What was seen at one moment.
struct Sample {
    minutes: f64,
    /// Requests since the sample before, a second.
    rate: f64,
    /// Resident memory of each instance, in MiB.
    memory: BTreeMap<&'static str, f64>,
    /// Connections of the service to the database.
    connections: u32,
    /// Size of each table with its indexes, in MiB, and its rows.
    tables: BTreeMap<&'static str, (f64, i64)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let minutes: u32 = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(60);
    if binaries().is_none() {
        build();
    }
    let database = Database::migrated().await;
    let mut service = Service {
        database,
        instances: BTreeMap::new(),
        users: Vec::new(),
        rotations: 0,
        requests: 0,
        failures: Vec::new(),
    };
    service.start().await;
    for number in 0..USERS {
        let user = service.register(format!("user-{number}")).await;
        service.users.push(user);
    }
    for user in 0..USERS {
        service.log_in(user).await;
    }
    let (started, before) = (Instant::now(), service.requests);
    while started.elapsed() < CALIBRATION {
        service.step().await;
    }
    let capacity = rate(service.requests - before, started.elapsed());
    println!("{capacity:.0} requests a second; {minutes} minutes at half of that");
    let samples = service
        .soak(Duration::from_mins(minutes.into()), capacity / 2.0)
        .await;

    // What has ended is removed; nothing holds a connection but the instances, and with them these go.
    tokio::time::sleep(Duration::from_mins(TOKEN_MINUTES)).await;
    service.run("purge").await;
    service.run("outbox").await;
    let last = service.sample(minutes, 0.0).await;
    drop(std::mem::take(&mut service.instances));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let left = service.connections().await;
    report(&service, minutes, capacity, &samples, &last, left)?;
    Ok(if service.failures.is_empty() && left == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Service {
    /// Starts every instance anew, with the current key.
    async fn start(&mut self) {
        let key = |rotation: usize| format!("{SECRET_KEY}, rotated {rotation} times");
        let (current, lifetime) = (key(self.rotations), TOKEN_MINUTES.to_string());
        let previous = self.rotations.checked_sub(1).map(key);
        let mut settings = vec![
            ("DATABASE_URL", &*self.database.url),
            ("SECRET_KEY", &*current),
            ("ACCESS_TOKEN_EXPIRE_MINUTES", &*lifetime),
            ("FAILURES_PER_ADDRESS", "0"),
            ("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "0"),
            ("MAILS_PER_ADDRESS_PER_HOUR", "0"),
            ("SESSION_RETENTION_DAYS", "0"),
            ("MAIL_FROM", "people@example.com"),
            ("APP_RESET_URL", "https://app.example.com/reset"),
            ("APP_EMAIL_URL", "https://app.example.com/email"),
        ];
        settings.extend(previous.as_deref().map(|key| ("SECRET_KEY_PREVIOUS", key)));
        for name in FUNCTIONS {
            // The former one ends when the new one can answer.
            let instance = Instance::start_idle(name, &settings).await;
            self.instances.insert(name, instance);
        }
    }

    async fn soak(&mut self, duration: Duration, wanted: f64) -> Vec<Sample> {
        let started = Instant::now();
        let (mut requests, first) = (0.0, self.requests);
        let (mut sampled, mut sampled_requests) = (Duration::ZERO, first);
        let (mut outbox, mut purge, rotations) = (Duration::ZERO, Duration::ZERO, self.rotations);
        let mut samples = Vec::new();
        while started.elapsed() < duration {
            self.step().await;
            // No burst after something that takes long.
            requests = f64::max(requests + 1.0, started.elapsed().as_secs_f64() * wanted - 50.0);
            let due = Duration::from_secs_f64(requests / wanted);
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            let now = started.elapsed();
            if now > outbox + OUTBOX {
                outbox = now;
                self.run("outbox").await;
            }
            if now > purge + PURGE {
                purge = now;
                self.run("purge").await;
            }
            // What an earlier key than the previous one signed is not live: no sooner than a token is thrown away.
            let third = (duration / 3).max(TOKEN_USED);
            let rotated = self.rotations - rotations;
            if rotated < 2 && now > third * u32::try_from(rotated + 1).unwrap_or(3) {
                self.rotations += 1;
                self.start().await;
            }
            if now > sampled + SAMPLE {
                let rate = rate(self.requests - sampled_requests, now.saturating_sub(sampled));
                (sampled, sampled_requests) = (now, self.requests);
                samples.push(self.sample(now.as_secs_f64() / 60.0, rate).await);
            }
        }
        samples
    }

    /// One request of a user, chosen in an irregular order.
    async fn step(&mut self) {
        let number = self.requests.wrapping_mul(2_654_435_761) >> 7;
        let mut chosen = number % 100;
        let action = MIX.iter().find(|(_, share)| {
            let found = chosen < *share;
            chosen = chosen.saturating_sub(*share);
            found
        });
        let user = (number / 100) % self.users.len();
        let tokens = &mut self.users[user].tokens;
        tokens.retain(|(_, since)| since.elapsed() < TOKEN_USED);
        let token = tokens.first().map(|(token, _)| token.clone());
        let Some((action, token)) = action.map(|(action, _)| *action).zip(token) else {
            return self.log_in(user).await;
        };
        let userid = self.users[user].userid.clone();
        match action {
            Action::LogIn => self.log_in(user).await,
            Action::Me => self.send("me", "GET /auth/me", &token, None).await,
            Action::Health => self.send("health", "GET /health", "", None).await,
            Action::Sessions => self.send("account", "GET /auth/sessions", &token, None).await,
            Action::Profile => {
                let body = json!({ "job": format!("reader {}", self.requests) });
                self.send("account", "PATCH /auth/me", &token, Some(body)).await;
            }
            Action::LogOut => {
                self.users[user].tokens.remove(0);
                self.send("logout", "POST /auth/logout", &token, None).await;
            }
            Action::Authorizer => {
                let event = event_file("authorizer-http").replace("TOKEN", &token);
                self.requests += 1;
                let answer = self
                    .instances
                    .get_mut("authorizer")
                    .expect("started")
                    .ask(&event)
                    .await;
                if answer["isAuthorized"] != true {
                    self.failures.push(format!("authorizer: {answer}"));
                }
            }
            Action::ChangePassword => {
                let new = format!("quiet lantern {} over the harbour", self.requests);
                let body = json!({ "current_password": self.users[user].password, "new_password": new });
                self.users[user].password = new;
                self.users[user].tokens.truncate(1);
                self.send("credentials", "POST /auth/password", &token, Some(body))
                    .await;
            }
            Action::Forgot => {
                let body = json!({ "account": userid });
                self.send("credentials", "POST /auth/forgot", "", Some(body))
                    .await;
            }
            Action::Replace => {
                let body = json!({ "password": self.users[user].password });
                self.send("credentials", "POST /user/delete", &token, Some(body))
                    .await;
                self.users[user] = self.register(format!("new-{}", self.requests)).await;
            }
        }
    }

    async fn register(&mut self, userid: String) -> User {
        let email = format!("{userid}@example.com");
        let body = json!({ "userid": userid, "password": PASSWORD, "email": email });
        self.send("register", "POST /user/register", "", Some(body)).await;
        User {
            userid,
            password: PASSWORD.to_owned(),
            tokens: Vec::new(),
        }
    }

    async fn log_in(&mut self, user: usize) {
        let User { userid, password, .. } = &self.users[user];
        let body = json!({ "userid": userid, "password": password });
        let answer = self.call("login", "POST /auth/login", "", Some(body)).await;
        let body: Value = answer["body"]
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        if let Some(token) = body["data"]["access_token"].as_str() {
            self.users[user].tokens.push((token.to_owned(), Instant::now()));
        }
    }

    async fn send(&mut self, function: &'static str, route: &str, token: &str, body: Option<Value>) {
        self.call(function, route, token, body).await;
    }

    /// Sends a request and notes if it does not succeed.
    async fn call(&mut self, function: &'static str, route: &str, token: &str, body: Option<Value>) -> Value {
        self.requests += 1;
        let event = event(route, token, body);
        let answer = self
            .instances
            .get_mut(function)
            .expect("started")
            .ask(&event)
            .await;
        if answer["statusCode"] != 200 {
            self.failures.push(format!("{route}: {answer}"));
        }
        answer
    }

    /// Runs a job.
    async fn run(&mut self, name: &'static str) {
        let answer = self.instances.get_mut(name).expect("started").ask("{}").await;
        let done = answer["complete"] == true || answer["mails"].is_array();
        if !done {
            self.failures.push(format!("{name}: {answer}"));
        }
    }

    async fn connections(&self) -> u32 {
        let count = self
            .database
            .count("pg_stat_activity WHERE application_name = 'people'")
            .await;
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    async fn sample(&self, minutes: impl Into<f64>, rate: f64) -> Sample {
        let memory = self
            .instances
            .iter()
            .map(|(name, instance)| (*name, instance.memory("VmRSS")));
        let mut tables = BTreeMap::new();
        for table in TABLES {
            let bytes = format!("SELECT pg_total_relation_size('people.\"{table}\"')");
            let bytes: f64 = self
                .database
                .text(&bytes)
                .await
                .and_then(|text| text.parse().ok())
                .unwrap_or(0.0);
            let rows = self.database.count(&format!("people.\"{table}\"")).await;
            tables.insert(table, (bytes / 1024.0 / 1024.0, rows));
        }
        Sample {
            minutes: minutes.into(),
            rate,
            memory: memory.collect(),
            connections: self.connections().await,
            tables,
        }
    }
}

/// An event of an HTTP API for any route.
fn event(route: &str, token: &str, body: Option<Value>) -> String {
    static TEMPLATE: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(&event_file("me")).expect("JSON"));
    let (method, path) = route.split_once(' ').expect("method and path");
    let mut event = TEMPLATE.clone();
    event["routeKey"] = json!(route);
    event["requestContext"]["routeKey"] = json!(route);
    event["rawPath"] = json!(path);
    event["requestContext"]["http"]["path"] = json!(path);
    event["requestContext"]["http"]["method"] = json!(method);
    let headers = event["headers"].as_object_mut().expect("an object");
    headers.remove("authorization");
    if !token.is_empty() {
        headers.insert("authorization".to_owned(), json!(format!("Bearer {token}")));
    }
    if let Some(body) = body {
        headers.insert("content-type".to_owned(), json!("application/json"));
        event["body"] = json!(body.to_string());
    }
    event.to_string()
}

fn event_file(name: &str) -> String {
    fs::read_to_string(root().join(format!("tests/events/{name}.json"))).expect("an event")
}

fn rate(requests: usize, time: Duration) -> f64 {
    u32::try_from(requests).map_or(0.0, f64::from) / time.as_secs_f64()
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn report(
    service: &Service,
    minutes: u32,
    capacity: f64,
    samples: &[Sample],
    last: &Sample,
    left: u32,
) -> Result<(), Box<dyn Error>> {
    println!(
        "{} requests, {} failures, {left} connections left",
        service.requests,
        service.failures.len()
    );
    for failure in service.failures.iter().take(20) {
        println!("  {failure}");
    }
    // Some minutes after a start, and before the next one: of the last third, in which all are the same processes.
    let settled = samples
        .iter()
        .find(|sample| sample.minutes > f64::from(minutes) * 0.7)
        .unwrap_or(last);
    let end = samples.last().unwrap_or(last);
    let mut memory = BTreeMap::new();
    for name in FUNCTIONS {
        let (from, to) = (settled.memory[name], end.memory[name]);
        println!(
            "{name:<12}{from:>7.2} MiB, {:.0} minutes later {to:>7.2} MiB",
            end.minutes - settled.minutes
        );
        memory.insert(
            name,
            json!({ "settled_mib": rounded(from), "end_mib": rounded(to) }),
        );
    }
    let mut tables = BTreeMap::new();
    for table in TABLES {
        let most = samples
            .iter()
            .map(|sample| sample.tables[table].0)
            .fold(0.0, f64::max);
        let first = samples.first().unwrap_or(last).tables[table];
        let (size, rows) = last.tables[table];
        println!(
            "{table:<14} at first {:.2} MiB, {} rows; at most {most:.2} MiB; after the last purge {size:.2} MiB, {rows} rows",
            first.0, first.1
        );
        tables.insert(
            table,
            json!({ "first_mib": rounded(first.0), "first_rows": first.1, "most_mib": rounded(most),
                    "end_mib": rounded(size), "end_rows": rows }),
        );
    }
    let connections = samples.iter().map(|sample| sample.connections).max();
    println!(
        "at most {connections:?} connections at once, of {} instances",
        FUNCTIONS.len()
    );
    let directory = root().join(if minutes < 10 {
        "target/performance"
    } else {
        "docs/performance"
    });
    fs::create_dir_all(&directory)?;
    let results = json!({
        "minutes": minutes, "requests": service.requests, "failures": service.failures.len(),
        "capacity_per_second": rounded(capacity), "rotations": service.rotations, "most_connections": connections,
        "connections_left": left, "memory": memory, "tables": tables,
    });
    fs::write(
        directory.join("soak.json"),
        format!("{}\n", serde_json::to_string_pretty(&results)?),
    )?;
    timeline::save(&directory.join("soak.svg"), &timelines(samples, minutes))?;
    Ok(())
}

fn timelines(samples: &[Sample], minutes: u32) -> Vec<Timeline> {
    let line = |name: &'static str, value: &dyn Fn(&Sample) -> f64| {
        (
            name,
            samples
                .iter()
                .map(|sample| (sample.minutes, value(sample)))
                .collect(),
        )
    };
    let memory = |names: &[&'static str]| {
        names
            .iter()
            .map(|name| line(name, &|sample| sample.memory[name]))
            .collect()
    };
    let third = f64::from(minutes) / 3.0;
    let rotated: Vec<_> = [third, 2.0 * third]
        .map(|at| (at, "key rotated: new instances".to_owned()))
        .into();
    let chart = |title: &str, y_label, lines| Timeline {
        title: title.to_owned(),
        x_label: "minutes",
        y_label,
        lines,
        marks: rotated.clone(),
    };
    vec![
        chart(
            "load",
            "requests a second",
            vec![line("requests", &|sample| sample.rate)],
        ),
        chart(
            "memory of functions that hash",
            "MiB",
            memory(&["login", "register", "credentials"]),
        ),
        chart(
            "memory of others",
            "MiB",
            memory(&["me", "logout", "account", "authorizer", "outbox", "purge"]),
        ),
        chart(
            "tables with their indexes",
            "MiB",
            TABLES
                .map(|table| line(table, &|sample| sample.tables[table].0))
                .into(),
        ),
        chart(
            "connections of ten instances",
            "connections",
            vec![line("connections", &|sample| f64::from(sample.connections))],
        ),
    ]
}

/// The workspace's directory.
fn root() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    workspace.expect("tests/benches is in it").to_owned()
}

/// The directory after `--binaries`.
fn binaries() -> Option<PathBuf> {
    let directory = env::args()
        .skip_while(|argument| argument != "--binaries")
        .nth(1)?;
    Some(env::current_dir().ok()?.join(directory))
}

fn binary(name: &str) -> PathBuf {
    match binaries() {
        Some(directory) => directory.join(name).join("bootstrap"),
        None => root()
            .join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
            .join("release")
            .join(name),
    }
}

/// Builds the functions in the directory of their package, like a deployment.
fn build() {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--release"])
        .args(FUNCTIONS.iter().flat_map(|name| ["--bin", name]))
        .current_dir(root().join("functions"))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cargo build --release"
    );
}
