//! The embedded server, on real data directories.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use local::postgres::{Error, Server};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

/// A directory for one test, removed at its end, with a name that needs quoting.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("local postgres' $test \"{}\"-{number}", process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The single value of a query, as text.
fn sql(url: &str, query: &str) -> Result<String, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        let value = sqlx::query_scalar(query).fetch_optional(&mut connection).await?;
        connection.close().await?;
        Ok(value.unwrap_or_default())
    })
}

fn port_of(server: &Server) -> u16 {
    let url: PgConnectOptions = server.url().parse().expect("a URL");
    url.get_port()
}

fn is_up(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs one of the ignored tests below in its own process.
fn child(test: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command.envs(variables.iter().copied());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Port and data directory that a child reports.
fn reported(child: &mut Child) -> (u16, PathBuf) {
    let reported: Vec<_> = BufReader::new(child.stdout.take().expect("its output"))
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("server: ").map(|(_, value)| value.to_owned()))
        .take(2)
        .collect();
    let [port, data] = &reported[..] else {
        panic!("the child reported {reported:?}")
    };
    (port.parse().expect("a port"), data.into())
}

/// Reports a server, and waits until killed, or until its input ends if started manually.
fn report(server: Result<Server, Error>) {
    let server = server.unwrap_or_else(|error| panic!("\n{error}\n"));
    // Programs started while it runs do not keep it alive.
    let mut sleep = Command::new("sleep")
        .arg("5")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sleep");
    println!(
        "server: {}\nserver: {}",
        port_of(&server),
        server.data_directory().display()
    );
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    server.stop().expect("it stops");
    sleep.wait().expect("it ends");
}

#[test]
#[ignore = "run by other tests"]
fn child_with_a_throwaway() {
    report(Server::throwaway());
}

#[test]
#[ignore = "run by other tests"]
fn child_with_a_kept_server() {
    let directory = env::var_os("DIRECTORY").expect("a directory");
    report(Server::start(Path::new(&directory), None));
}

#[test]
fn data_and_port_survive_a_restart() {
    let scratch = Scratch::new();
    // Leftovers of a killed start, for any installed version.
    for major in 13..40 {
        fs::create_dir(scratch.0.join(format!("pg-{major}.new"))).expect("a leftover");
    }
    let server = Server::start(&scratch.0, None).expect("it starts");
    let (url, port) = (server.url().to_owned(), port_of(&server));
    let data = server.data_directory().to_owned();
    sql(&url, "CREATE TABLE kept AS SELECT 'grün' AS value").expect("a table");
    let settings = "SELECT current_setting('server_encoding') || current_setting('fsync')";
    assert_eq!(sql(&url, settings).expect("a query"), "UTF8on");
    server.stop().expect("it stops");
    assert!(!is_up(port));
    assert!(data.is_dir());
    assert!(!data.with_extension("new").exists());

    let server = Server::start(&scratch.0, None).expect("it starts");
    assert_eq!(server.url(), url);
    assert_eq!(sql(&url, "SELECT value FROM kept").expect("a query"), "grün");
    // A superuser on the loopback interface must not be open to every local user.
    let anybody = format!("postgres://people@127.0.0.1:{port}/people?sslmode=disable");
    sql(&anybody, "SELECT ''").expect_err("a password is required");
    server.stop().expect("it stops");

    let thief = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let server = Server::start(&scratch.0, None).expect("it starts");
    assert_ne!(port_of(&server), port);
    assert_eq!(
        sql(server.url(), "SELECT value FROM kept").expect("a query"),
        "grün"
    );
    drop(thief);
    server.stop().expect("it stops");
}

#[test]
fn a_killed_server_is_restarted_on_its_port() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch.0, None).expect("it starts");
    let killed = server.postmaster_pid();
    assert!(killed.is_some());
    assert!(!server.restart_if_down().expect("it runs"));
    assert_eq!(server.postmaster_pid(), killed);
    server.end("KILL").expect("it runs");
    assert!(server.restart_if_down().expect("it starts"));
    assert_ne!(server.postmaster_pid(), killed);
    assert_eq!(sql(server.url(), "SELECT 'here'").expect("a query"), "here");

    // A paused server is not a dead one, and can be stopped nevertheless.
    server.signal("STOP").expect("it runs");
    assert!(!server.restart_if_down().expect("it runs"));
    let port = port_of(&server);
    server.stop().expect("it stops");
    assert!(!is_up(port));
}

