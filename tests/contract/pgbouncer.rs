//! A real `PgBouncer` in transaction mode.

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::harness::Database;

/// Number of server connections of the pooler, far fewer than clients.
pub const SERVER_CONNECTIONS: usize = 2;

/// Stops the pooler and removes its directory `$1` when our end of its input is closed, for whatever reason. `$2`: the
/// program, followed by its arguments.
const GUARDIAN: &str = r#"trap '' HUP INT TERM
directory=$1
shift
"$@" >"$directory/log" 2>&1 &
read -r _
kill -KILL $!
rm -rf "$directory"
"#;

/// A pooler in front of the tests' server.
pub struct PgBouncer {
    guardian: Child,
    log: PathBuf,
    /// Of `database`, through the pooler.
    pub url: String,
}

impl PgBouncer {
    /// `None`, with a message, if the program is missing, which must not be the case in CI.
    pub async fn before(database: &Database) -> Option<Self> {
        let Some(program) = program() else {
            assert!(
                env::var_os("REQUIRE_TEST_TOOLS").is_none(),
                "pgbouncer is not installed"
            );
            println!("did not run: pgbouncer is not installed");
            return None;
        };
        let (_, rest) = database.url.split_once("://").expect("a URL");
        let (credentials, place) = rest.rsplit_once('@').expect("a URL with a user");
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (server, _) = place.split_once('/').expect("a URL with a database");
        let (host, server_port) = server.split_once(':').unwrap_or((server, "5432"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);

        let directory = env::temp_dir().join(format!("people-pooler-{}", Uuid::new_v4()));
        fs::create_dir(&directory).expect("a directory");
        let settings = directory.join("pgbouncer.ini");
        // All clients connect as this user. Startup parameters unknown to the pooler are rejected.
        write!(
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&settings)
                .expect("a file"),
            "[databases]\n\
             * = host={host} port={server_port} user={user} password={password}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {SERVER_CONNECTIONS}\n\
             max_client_conn = 200\n"
        )
        .expect("it is written");
        let mut guardian = Command::new("/bin/sh");
        guardian.args(["-c", GUARDIAN, "guardian"]).arg(&directory);
        guardian.arg(program).arg(settings);
        if is_root() {
            // It refuses to run as root.
            guardian.args(["-u", "nobody"]);
        }
        std::os::unix::process::CommandExt::process_group(&mut guardian, 0);
        guardian
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let pooler = Self {
            guardian: guardian.spawn().expect("/bin/sh"),
            log: directory.join("log"),
            url: format!(
                "postgres://people@127.0.0.1:{port}/{}?sslmode=disable",
                database.name()
            ),
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        while let Err(error) = pooler.options().connect().await {
            assert!(Instant::now() < deadline, "{error}: {}", pooler.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(pooler)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn options(&self) -> PgConnectOptions {
        let options: PgConnectOptions = self.url.parse().expect("our own URL");
        // Unknown to the pooler.
        options.extra_float_digits(None)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        // Where Debian installs it, which is on root's PATH only.
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join("pgbouncer"))
        .find(|program| program.is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.trim_ascii() == b"0"
}
