//! A directory like a checkout, and the program `local` run in it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use local::postgres::Server;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};

/// A password that the policy accepts.
pub const PASSWORD: &str = "correct horse battery staple";
/// Far more than anything here takes, even on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the end of its input, which comes when the test process ends; then kills what a test has left running, and
/// removes its directory `$1`.
const CLEANER: &str = r#"trap '' HUP INT TERM
read -r _
while [ -e "$1" ]; do
    for file in "$1"/running/*; do kill -KILL "${file##*/}"; done
    rm -rf "$1" || sleep 0.1
done
"#;

/// A directory for one test with a `Cargo.lock`, like a checkout. Removed after the test, however it ends.
pub struct Project {
    pub directory: PathBuf,
    cleaner: Child,
    cleaner_input: Option<ChildStdin>,
}

impl Project {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = env::temp_dir().join(format!("people's project {}-{number}", process::id()));
        fs::create_dir_all(directory.join("running")).expect("a directory");
        fs::write(directory.join("Cargo.lock"), "").expect("a file");
        let mut cleaner = Command::new("/bin/sh");
        cleaner.args(["-c", CLEANER, "cleaner"]).arg(&directory);
        std::os::unix::process::CommandExt::process_group(&mut cleaner, 0);
        cleaner
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut cleaner = cleaner.spawn().expect("/bin/sh");
        let cleaner_input = cleaner.stdin.take();
        Self {
            directory,
            cleaner,
            cleaner_input,
        }
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.directory.join(name), contents).expect("a file");
    }

    /// The data directory of the embedded server, for any version.
    pub fn data_directory(&self) -> PathBuf {
        let entries = fs::read_dir(self.directory.join(".local"));
        let mut directories = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        directories
            .find(|path| path.join("PG_VERSION").exists())
            .unwrap_or_default()
    }

    /// The main process of the embedded server, if it is running.
    pub fn postmaster(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.data_directory().join("postmaster.pid")).ok()?;
        pid.lines().next()?.parse().ok()
    }

    /// Processes whose working directory is that of the embedded server, as for all of PostgreSQL's.
    pub fn database_processes(&self) -> Vec<String> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter(|process| {
                fs::read_link(process.path().join("cwd"))
                    .is_ok_and(|directory| directory.starts_with(self.directory.join(".local")))
            })
            .map(|process| process.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// `local` in this directory, with these variables and only those of ours that describe the machine.
    pub fn command(&self, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
        command.current_dir(&self.directory).env_clear();
        for name in ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "PG_BINDIR"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(variables.iter().copied());
        // Like a job in a shell: a signal to the group is then like Ctrl-C.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts `local` and waits until it accepts requests.
    pub fn start(&self, variables: &[(&str, &str)]) -> Local {
        let local = self.begin(self.command(variables));
        eventually("it serves or has ended", || {
            local.stdout().contains("Try: curl") || local.has_ended()
        });
        assert!(
            !local.has_ended(),
            "it ended: {} {}",
            local.stdout(),
            local.stderr()
        );
        local
    }

    pub fn begin(&self, mut command: Command) -> Local {
        let mut child = command.spawn().expect("local");
        let mark = self.directory.join("running").join(child.id().to_string());
        fs::write(&mark, "").expect("a file");
        let stdout = Stream::of(child.stdout.take().expect("piped"));
        let stderr = Stream::of(child.stderr.take().expect("piped"));
        Local {
            child: Mutex::new(child),
            mark,
            stdout,
            stderr,
        }
    }

    /// Runs `local`, which must fail to start, and returns its one line on standard error.
    #[track_caller]
    pub fn refusal(&self, variables: &[(&str, &str)]) -> String {
        let (status, stdout, stderr) = self.begin(self.command(variables)).wait();
        assert_eq!((status, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert_eq!(self.database_processes(), [""; 0]);
        let line = stderr.strip_suffix('\n').unwrap_or(&stderr);
        assert!(!line.is_empty() && !line.contains('\n'), "{stderr}");
        line.to_owned()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        drop(self.cleaner_input.take());
        let _ = self.cleaner.wait();
    }
}

/// An output, read as it arrives.
struct Stream {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn of(output: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = text.clone();
        let reader = thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|read| read > 0) {
                shared.lock().expect("not poisoned").push_str(&line);
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().expect("not poisoned").clone()
    }

    fn into_text(self) -> String {
        self.reader.join().expect("no panic");
        self.text.lock().expect("not poisoned").clone()
    }
}

/// A running `local`.
pub struct Local {
    child: Mutex<Child>,
    mark: PathBuf,
    stdout: Stream,
    stderr: Stream,
}

impl Local {
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn id(&self) -> u32 {
        self.child.lock().expect("not poisoned").id()
    }

    pub fn has_ended(&self) -> bool {
        let ended = self.child.lock().expect("not poisoned").try_wait();
        ended.expect("a status").is_some()
    }

    /// Waits until it ends. Returns exit code, standard output and standard error.
    pub fn wait(self) -> (Option<i32>, String, String) {
        eventually("it has ended", || self.has_ended());
        let status = self.child.lock().expect("not poisoned").wait().expect("a status");
        fs::remove_file(self.mark).expect("our file");
        (status.code(), self.stdout.into_text(), self.stderr.into_text())
    }

    /// Ends it as its user does, without an error. Returns standard output and standard error.
    #[track_caller]
    pub fn stop(self) -> (String, String) {
        signal("TERM", &self.id().to_string());
        let (status, stdout, stderr) = self.wait();
        assert_eq!(status, Some(0), "{stderr}");
        (stdout, stderr)
    }

    /// The address in the banner.
    fn address(&self) -> String {
        let stdout = self.stdout();
        let line = stdout.lines().next().unwrap_or_default();
        line.strip_prefix("Listening on http://")
            .unwrap_or_else(|| panic!("no address: {stdout}"))
            .to_owned()
    }

    pub fn port(&self) -> u16 {
        let address = self.address();
        let (host, port) = address.rsplit_once(':').expect("a port");
        assert_eq!(host, "127.0.0.1");
        port.parse().expect("a port")
    }

    /// Sends bytes unchanged, and reads the whole response.
    pub fn send_raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        stream.write_all(request).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        Answer(String::from_utf8(answer).expect("UTF-8"))
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("a String");
        }
        write!(head, "content-length: {}\r\n\r\n", body.len()).expect("a String");
        self.send_raw(&[head.as_bytes(), body].concat())
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
    }

    pub fn register(&self, userid: &str) -> Answer {
        self.post(
            "/user/register",
            &json!({ "userid": userid, "password": PASSWORD }),
        )
    }

    pub fn log_in(&self, userid: &str) -> Answer {
        self.post("/auth/login", &json!({ "userid": userid, "password": PASSWORD }))
    }

    pub fn with_token(&self, method: &str, path: &str, token: &str) -> Answer {
        self.send(method, path, &[("authorization", &format!("Bearer {token}"))], "")
    }
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer(String);

impl Answer {
    pub fn status(&self) -> u16 {
        let status = self.0.split(' ').nth(1);
        status
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status: {}", self.0))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.0.split_once("\r\n\r\n")?;
        head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        let body = self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {}", self.0))
    }

    /// Status and code of the envelope.
    pub fn outcome(&self) -> (u16, u64) {
        (self.status(), self.json()["code"].as_u64().unwrap_or_default())
    }

    #[track_caller]
    pub fn token(&self) -> String {
        let json = self.json();
        let token = json["data"]["access_token"].as_str();
        token.unwrap_or_else(|| panic!("no token: {json}")).to_owned()
    }
}

/// A database for one test, on a server for this run.
pub struct Database {
    pub url: String,
}

impl Database {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("people_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        sql(Self::server().url(), &format!("CREATE DATABASE {name}"));
        Self {
            url: Self::server().url().replace("/people?", &format!("/{name}?")),
        }
    }

    fn server() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::throwaway().expect("a throw-away PostgreSQL"))
    }

    /// Runs statements and returns the last value.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        sql(&self.url, statement)
    }

    /// The password in the URL.
    pub fn password(&self) -> &str {
        let (_, credentials) = self.url.split_once("people:").expect("our own URL");
        credentials.split('@').next().unwrap_or_default()
    }
}

/// Runs statements and returns the last value, as text.
#[track_caller]
fn sql(url: &str, statements: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome: Result<_, sqlx::Error> = runtime.expect("a runtime").block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        let rows = sqlx::raw_sql(statements).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(rows.last().map(|row| row.get_unchecked::<String, _>(0)))
    });
    outcome
        .unwrap_or_else(|error| panic!("{statements}: {error}"))
        .unwrap_or_default()
}

/// Sends a signal to a process or, with a `-` before the number, to a group.
#[track_caller]
pub fn signal(name: &str, to: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "kill", name, to])
        .status();
    assert!(status.expect("/bin/sh").success(), "kill -s {name} -- {to}");
}

/// Whether a path exists, even if it is a broken link.
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
