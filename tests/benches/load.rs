//! `cargo bench --bench load`: throughput and latency of `me` and `login` with various numbers of clients, against
//! `local` and against the functions under cargo-lambda's emulator. All are release builds, on one throw-away
//! PostgreSQL with durable writes. The clients are a closed loop on the same machine; each figure combines several
//! turns, interleaved with those of all others. Takes about three minutes. Writes `load.json` and pictures to
//! `docs/performance`.
//!
//! The emulator is `cargo-lambda` on PATH (`pip install cargo-lambda==1.9.2`); without it only `local` is measured.

#[path = "support/clients.rs"]
mod clients;
#[path = "../contract/harness.rs"]
#[expect(dead_code, reason = "what only the tests use")]
mod harness;
#[path = "support/people.rs"]
mod people;
#[path = "support/plot.rs"]
mod plot;
#[path = "support/times.rs"]
mod times;

use std::error::Error;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use local::postgres::Server;
use serde_json::{Value, json};
use shared::password::Parameters;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::harness::PASSWORD;
use crate::people::Person;
use crate::plot::{Line, Panel, Picture};
use crate::times::{Percentiles, rounded};

const USERS: u32 = 10_000;
/// Turns per figure.
const TURNS: usize = 3;
const ME_TURN: Duration = Duration::from_millis(800);
/// Longer, since there are fewer requests: a log-in takes as long as its hash.
const LOGIN_TURN: Duration = Duration::from_millis(1_200);
/// The default parameters.
const STRONG: Parameters = Parameters {
    memory_kib: 19_456,
    iterations: 2,
    parallelism: 1,
};
/// A hash that takes microseconds, to measure the rest of a log-in.
const QUICK: Parameters = Parameters {
    memory_kib: 8,
    iterations: 1,
    parallelism: 1,
};
/// Durable writes, which the throw-away server does not have by default.
const DURABLE: &str = "
    ALTER SYSTEM SET fsync = on;
    ALTER SYSTEM SET full_page_writes = on;
    ALTER SYSTEM SET synchronous_commit = on;
    SELECT pg_reload_conf()";

/// Runs `$@` until our end of the pipe is closed, for whatever reason.
const RUN: &str = r#"exec 3<&0 </dev/null
"$@" 3<&- &
read -r _ <&3
kill "$!"
wait"#;

