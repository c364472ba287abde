//! The embedded server, on real data directories: what survives, what is shared, what is removed.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use local::postgres::{Error, Server};

/// A directory for one test, removed at its end. A server that a failed test leaves in it stops by itself
/// within a minute, when it misses its files.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("local postgres' test {}-{number}", process::id()));
        fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `psql` prints for one statement in the database `people`.
fn sql(server: &Server, statement: &str) -> Result<String, String> {
    psql(server, server.url(), statement)
}

fn psql(server: &Server, url: &str, statement: &str) -> Result<String, String> {
    let mut psql = Command::new(server.bin_directory().join("psql"));
    psql.args(["-X", "-w", "-A", "-t", "-c", statement, url]);
    let output = psql.output().expect("psql runs");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn is_up(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Waits up to 10 s.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn data_and_address_outlive_a_stop() -> Result<(), Error> {
    let scratch = Scratch::new();
    // What a killed start leaves, of whichever version is installed.
    for major in 13..40 {
        fs::create_dir(scratch.0.join(format!("pg-{major}.new-1"))).expect("a leftover");
    }
    let server = Server::start(&scratch.0)?;
    let (url, port, data) = (
        server.url().to_owned(),
        server.port(),
        server.data_directory().to_owned(),
    );
    assert_eq!(
        format!("{server:?}"),
        format!("Server {{ port: {port}, data: {data:?}, .. }}")
    );
    sql(
        &server,
        "CREATE TABLE kept (value text); INSERT INTO kept VALUES ('grün')",
    )
    .expect("a table");
    assert_eq!(
        sql(
            &server,
            "SELECT current_setting('server_encoding'), current_setting('fsync')"
        ),
        Ok("UTF8|on".to_owned())
    );
    server.stop()?;
    assert!(!is_up(port));
    assert!(data.is_dir());
    assert!(!data.with_extension("new-1").exists());

    let server = Server::start(&scratch.0)?;
    assert_eq!(server.url(), url);
    assert_eq!(sql(&server, "SELECT value FROM kept"), Ok("grün".to_owned()));
    // By hand, it comes back at the same place.
    server.pg_ctl(&["stop", "-m", "fast"])?;
    assert!(!is_up(port));
    server.pg_ctl(&["start"])?;
    assert_eq!(sql(&server, "SELECT value FROM kept"), Ok("grün".to_owned()));
    server.stop()
}

#[test]
fn a_killed_server_comes_back_on_its_port() -> Result<(), Error> {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0)?;
    let killed = server.postmaster_pid();
    assert!(killed.is_some());
    assert!(!server.restart_if_down()?);
    assert_eq!(server.postmaster_pid(), killed);
    server.signal("KILL")?;
    eventually("the server is dead", || server.postmaster_pid().is_none());
    assert!(server.restart_if_down()?);
    assert_ne!(server.postmaster_pid(), killed);
    assert_eq!(sql(&server, "SELECT 1"), Ok("1".to_owned()));

    // A paused server is not a dead one, and stops all the same.
    server.signal("STOP")?;
    assert!(!server.restart_if_down()?);
    let port = server.port();
    server.stop()?;
    assert!(!is_up(port));
    Ok(())
}

#[test]
fn what_was_lost_in_between_is_made_again() -> Result<(), Error> {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.0)?;
    let (url, port, data) = (
        server.url().to_owned(),
        server.port(),
        server.data_directory().to_owned(),
    );
    psql(
        &server,
        &url.replace("/people?", "/postgres?"),
        "DROP DATABASE people",
    )
    .expect("it is not in use");
    server.signal("KILL")?;
    eventually("the server is dead", || server.postmaster_pid().is_none());
    drop(server);
    fs::remove_file(data.join("people.password")).expect("there was a password");
    let thief = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");

    let server = Server::start(&scratch.0)?;
    assert_ne!(server.port(), port);
    assert_ne!(server.url(), url);
    assert_eq!(sql(&server, "SELECT 1"), Ok("1".to_owned()));
    drop(thief);
    server.stop()
}