#[test]
fn a_second_start_names_the_process_that_uses_the_directory() {
    let scratch = Scratch::new();
    let first = Server::start(&scratch.0, None).expect("it starts");
    let holder = format!("process {}", process::id());
    let error = Server::start(&scratch.0, None).err().expect("it is refused");
    assert_eq!(
        error.to_string(),
        format!(
            "the database in {} is in use by {holder}: stop that one, or set DATABASE_URL",
            scratch.0.display()
        )
    );
    assert_eq!(sql(first.url(), "SELECT 'here'").expect("a query"), "here");
    first.stop().expect("it stops");
    let second = Server::start(&scratch.0, None).expect("it starts");
    second.stop().expect("it stops");
}

#[test]
fn a_kept_server_ends_with_its_killed_process_and_loses_nothing() {
    let scratch = Scratch::new();
    let directory = scratch.0.to_str().expect("UTF-8");
    let mut child = child("child_with_a_kept_server", &[("DIRECTORY", directory)])
        .spawn()
        .expect("a child");
    let (port, data) = reported(&mut child);
    let password = fs::read_to_string(data.join("people.password")).expect("a password");
    let url = format!("postgres://people:{password}@127.0.0.1:{port}/people?sslmode=disable");
    sql(&url, "CREATE TABLE kept AS SELECT 'grün' AS value").expect("a table");
    child.kill().expect("kill -9");
    child.wait().expect("it is dead");
    // Immediately, however long the other takes to stop.
    let server = Server::start(&scratch.0, None).expect("it starts");
    assert_eq!(server.url(), url);
    assert_eq!(sql(&url, "SELECT value FROM kept").expect("a query"), "grün");
    server.stop().expect("it stops");
}

#[test]
fn a_server_whose_shell_was_also_killed_is_stopped_by_the_next_start() {
    let scratch = Scratch::new();
    let directory = scratch.0.to_str().expect("UTF-8");
    let mut child = child("child_with_a_kept_server", &[("DIRECTORY", directory)])
        .spawn()
        .expect("a child");
    let (port, _) = reported(&mut child);
    let status = Command::new("pkill")
        .args(["-KILL", "-x", "-P", &child.id().to_string(), "sh"])
        .status()
        .expect("pkill");
    assert!(status.success());
    child.kill().expect("kill -9");
    child.wait().expect("it is dead");
    assert!(is_up(port), "nothing is left to stop it");
    let server = Server::start(&scratch.0, None).expect("it starts");
    assert_eq!(port_of(&server), port);
    server.stop().expect("it stops");
    assert!(!is_up(port));
}

#[test]
fn a_throwaway_server_ends_with_its_process() {
    let mut child = child("child_with_a_throwaway", &[]).spawn().expect("a child");
    let (port, data) = reported(&mut child);
    let home = data.parent().expect("its home");
    assert!(is_up(port));
    assert!(home.is_dir());
    child.kill().expect("kill -9");
    child.wait().expect("it is dead");
    eventually("the server is gone", || !is_up(port));
    eventually("its directory is gone", || !home.exists());
}