/// A process that ends when this value is dropped or this process ends.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Result<Self, Box<dyn Error>> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", RUN, "run"]).arg(command.get_program());
        shell.args(command.get_args()).env_clear();
        let set = command.get_envs();
        shell.envs(set.filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        let log = File::create(log)?;
        shell.stdin(Stdio::piped()).stderr(log.try_clone()?).stdout(log);
        Ok(Self(shell.spawn()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A directory that is removed when this value is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server under test.
struct Target {
    name: &'static str,
    port: u16,
    /// Prefix of the paths of `me` and `login`.
    prefix: [&'static str; 2],
    people: Arc<Vec<Person>>,
    _processes: Vec<Process>,
}

/// A target and a route, measured with several numbers of clients.
struct Series {
    target: usize,
    route: Route,
    clients: &'static [usize],
    measured: Vec<Measured>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Me,
    Login,
}

/// All turns with one number of clients.
#[derive(Default)]
struct Measured {
    times: Vec<f64>,
    refused: usize,
    /// Responses per second, of each turn.
    rates: Vec<f64>,
    /// CPU utilization, of each turn.
    busy: Vec<f64>,
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Me => "me",
            Self::Login => "login",
        }
    }

    fn turn(self) -> Duration {
        match self {
            Self::Me => ME_TURN,
            Self::Login => LOGIN_TURN,
        }
    }

    fn request(self, target: &Target, person: &Person) -> Vec<u8> {
        let [me, login] = target.prefix;
        match self {
            Self::Me => format!(
                "GET {me}/auth/me HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
                person.token
            ),
            Self::Login => {
                let body = json!({ "userid": person.userid, "password": PASSWORD }).to_string();
                let length = body.len();
                format!(
                    "POST {login}/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                     content-length: {length}\r\n\r\n{body}"
                )
            }
        }
        .into_bytes()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let programs = programs()?;
    let scratch = Scratch(std::env::temp_dir().join(format!("people-load-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    let server = Server::throwaway()?;
    let (strong, people) = people::database_with(&server, "strong", USERS, STRONG).await?;
    let (quick, quick_people) = people::database_with(&server, "quick", USERS, QUICK).await?;
    let version = make_durable(&server).await?;
    let (people, quick_people) = (Arc::new(people), Arc::new(quick_people));

    let start = Start {
        programs: &programs,
        scratch: &scratch.0,
    };
    let no_limit = ("FAILURES_PER_ADDRESS", "0");
    let fast = [("ARGON2_MEMORY_KIB", "8"), ("ARGON2_ITERATIONS", "1")];
    let mut targets = vec![
        start.local("local", &strong.url, &people, &[no_limit]).await?,
        start
            .local("local, one address", &strong.url, &people, &[])
            .await?,
        start
            .local(
                "local, quick hash",
                &quick.url,
                &quick_people,
                &[no_limit, fast[0], fast[1]],
            )
            .await?,
        start
            .local("local, quick hash, one address", &quick.url, &quick_people, &fast)
            .await?,
    ];
    match cargo_lambda() {
        Some(program) => {
            for (name, instances) in [("emulator, 1 instance", 1), ("emulator, 4 instances", 4)] {
                let target = start.emulator(name, &program, &strong.url, &people, instances);
                targets.push(target.await?);
            }
        }
        None => println!("The emulator is not measured: there is no cargo-lambda on PATH.\n"),
    }
    let machine = format!(
        "{version}; {} processors, which the clients share",
        std::thread::available_parallelism()?
    );
    println!("{machine}\n");

    let mut series = series(targets.len());
    for turn in 0..TURNS {
        for series in &mut series {
            take_turn(series, &targets[series.target], turn).await?;
        }
    }
    for series in &series {
        show(series, targets[series.target].name);
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance");
    fs::create_dir_all(&directory)?;
    let results: Vec<Value> = series
        .iter()
        .flat_map(|series| as_json(series, targets[series.target].name))
        .collect();
    let results = json!({ "machine": machine, "turns": TURNS, "results": results });
    fs::write(
        directory.join("load.json"),
        format!("{}\n", serde_json::to_string_pretty(&results)?),
    )?;
    let quick = |series: &&Series| targets[series.target].name.contains("quick");
    let is = |route| move |series: &&Series| series.route == route;
    let (quick, strong): (Vec<_>, Vec<_>) = series.iter().partition(quick);
    let (me, login): (Vec<_>, Vec<_>) = strong.into_iter().partition(is(Route::Me));
    for (file, title, series) in [
        ("load_me.svg", "me", me),
        ("load_login.svg", "login, one address against many", login),
        ("load_login_quick.svg", "login with a hash of microseconds", quick),
    ] {
        let most = |series: &&Series| series.measured.iter().map(Measured::rate).fold(0.0, f64::max);
        let most = series.iter().map(most).fold(0.0, f64::max);
        let title = format!("{title}: at most {most:.0} answers a second on this machine");
        picture(&title, &series, &targets).save(&directory.join(file))?;
    }
    println!("Written: load.json and three pictures in {}", directory.display());
    Ok(())
}

/// The directory of the release binaries: `--binaries DIRECTORY`, or else they are built.
fn programs() -> Result<PathBuf, Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--binaries");
    if let (Some(_), Some(directory)) = (arguments.next(), arguments.next()) {
        return Ok(fs::canonicalize(directory)?);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--release", "--message-format", "json"]);
    for program in ["local", "me", "login"] {
        build.args(["--bin", program]);
    }
    // These variables, set by cargo for this bench, would cause crates that read them to be rebuilt.
    for (name, _) in std::env::vars_os() {
        let of_this_package =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(of_this_package) {
            build.env_remove(name);
        }
    }
    let built = build.current_dir(root).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err("the release build failed".into());
    }
    let executables = String::from_utf8(built.stdout)?;
    let local = executables
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "local")
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .ok_or("the build made no `local`")?;
    Ok(local.parent().ok_or("no directory")?.to_owned())
}

fn cargo_lambda() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join("cargo-lambda"))
        .find(|program| program.is_file())
}

async fn make_durable(server: &Server) -> Result<String, Box<dyn Error>> {
    let mut connection = PgConnection::connect(server.url()).await?;
    for statement in DURABLE.split(';') {
        connection.execute(statement).await?;
    }
    let version =
        sqlx::query_scalar("SELECT current_date || '; PostgreSQL ' || current_setting('server_version')")
            .fetch_one(&mut connection)
            .await?;
    connection.close().await?;
    Ok(version)
}

/// Starts the targets.
struct Start<'a> {
    programs: &'a Path,
    scratch: &'a Path,
}

impl Start<'_> {
    /// A program with only those of our variables that are needed to find programs, in a directory outside the
    /// checkout.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command
            .envs(people::TOKEN_SETTINGS)
            .envs(settings.iter().copied())
            .current_dir(self.scratch);
        // The emulator needs all of these, since it runs cargo.
        for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    async fn local(
        &self,
        name: &'static str,
        database_url: &str,
        people: &Arc<Vec<Person>>,
        settings: &[(&str, &str)],
    ) -> Result<Target, Box<dyn Error>> {
        let log = self.scratch.join(format!("{name}.log"));
        let mut command = self.command(self.programs.join("local"), settings);
        command.env("DATABASE_URL", database_url).env("PORT", "0");
        let process = Process::start(&mut command, &log)?;
        let port = poll_until_ready(name, &log, async || {
            let text = fs::read_to_string(&log).ok()?;
            let (_, address) = text.split_once("Listening on http://127.0.0.1:")?;
            address.split_once('\n')?.0.parse().ok()
        })
        .await?;
        Ok(Target {
            name,
            port,
            prefix: ["", ""],
            people: people.clone(),
            _processes: vec![process],
        })
    }

    /// The emulator, and instances of `me` and `login` that poll it like Lambda.
    async fn emulator(
        &self,
        name: &'static str,
        cargo_lambda: &Path,
        database_url: &str,
        people: &Arc<Vec<Person>>,
        instances: usize,
    ) -> Result<Target, Box<dyn Error>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = self.scratch.join(format!("{name}.log"));
        let mut emulator = self.command(cargo_lambda, &[]);
        emulator.args([
            "lambda",
            "watch",
            "--only-lambda-apis",
            "--invoke-address",
            "127.0.0.1",
        ]);
        emulator.args(["--invoke-port", &port.to_string()]);
        emulator.args(["--concurrency", &instances.to_string()]);
        // It must run in a workspace.
        emulator.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        let mut processes = vec![Process::start(&mut emulator, &log)?];
        poll_until_ready(name, &log, async || {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        })
        .await?;
        for function in ["me", "login"] {
            for instance in 0..instances {
                let mut command =
                    self.command(self.programs.join(function), &[("FAILURES_PER_ADDRESS", "0")]);
                command
                    .env("DATABASE_URL", database_url)
                    .env(
                        "AWS_LAMBDA_RUNTIME_API",
                        format!("http://127.0.0.1:{port}/.rt/{function}"),
                    )
                    .env("AWS_LAMBDA_FUNCTION_NAME", function)
                    .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
                    .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512");
                let log = self.scratch.join(format!("{name}, {function} {instance}.log"));
                processes.push(Process::start(&mut command, &log)?);
            }
        }
        let target = Target {
            name,
            port,
            prefix: ["/lambda-url/me", "/lambda-url/login"],
            people: people.clone(),
            _processes: processes,
        };
        for route in [Route::Me, Route::Login] {
            let request = route.request(&target, &target.people[0]);
            poll_until_ready(name, &log, async || {
                let status = clients::once(port, &request).await.ok()?;
                (status == 200).then_some(())
            })
            .await?;
        }
        Ok(target)
    }
}