#[test]
fn a_server_is_shared_adopted_and_stopped_by_the_last() {
    let scratch = Scratch::new();
    let start = || Server::start(&scratch.0).expect("a server");
    let (first, second) = thread::scope(|scope| {
        let (first, second) = (scope.spawn(start), scope.spawn(start));
        (first.join().expect("first"), second.join().expect("second"))
    });
    let (pid, port, url) = (first.postmaster_pid(), first.port(), first.url().to_owned());
    assert_eq!((second.postmaster_pid(), second.url()), (pid, &url[..]));
    first.stop().expect("the first lets go");
    assert_eq!(sql(&second, "SELECT 1"), Ok("1".to_owned()));

    // As far as others can see, the second process was killed: its locks are gone, its server is not.
    drop(second);
    assert!(is_up(port));
    let last = start();
    assert_eq!((last.postmaster_pid(), last.url()), (pid, &url[..]));
    assert_eq!(sql(&last, "SELECT 1"), Ok("1".to_owned()));
    last.stop().expect("the last stops it");
    assert!(!is_up(port));
}

#[test]
fn a_throwaway_dies_with_its_process() {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "child_with_a_throwaway", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let told: Vec<_> = BufReader::new(child.stdout.take().expect("its output"))
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("throwaway: ").map(|(_, told)| told.to_owned()))
        .take(2)
        .collect();
    let [port, data] = &told[..] else {
        panic!("the child said {told:?}")
    };
    let (port, home) = (
        port.parse().expect("a port"),
        Path::new(data).parent().expect("its home"),
    );
    assert!(is_up(port));
    assert!(home.is_dir());
    child.kill().expect("kill -9");
    child.wait().expect("it is dead");
    eventually("the server is gone", || !is_up(port));
    eventually("its directory is gone", || !home.exists());
}

#[test]
#[ignore = "run by `a_throwaway_dies_with_its_process`"]
fn child_with_a_throwaway() {
    let server = match Server::throwaway() {
        Ok(server) => server,
        Err(error) => panic!("\n{error}\n"),
    };
    // Programs started while it runs do not keep it alive.
    let mut sleep = Command::new("sleep")
        .arg("5")
        .stdout(Stdio::null())
        .spawn()
        .expect("sleep");
    println!(
        "throwaway: {}\nthrowaway: {}",
        server.port(),
        server.data_directory().display()
    );
    // Until killed, or until whoever ran this by hand ends its input.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    server.stop().expect("it stops");
    sleep.wait().expect("it ends");
}

#[test]
fn a_throwaway_is_fast_guarded_and_removable() -> Result<(), Error> {
    let server = Server::throwaway()?;
    let settings = "SELECT current_setting('fsync'), current_setting('max_connections')";
    assert_eq!(sql(&server, settings), Ok("off|300".to_owned()));
    // A superuser on the machine's loopback interface: not for every local user.
    let anybody = format!("postgres://people@127.0.0.1:{}/people", server.port());
    psql(&server, &anybody, "SELECT 1").expect_err("it wants a password");

    server.signal("KILL")?;
    eventually("the server is dead", || server.postmaster_pid().is_none());
    assert!(server.restart_if_down()?);
    let (port, data) = (server.port(), server.data_directory().to_owned());
    server.stop()?;
    assert!(!is_up(port));
    assert!(!data.parent().expect("its home").exists());
    Ok(())
}

#[test]
fn a_wrong_bindir_is_told_in_one_line() {
    let output = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "child_with_a_throwaway", "--ignored", "--nocapture"])
        .env("PG_BINDIR", "/nowhere")
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let line = "PG_BINDIR=/nowhere: there is no `postgres`; \
                name the directory that holds `postgres`, `initdb` and `pg_ctl`";
    assert!(text.lines().any(|told| told.trim_end() == line), "{text}");
}