#[test]
fn a_throwaway_server_is_not_crash_safe_and_leaves_nothing() {
    let mut server = Server::throwaway().expect("it starts");
    let settings = "SELECT current_setting('fsync') || current_setting('max_connections')";
    assert_eq!(sql(server.url(), settings).expect("a query"), "off300");
    let (port, data) = (port_of(&server), server.data_directory().to_owned());

    server.end("KILL").expect("it runs");
    assert!(server.restart_if_down().expect("it starts"));
    server.end("QUIT").expect("it runs");
    assert_eq!(server.postmaster_pid(), None);
    assert!(server.restart_if_down().expect("it starts"));
    let before = server.postmaster_pid();
    server.end("INT").expect("it runs");
    assert!(server.restart_if_down().expect("it starts"));
    assert_ne!(server.postmaster_pid(), before);
    assert_eq!((port_of(&server), server.data_directory()), (port, &*data));

    server.stop().expect("it stops");
    assert!(!is_up(port));
    assert!(!data.parent().expect("its home").exists());

    // Even if it had died before.
    let mut server = Server::throwaway().expect("it starts");
    let home = server.data_directory().parent().expect("its home").to_owned();
    server.end("QUIT").expect("it runs");
    server.stop().expect("it has stopped");
    assert!(!home.exists());
}

#[test]
fn leftovers_of_killed_runs_are_removed_and_directories_in_use_are_not() {
    let directory = |what: &str| env::temp_dir().join(format!("people-test-{what}-{}", process::id()));
    let (left, used, new) = (directory("left"), directory("used"), directory("new"));
    for path in [&left, &used, &new] {
        fs::create_dir_all(path.join("pg-15.new")).expect("a directory");
        for lock in ["local.lock", "server.lock"] {
            fs::write(path.join(lock), "").expect("a file");
        }
    }
    // A new directory may be about to be locked.
    for path in [&left, &used] {
        let directory = fs::File::open(path).expect("our directory");
        let made = directory
            .metadata()
            .and_then(|metadata| metadata.modified())
            .expect("a time");
        directory
            .set_modified(made - Duration::from_mins(2))
            .expect("ours");
    }
    // Like an initdb whose parent was killed.
    let lock = fs::File::open(used.join("server.lock")).expect("our file");
    lock.lock().expect("free");
    let running = Server::throwaway().expect("it starts");
    let other = Server::throwaway().expect("it starts");
    assert!(!left.exists());
    assert!(used.exists());
    assert!(new.exists());
    assert_eq!(sql(running.url(), "SELECT 'here'").expect("a query"), "here");
    drop(lock);
    other.stop().expect("it stops");
    running.stop().expect("it stops");
    for path in [used, new] {
        fs::remove_dir_all(path).expect("our directory");
    }
}

#[test]
fn an_unknown_setting_of_the_server_is_reported_with_its_log() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0, None).expect("it starts");
    let data = server.data_directory().to_owned();
    server.stop().expect("it stops");
    let file = data.join("postgresql.conf");
    let settings = fs::read_to_string(&file).expect("settings");
    fs::write(&file, format!("{settings}\nnonsense = 1\n")).expect("our file");
    let error = Server::start(&scratch.0, None)
        .err()
        .expect("it is refused")
        .to_string();
    let log = data.join("server.log");
    assert!(error.starts_with("PostgreSQL: configuration file "), "{error}");
    assert!(
        error.ends_with(&format!("contains errors (its log is {})", log.display())),
        "{error}"
    );
    assert!(fs::read_to_string(log).expect("a log").contains("nonsense"));
    fs::write(&file, settings).expect("our file");
    Server::start(&scratch.0, None)
        .expect("it starts")
        .stop()
        .expect("it stops");
}

#[test]
fn a_wrong_bindir_is_reported_in_one_line_and_leaves_nothing() {
    let scratch = Scratch::new();
    let directory = scratch.0.to_str().expect("UTF-8");
    let variables = [("PG_BINDIR", "/nowhere"), ("TMPDIR", directory)];
    let output = child("child_with_a_throwaway", &variables)
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let line =
        "PG_BINDIR=/nowhere: there is no `postgres`; name the directory that holds `postgres` and `initdb`";
    assert!(text.lines().any(|found| found.trim_end() == line), "{text}");
    let left = fs::read_dir(&scratch.0).expect("our directory");
    assert_eq!(left.count(), 0);
}