/// Polls until there is a result, for up to a minute.
async fn poll_until_ready<T>(
    name: &str,
    log: &Path,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Box<dyn Error>> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_mins(1) {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    Err(format!("{name} did not start; it said: {said}").into())
}

/// All series. The last two targets are missing without an emulator.
fn series(targets: usize) -> Vec<Series> {
    const ME: &[usize] = &[1, 2, 4, 8, 16, 32];
    const LOGIN: &[usize] = &[1, 2, 4, 8, 16];
    let all = [
        (0, Route::Me, ME),
        (4, Route::Me, ME),
        (5, Route::Me, ME),
        (0, Route::Login, LOGIN),
        (1, Route::Login, LOGIN),
        (4, Route::Login, LOGIN),
        (5, Route::Login, LOGIN),
        (2, Route::Login, LOGIN),
        (3, Route::Login, LOGIN),
    ];
    all.into_iter()
        .filter(|(target, ..)| *target < targets)
        .map(|(target, route, clients)| Series {
            target,
            route,
            clients,
            measured: clients.iter().map(|_| Measured::default()).collect(),
        })
        .collect()
}

async fn take_turn(series: &mut Series, target: &Target, turn: usize) -> Result<(), Box<dyn Error>> {
    let requests: Vec<_> = target
        .people
        .iter()
        .map(|person| series.route.request(target, person))
        .collect();
    let requests = Arc::new(requests);
    if turn == 0 {
        // Open the connections to the database.
        clients::run(target.port, &requests, 16, Duration::from_millis(300)).await?;
    }
    for (clients, measured) in series.clients.iter().zip(&mut series.measured) {
        let before = processor_time();
        let seen = clients::run(target.port, &requests, *clients, series.route.turn()).await?;
        if let Some(((busy, all), (busy_before, all_before))) = processor_time().zip(before) {
            measured.busy.push((busy - busy_before) / (all - all_before));
        }
        measured.rates.push(count(&seen.times) / seen.seconds);
        measured.times.extend(seen.times);
        measured.refused += seen.refused;
    }
    Ok(())
}

fn count(times: &[f64]) -> f64 {
    times.iter().map(|_| 1.0).sum()
}

/// CPU time so far, busy and total; on Linux.
fn processor_time() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let spent: Vec<f64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map_while(|ticks| ticks.parse().ok())
        .collect();
    // Idle, and waiting for I/O.
    let idle = spent.get(3)? + spent.get(4)?;
    let all: f64 = spent.iter().sum();
    Some((all - idle, all))
}

