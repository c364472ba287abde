//! `cargo bench --bench growth`: how the times of `me` and `login` grow with the tables. Creates a database of each
//! size on a throw-away server, records the plans of each request's statements, then sends the same requests to all
//! sizes in turns; then on the smallest and the largest a failed log-in with many counts, and the requests of a user
//! with many sessions. Writes `growth.json` and `growth.svg` to `docs/performance`, or with other sizes (`-- --rows
//! 1000,10000`) to `target/performance`. Fails if a statement reads a whole table of a million rows, or many rows by an
//! index; asserts nothing about times.

#[path = "../contract/harness.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod harness;
#[path = "support/lists.rs"]
mod lists;
#[path = "support/people.rs"]
mod people;
#[path = "support/plans.rs"]
mod plans;
#[path = "support/plot.rs"]
mod plot;
#[path = "support/times.rs"]
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use lambda_http::Body;
use lambda_http::http::Request;
use local::postgres::Server;
use serde_json::{Value, json};
use shared::http::event::Gateway;
use shared::password::Parameters;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::harness::{Database, PASSWORD, Reply, Service};
use crate::people::Person;
use crate::plans::Plan;
use crate::plot::{Line, Panel, Picture};
use crate::times::{Percentiles, quartiles, rounded};

/// Numbers of users, and of sessions.
const SIZES: [u32; 3] = [1_000, 1_000_000, 10_000_000];
/// From this size on a statement must not read a whole table, or this many rows by an index.
const LARGE: u32 = 1_000_000;
const TOO_MANY_ROWS: f64 = 1_000.0;
/// Requests to every size in each round.
const ROUNDS: usize = 300;
const REQUESTS: [(Kind, usize); 3] = [(Kind::Me, 40), (Kind::MeOfFew, 40), (Kind::Login, 10)];
/// So few that their pages stay in the CPU caches at every size, like all pages of a small table.
const FEW: usize = 4;
/// Requests of each kind whose plans are recorded. From the sixth execution on, the server may use a generic plan.
const EXPLAINED: usize = 8;
/// A hash that takes microseconds, so that the time of the database is visible.
const QUICK: Parameters = Parameters {
    memory_kib: 8,
    iterations: 1,
    parallelism: 1,
};
const QUICK_SETTINGS: [(&str, &str); 2] = [("ARGON2_MEMORY_KIB", "8"), ("ARGON2_ITERATIONS", "1")];
/// Memory for the pages in use, as a server for so many users has, and no background work during the measurement.
const SERVER_SETTINGS: &str = "
    ALTER SYSTEM SET shared_buffers = '2GB';
    ALTER SYSTEM SET max_wal_size = '16GB';
    ALTER SYSTEM SET checkpoint_timeout = '1h';
    ALTER SYSTEM SET autovacuum = off";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Me,
    MeOfFew,
    Login,
    FailedLogin,
    Logout,
    Register,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Me => "me",
            Self::MeOfFew => "me, 4 people",
            Self::Login => "login",
            Self::FailedLogin => "failed login",
            Self::Logout => "logout",
            Self::Register => "register",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Me | Self::MeOfFew => "/auth/me",
            Self::Login | Self::FailedLogin => "/auth/login",
            Self::Logout => "/auth/logout",
            Self::Register => "/user/register",
        }
    }

    fn status(self) -> u16 {
        if self == Self::FailedLogin { 401 } else { 200 }
    }
}

/// The service on a database of one size.
struct Subject {
    rows: u32,
    database: Database,
    service: Service,
    people: Vec<Person>,
    /// Number of requests so far; each is from another person.
    requests: usize,
    /// The times of each round, in milliseconds.
    times: BTreeMap<Kind, Vec<Vec<f64>>>,
}