impl Measured {
    fn rate(&self) -> f64 {
        times::quartiles(self.rates.clone())[1]
    }

    fn busy(&self) -> Option<f64> {
        (!self.busy.is_empty()).then(|| times::quartiles(self.busy.clone())[1])
    }
}

fn show(series: &Series, target: &str) {
    println!("{}, {target}", series.route.name());
    println!(
        "{:>9}{:>12}{:>10}{:>10}{:>10}{:>9}{:>7}",
        "clients", "answers/s", "p50 ms", "p95 ms", "p99 ms", "not 200", "busy"
    );
    for (clients, measured) in series.clients.iter().zip(&series.measured) {
        let times = Percentiles::of(measured.times.clone());
        let busy = measured
            .busy()
            .map_or(String::new(), |busy| format!("{:.0} %", 100.0 * busy));
        println!(
            "{clients:>9}{:>12.0}{:>10.3}{:>10.3}{:>10.3}{:>9}{busy:>7}",
            measured.rate(),
            times.p50,
            times.p95,
            times.p99,
            measured.refused
        );
    }
    println!();
}

fn as_json(series: &Series, target: &str) -> Vec<Value> {
    let points = series.clients.iter().zip(&series.measured);
    points
        .map(|(clients, measured)| {
            let mut result = Percentiles::of(measured.times.clone()).json();
            result["request"] = json!(series.route.name());
            result["target"] = json!(target);
            result["clients"] = json!(clients);
            result["answers_per_second"] = json!(rounded(measured.rate()));
            result["answers"] = json!(measured.times.len());
            result["not_200"] = json!(measured.refused);
            result["processors_busy"] = json!(measured.busy().map(rounded));
            result
        })
        .collect()
}

/// A picture of throughput, and of median and tail latency, for some series.
fn picture(title: &str, series: &[&Series], targets: &[Target]) -> Picture {
    let panel = |title: &str, y_label, logarithmic, value: &dyn Fn(&Measured) -> f64| Panel {
        title: title.to_owned(),
        x_label: "clients at once (logarithmic)",
        y_label,
        logarithmic,
        lines: series
            .iter()
            .map(|series| Line {
                name: targets[series.target].name.to_owned(),
                points: series
                    .clients
                    .iter()
                    .zip(&series.measured)
                    .map(|(clients, measured)| {
                        (f64::from(u32::try_from(*clients).unwrap_or(0)), value(measured))
                    })
                    .collect(),
            })
            .collect(),
    };
    let percentile = |value: fn(Percentiles) -> f64| {
        move |measured: &Measured| value(Percentiles::of(measured.times.clone()))
    };
    Picture {
        title: title.to_owned(),
        panels: vec![
            panel("throughput", "answers a second", false, &Measured::rate),
            panel(
                "latency, p50",
                "milliseconds (logarithmic)",
                true,
                &percentile(|times| times.p50),
            ),
            panel(
                "latency, p99",
                "milliseconds (logarithmic)",
                true,
                &percentile(|times| times.p99),
            ),
        ],
    }
}