impl Subject {
    async fn new(server: &Server, rows: u32) -> Result<Self, Box<dyn Error>> {
        let started = Instant::now();
        let (database, people) =
            people::database_with(server, &format!("people_{rows}"), rows, QUICK).await?;
        println!(
            "  {:>14} users and sessions, filled in {:.0} s",
            spelled(rows),
            started.elapsed().as_secs_f64()
        );
        Ok(Self {
            rows,
            service: service(database.clone()),
            database,
            people,
            requests: 0,
            times: BTreeMap::new(),
        })
    }

    /// Milliseconds of one request, from the event on.
    async fn request(&mut self, kind: Kind) -> f64 {
        let request = self.next(kind);
        let started = Instant::now();
        let reply = invoke(&self.service, kind, request).await;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        assert_eq!(
            reply.status.as_u16(),
            kind.status(),
            "{}: {}",
            kind.name(),
            reply.text
        );
        milliseconds
    }

    /// A request of the next person, from their own address. After a log-out, a person is not used any more.
    fn next(&mut self, kind: Kind) -> lambda_http::Request {
        self.requests += 1;
        // In an irregular order that includes everybody, since 617 does not divide the number of people.
        let number = match kind {
            Kind::MeOfFew => self.requests % FEW,
            _ => self.requests * 617 % self.people.len(),
        };
        let person = match kind {
            Kind::Logout => self.people.swap_remove(number),
            _ => self.people[number].clone(),
        };
        let credentials = |userid: &str, password: &str| {
            Body::Text(json!({ "userid": userid, "password": password }).to_string())
        };
        let body = match kind {
            Kind::Me | Kind::MeOfFew | Kind::Logout => Body::Empty,
            Kind::Login => credentials(&person.userid, PASSWORD),
            Kind::FailedLogin => credentials("nobody", "wrong password"),
            Kind::Register => credentials(&format!("new-{}", self.requests), PASSWORD),
        };
        let mut request = Request::builder()
            .method(if kind.path() == "/auth/me" { "GET" } else { "POST" })
            .uri(kind.path())
            .header("authorization", format!("Bearer {}", person.token))
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        let address = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap_or(0));
        request.extensions_mut().insert(Gateway {
            source_address: Some(address.into()),
            ..Gateway::default()
        });
        request
    }

    async fn round(&mut self, kind: Kind, requests: usize) {
        let mut times = Vec::with_capacity(requests);
        for _ in 0..requests {
            times.push(self.request(kind).await);
        }
        self.times.entry(kind).or_default().push(times);
    }

    fn percentiles(&self, kind: Kind) -> Percentiles {
        Percentiles::of(self.times[&kind].concat())
    }

    /// Quartiles, over the rounds, of the ratio of the median here to that of the same round there.
    fn ratio(&self, kind: Kind, baseline: &Self) -> [f64; 3] {
        let medians = |subject: &Self| -> Vec<f64> {
            let rounds = subject.times[&kind].iter();
            rounds.map(|times| Percentiles::of(times.clone()).p50).collect()
        };
        let pairs = medians(self).into_iter().zip(medians(baseline));
        quartiles(pairs.map(|(here, there)| here / there).collect())
    }

    /// The plans of every kind of request: the first ones (custom plans) and later ones (generic plans).
    async fn plans(&mut self, server: &Server) -> Result<BTreeMap<Kind, Vec<Plan>>, Box<dyn Error>> {
        let log = server.data_directory().join("server.log");
        let explained = Database {
            url: format!("{}{}", self.database.url, plans::EXPLAINED),
        };
        let service = service(explained);
        let mut plans = BTreeMap::new();
        // Log-outs last, since they end the sessions that the others need.
        let kinds = [
            Kind::Me,
            Kind::MeOfFew,
            Kind::Login,
            Kind::FailedLogin,
            Kind::Register,
            Kind::Logout,
        ];
        for kind in kinds {
            let before = std::fs::read(&log)?.len();
            for _ in 0..EXPLAINED {
                let request = self.next(kind);
                invoke(&service, kind, request).await;
            }
            // When this returns, the server has logged everything before it.
            let health = Request::builder().uri("/health").body(Body::Empty)?;
            service.invoke(harness::route("/health"), health).await;
            let text = String::from_utf8_lossy(&std::fs::read(&log)?[before..]).into_owned();
            let mut found = plans::in_log(&text);
            found.retain(|plan| !plan.statement.contains("people._sqlx_migrations"));
            plans.insert(kind, found);
        }
        Ok(plans)
    }
}

fn service(database: Database) -> Service {
    let settings = [people::TOKEN_SETTINGS, QUICK_SETTINGS].concat();
    Service::on(database, &settings)
}

async fn invoke(service: &Service, kind: Kind, request: lambda_http::Request) -> Reply {
    service.invoke(harness::route(kind.path()), request).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let sizes = sizes()?;
    let mut server = Server::throwaway()?;
    let mut connection = PgConnection::connect(server.url()).await?;
    for statement in SERVER_SETTINGS.split(';') {
        connection.execute(statement).await?;
    }
    connection.close().await?;
    server.end("INT")?;
    server.restart_if_down()?;
    let machine = machine(&server).await?;
    println!("{machine}");
    let mut subjects = Vec::new();
    for rows in &sizes {
        subjects.push(Subject::new(&server, *rows).await?);
    }

    let mut plans = Vec::new();
    for subject in &mut subjects {
        plans.push(subject.plans(&server).await?);
    }
    let mistakes = show_plans(&sizes, &plans);

    for subject in &mut subjects {
        for (kind, _) in REQUESTS {
            for _ in 0..subject.people.len() {
                subject.request(kind).await;
            }
        }
    }
    for round in 0..ROUNDS {
        for (kind, requests) in REQUESTS {
            for turn in 0..subjects.len() {
                // No size is always the first.
                let subject = (round + turn) % sizes.len();
                subjects[subject].round(kind, requests).await;
            }
        }
    }
    let results = show_times(&subjects, &plans);
    let (first, last) = (&subjects[0], &subjects[subjects.len() - 1]);
    let lists = lists::measure(&first.database, &last.database, |database| {
        let settings = [
            &people::TOKEN_SETTINGS[..],
            &QUICK_SETTINGS,
            &[("FAILURES_PER_ADDRESS", "0")],
        ];
        Service::on(database.clone(), &settings.concat())
    })
    .await;

    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(if sizes == SIZES {
        "../../docs/performance"
    } else {
        "../../target/performance"
    });
    std::fs::create_dir_all(&directory)?;
    let results = json!({ "machine": machine, "rounds": ROUNDS, "results": results, "lists": lists });
    std::fs::write(
        directory.join("growth.json"),
        format!("{}\n", serde_json::to_string_pretty(&results)?),
    )?;
    picture(&subjects).save(&directory.join("growth.svg"))?;
    println!("\nWritten: growth.json and growth.svg in {}", directory.display());
    Ok(if mistakes {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// `--rows 1000,1000000`, or the default sizes. Cargo passes other arguments as well.
fn sizes() -> Result<Vec<u32>, Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rows");
    match (arguments.next(), arguments.next()) {
        (None, _) => Ok(SIZES.to_vec()),
        (Some(_), None) => Err("--rows wants numbers separated by commas".into()),
        (Some(_), Some(list)) => {
            let sizes: Result<Vec<u32>, _> = list.split(',').map(str::parse).collect();
            let sizes = sizes.map_err(|error| format!("--rows {list}: {error}"))?;
            if sizes.iter().any(|rows| *rows < people::ACTIVE) {
                return Err(format!("--rows: at least {}", people::ACTIVE).into());
            }
            Ok(sizes)
        }
    }
}

async fn machine(server: &Server) -> Result<String, Box<dyn Error>> {
    let mut connection = PgConnection::connect(server.url()).await?;
    let (date, version, buffers): (String, String, String) = sqlx::query_as(
        "SELECT current_date::text, current_setting('server_version'), current_setting('shared_buffers')",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!(
        "{date}; PostgreSQL {version}, shared_buffers {buffers}; {processors} processors"
    ))
}

/// Prints how each kind of request reads the tables. Returns whether any reads too much of a large table.
fn show_plans(sizes: &[u32], plans: &[BTreeMap<Kind, Vec<Plan>>]) -> bool {
    let mut mistakes = 0;
    for (rows, plans) in sizes.iter().zip(plans) {
        println!("\nHow the tables are read at {}", spelled(*rows));
        for (kind, plans) in plans {
            println!("  {}", kind.name());
            let scans: BTreeSet<_> = plans.iter().flat_map(|plan| &plan.scans).collect();
            for scan in scans {
                println!("    {scan}");
            }
            let mistaken = plans.iter().filter(|plan| {
                *rows >= LARGE && (plan.has_sequential_scan() || plan.rows_read >= TOO_MANY_ROWS)
            });
            let mistaken: BTreeSet<_> = mistaken.map(|plan| &plan.statement).collect();
            for statement in &mistaken {
                println!("    READS TOO MUCH: {statement}");
            }
            mistakes += mistaken.len();
        }
    }
    mistakes > 0
}

/// Prints the results, and returns them as JSON.
fn show_times(subjects: &[Subject], plans: &[BTreeMap<Kind, Vec<Plan>>]) -> Vec<Value> {
    let mut results = Vec::new();
    let baseline = &subjects[0];
    println!(
        "\n{:<14}{:>20}{:>9}{:>9}{:>9}{:>9}   ratio of p50 to {} (quartiles)",
        "ms",
        "users and sessions",
        "p50",
        "p95",
        "p99",
        "pages",
        spelled(baseline.rows)
    );
    for (kind, _) in REQUESTS {
        for (subject, plans) in subjects.iter().zip(plans) {
            let times = subject.percentiles(kind);
            let [low, ratio, high] = subject.ratio(kind, baseline);
            let pages = pages(&plans[&kind]);
            println!(
                "{:<14}{:>20}{:>9.3}{:>9.3}{:>9.3}{pages:>9}   {ratio:.3} ({low:.3} to {high:.3})",
                kind.name(),
                spelled(subject.rows),
                times.p50,
                times.p95,
                times.p99
            );
            let mut result = times.json();
            result["request"] = json!(kind.name());
            result["users_and_sessions"] = json!(subject.rows);
            result["pages"] = json!(pages);
            result["ratio"] = json!(rounded(ratio));
            result["ratio_quartiles"] = json!([rounded(low), rounded(high)]);
            results.push(result);
        }
    }
    results
}

/// Pages of tables and indexes read by one request: the last one, since the first ones read the catalogue too.
fn pages(plans: &[Plan]) -> u64 {
    let sent: Vec<_> = plans.iter().filter(|plan| plan.sent).collect();
    let of_one = sent.len() / EXPLAINED;
    sent.iter().rev().take(of_one).map(|plan| plan.pages).sum()
}

fn picture(subjects: &[Subject]) -> Picture {
    let panel = |kind: Kind| {
        let of = |name: &str, value: fn(Percentiles) -> f64| Line {
            name: name.to_owned(),
            points: subjects
                .iter()
                .map(|subject| (f64::from(subject.rows), value(subject.percentiles(kind))))
                .collect(),
        };
        let last = &subjects[subjects.len() - 1];
        Panel {
            title: format!(
                "{}: p50 at {} is {:.2} × that at {}",
                kind.name(),
                spelled(last.rows),
                last.ratio(kind, &subjects[0])[1],
                spelled(subjects[0].rows)
            ),
            x_label: "users, and as many sessions (logarithmic)",
            y_label: "milliseconds",
            logarithmic: false,
            lines: vec![of("p95", |times| times.p95), of("p50", |times| times.p50)],
        }
    };
    Picture {
        title: "Time of a request by the size of the tables; one client, with a hash of microseconds"
            .to_owned(),
        panels: REQUESTS.map(|(kind, _)| panel(kind)).into(),
    }
}

/// Formats a number with thousands separators.
fn spelled(number: u32) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}
