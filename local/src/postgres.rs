//! A `PostgreSQL` server of the project's own, run from whatever `PostgreSQL` the machine has installed: no
//! Docker, no system service, no settings outside its data directory.
//!
//! Two kinds of server:
//!
//! - [`Server::start`]: keeps its data in a directory and is shared by every process that starts it there.
//!   The last one to call [`Server::stop`] stops it; a process that is killed leaves it running for the next
//!   start to adopt.
//! - [`Server::throwaway`]: fast, unsafe against a power cut, for one test run. A guardian process removes it
//!   as soon as the process that made it is gone, however that ended.
//!
//! Every function here blocks, for a minute at worst: in async code, call it on a blocking thread.
//!
//! `PostgreSQL` refuses to run as root. A root process therefore runs it as the owner of the existing data,
//! or else as the user `postgres` or `nobody`.

use std::{
    cmp::Reverse,
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Role, database and prefix of directory names.
const NAME: &str = "people";
/// Older ones have had no fixes since 2024, and lack `gen_random_uuid`.
const OLDEST_MAJOR: u32 = 13;
/// How long a start waits for a server that is starting, stopping or dying before it gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long to wait for another start or stop: it may itself wait for [`PATIENCE`].
const LOCK_PATIENCE: Duration = Duration::from_mins(2);
/// How long a server on the loopback interface may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two looks at something that changes by itself.
const PAUSE: Duration = Duration::from_millis(50);
/// Ports to choose from. Below the ranges from which Linux (32768) and macOS (49152) take ports for outgoing
/// connections, so that the kept port is still free at the next start.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// A log longer than this, in bytes, is removed at the next start.
const LOG_LIMIT: u64 = 16 << 20;

/// In the data directory: the settings that this module owns, included at the end of `postgresql.conf`.
const SETTINGS_FILE: &str = "local.conf";
/// In the data directory: the role's password, mode 0600.
const PASSWORD_FILE: &str = "people.password";
/// In the data directory: what the server says.
const LOG_FILE: &str = "server.log";
/// In the data directory: written by the server while it runs.
const PID_FILE: &str = "postmaster.pid";

/// Settings of a throwaway server: nothing is worth keeping, many tests connect at once.
const THROWAWAY_SETTINGS: &str = "fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
";

/// Waits until the maker's end of the pipe closes, then stops the server and removes its directory. `$1`
/// directory, `$2` data directory, `$3` `pg_ctl`. Continues the server first, in case a test had paused it.
const GUARDIAN: &str = r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
trap '' HUP INT TERM
read -r _
while [ -e "$1" ]; do
    if read -r pid <"$2/postmaster.pid"; then
        kill -CONT "$pid"
        "$3" stop -D "$2" -m immediate -t 10
    fi
    rm -rf "$1" || sleep 1
done
"#;

/// Runs `$@` without the files that a script which started us may have left open (`9>lock`): a server that
/// outlives us would keep them.
const WITH_FILES_CLOSED: &str = r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
exec "$@"
"#;

/// Why a server could not be started, stopped or looked at. Each message is one line that says what to do,
/// and already contains its cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine has no `PostgreSQL` server where one would look.
    #[error(
        "no PostgreSQL server found: install one (`apt-get install postgresql`, `brew install postgresql@17`), \
         set PG_BINDIR to the directory of its programs, or set DATABASE_URL to a database that already runs"
    )]
    NotFound,
    /// `PG_BINDIR` is set and does not name a usable server.
    #[error("PG_BINDIR={}: {reason}; name the directory that holds `postgres`, `initdb` and `pg_ctl`", directory.display())]
    Bindir {
        /// What `PG_BINDIR` says.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The process is root and there is no other user to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and /etc/passwd has no user `postgres` or `nobody` to run it as: \
         add one (`useradd --system postgres`), run as a plain user, or set DATABASE_URL"
    )]
    NoUser,
    /// The process is root and may not become the other user, as in some containers.
    #[error(
        "PostgreSQL refuses to run as root, and programs cannot be run as uid {uid} here ({cause}): \
         run as a plain user, or set DATABASE_URL"
    )]
    User {
        /// The user that was tried.
        uid: u32,
        /// What the system says.
        cause: io::Error,
    },
    /// A file or directory cannot be made, read or written.
    #[error("{}: {cause}; check who owns it and that the disk has room", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The fallback in the temporary directory exists and is not this user's alone.
    #[error("{} is not a private directory of the user that runs PostgreSQL: remove it, or set DATABASE_URL", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
    },
    /// Another start or stop does not end, or the file system has no locks.
    #[error("cannot lock {}: {reason}; end the process that holds it, or set DATABASE_URL", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system says, or how long this waited.
        reason: String,
    },
    /// A program cannot be run at all.
    #[error("cannot run {}: {cause}; check that it is installed and executable for the user that runs PostgreSQL", program.display())]
    Command {
        /// The program.
        program: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb could not make a database in {}: {reason}", directory.display())]
    Initdb {
        /// Where the data should have gone.
        directory: PathBuf,
        /// The error in its output.
        reason: String,
    },
    /// The server did not start, did not stop or refused a command.
    #[error("PostgreSQL: {reason} (its log is {})", log.display())]
    Server {
        /// The last error in its log or in the output of its tools.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// A server process holds the data directory and does not answer.
    #[error("PostgreSQL (process {pid}) holds {} and does not answer: end it with `kill {pid}` and start again", data.display())]
    Unresponsive {
        /// The process.
        pid: u32,
        /// The data directory.
        data: PathBuf,
    },
    /// The server went down, and another program has taken its port since.
    #[error(
        "port {port} now belongs to another program, so PostgreSQL cannot come back there: end that program, or start `local` again"
    )]
    PortTaken {
        /// The port, on 127.0.0.1.
        port: u16,
    },
    /// No port is free.
    #[error("no free port from {} to {} on 127.0.0.1: end a program that listens there, or set DATABASE_URL", PORTS.start, PORTS.end - 1)]
    NoPort,
}

/// A running `PostgreSQL` with an empty or kept database `people`, owned by the superuser `people`, on
/// 127.0.0.1.
///
/// Dropping a [`Server`] does not stop a kept one: call [`Server::stop`]. A throwaway ends either way.
pub struct Server {
    cluster: Cluster,
    port: u16,
    url: String,
    hold: Hold,
}

/// What keeps a server from being stopped.
enum Hold {
    /// A shared lock on `users.lock`; whoever can lock it exclusively is the last user.
    Shared { home: PathBuf, users: File },
    /// The guardian process, waiting on our end of its standard input.
    Guardian(Child),
}

impl Server {
    /// Starts the server whose data is kept in `directory/pg-15` (or whichever major version is installed),
    /// makes the data first if there is none, or joins the server that already runs on it. Takes about 0.8 s
    /// the first time, then 0.15 s.
    ///
    /// The port is chosen once and written to the data directory, so that a plain `pg_ctl -D DIRECTORY start`
    /// comes back there; it changes only if another program has taken it. Where the user that runs the server
    /// cannot enter `directory`, or its path has characters that `pg_ctl` cannot quote, a private directory
    /// under the system's temporary directory takes its place: [`Server::data_directory`] tells.
    ///
    /// # Errors
    ///
    /// See [`Error`]. Nothing half-made is left behind.
    pub fn start(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let directory = directory.canonicalize().map_err(at(directory))?;
        let account = Account::for_directory(&directory)?;
        let home = home(&directory, account)?;
        let installation = Installation::find(account, &home)?;

        let starting = lock_start(&home, account)?;
        let users_path = home.join("users.lock");
        let users = open_lock(&users_path, account)?;
        acquire(&users_path, || users.try_lock_shared())?;

        let cluster = Cluster::new(installation, account, &home, "");
        let version = cluster.data.join("PG_VERSION");
        if !version.try_exists().map_err(at(&version))? {
            cluster.initialize(&home)?;
        }
        let port = cluster.bring_up(None)?;
        let url = cluster.url(port)?;
        drop(starting);
        Ok(Self {
            cluster,
            port,
            url,
            hold: Hold::Shared { home, users },
        })
    }

    /// Starts a fresh server for tests in a directory of its own, in about 0.7 s. It keeps nothing: it does
    /// not wait for the disk, and it is stopped and removed when this [`Server`] is stopped or dropped or
    /// when the process ends, even by `kill -9`. Up to 300 connections.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn throwaway() -> Result<Self, Error> {
        let account = Account::find()?;
        let mut parent = env::temp_dir();
        if !account.can_use(&parent)? {
            parent = PathBuf::from("/tmp");
        }
        let home = parent.join(format!("{NAME}-test-{}", random_hex()?));
        let installation = Installation::find(account, &home)?;
        private_directory(&home, account)?;
        let cluster = Cluster::new(installation, account, &home, THROWAWAY_SETTINGS);
        // Before initdb, so that a run killed at any moment leaves nothing.
        let guardian = cluster.guard(&home)?;
        cluster.initialize(&home)?;
        let port = cluster.bring_up(None)?;
        let url = cluster.url(port)?;
        Ok(Self {
            cluster,
            port,
            url,
            hold: Hold::Guardian(guardian),
        })
    }

    /// `postgres://people:PASSWORD@127.0.0.1:PORT/people?sslmode=disable`. Contains the password; the same
    /// for the whole life of this value.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory, what `pg_ctl` calls `-D`. The server's log is `server.log` in it.
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        &self.cluster.data
    }

    /// The directory of the server's programs, such as `pg_ctl` and, in most installations, `psql`.
    #[must_use]
    pub fn bin_directory(&self) -> &Path {
        &self.cluster.installation.bin
    }

    /// The server's main process, or `None` while it is down.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        let postmaster = self.cluster.postmaster()?;
        (self.cluster.observe(postmaster.pid) == Process::Ours).then_some(postmaster.pid)
    }

    /// Runs `pg_ctl ARGS` on this server as the user that owns it, waiting for the outcome; for tests of
    /// failures, as in `["stop", "-m", "immediate"]` and `["start"]`.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] with the error in the server's log or in its output, if `pg_ctl` fails.
    pub fn pg_ctl(&self, args: &[&str]) -> Result<(), Error> {
        self.cluster.pg_ctl(args)
    }

    /// Sends the server's main process a signal by name, such as `KILL`, `STOP` or `CONT`; for tests of
    /// failures. While it is stopped, new connections hang and open ones go on.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it is down or the signal is refused.
    pub fn signal(&self, name: &str) -> Result<(), Error> {
        let pid = self
            .postmaster_pid()
            .ok_or_else(|| self.cluster.failure("the server is not running".to_owned()))?;
        self.cluster.signal(pid, name)
    }

    /// Starts the server again, on the same port, if its process is gone; `true` if it did. Leaves one alone
    /// that runs but is starting, stopping or paused. Cheap while the server is up (one connection), so fit
    /// to call every few seconds.
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`] if another program has its port now, else as for [`Server::start`]. Trying again
    /// later is fine.
    pub fn restart_if_down(&self) -> Result<bool, Error> {
        if connects(self.port) && self.postmaster_pid().is_some() {
            return Ok(false);
        }
        let _starting = match &self.hold {
            Hold::Shared { home, .. } => Some(lock_start(home, self.cluster.account)?),
            Hold::Guardian(_) => None,
        };
        // Looked at again under the lock: another process may have restarted it meanwhile.
        if self.cluster.state() != State::Down {
            return Ok(false);
        }
        self.cluster.bring_up(Some(self.port))?;
        Ok(true)
    }

    /// Lets go of the server and stops it, unless another process uses it too. Open connections are cut. A
    /// throwaway is removed as well.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] if it does not stop, [`Error::Lock`] if another start or stop does not end.
    pub fn stop(self) -> Result<(), Error> {
        match self.hold {
            Hold::Shared { home, users } => {
                // No start can join in between the test for other users and the end of the server.
                let _starting = lock_start(&home, self.cluster.account)?;
                let refused = |reason: String| Error::Lock {
                    path: home.join("users.lock"),
                    reason,
                };
                users.unlock().map_err(|e| refused(e.to_string()))?;
                match users.try_lock() {
                    Ok(()) => self.cluster.halt(),
                    Err(TryLockError::WouldBlock) => Ok(()),
                    Err(TryLockError::Error(e)) => Err(refused(e.to_string())),
                }
            }
            Hold::Guardian(mut guardian) => {
                drop(guardian.stdin.take());
                guardian.wait().map_err(running("/bin/sh"))?;
                // In case the guardian had been killed.
                self.cluster.halt()?;
                let home = self.cluster.data.parent().filter(|home| home.exists());
                home.map_or(Ok(()), |home| fs::remove_dir_all(home).map_err(at(home)))
            }
        }
    }
}

impl fmt::Debug for Server {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("port", &self.port)
            .field("data", &self.cluster.data)
            .finish_non_exhaustive()
    }
}

/// One data directory and the programs and user to run it with.
struct Cluster {
    installation: Installation,
    account: Account,
    data: PathBuf,
    /// Settings besides address and port, for `local.conf`.
    settings: &'static str,
}

/// What the server is doing, as far as one can tell from outside.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No server process has the data directory.
    Down,
    /// One has it, but is starting, stopping or paused.
    Busy(u32),
    /// It answers on this port.
    Up(u16),
}

/// The process whose number stands in the pid file.
#[derive(Debug, PartialEq, Eq)]
enum Process {
    /// There is none.
    Gone,
    /// Dead but not yet reaped, or the number now belongs to something else.
    Stale,
    /// A live server in our data directory.
    Ours,
}

/// What the pid file says. Its lines: process (negative in single-user mode), data directory, start time,
/// port, socket directory, address, shared memory, status.
struct Postmaster {
    pid: u32,
    port: Option<u16>,
    ready: bool,
}

impl Cluster {
    fn new(installation: Installation, account: Account, home: &Path, settings: &'static str) -> Self {
        let data = home.join(installation.data_name());
        Self {
            installation,
            account,
            data,
            settings,
        }
    }

    fn log(&self) -> PathBuf {
        self.data.join(LOG_FILE)
    }

    fn failure(&self, reason: String) -> Error {
        Error::Server {
            reason,
            log: self.log(),
        }
    }

    fn url(&self, port: u16) -> Result<String, Error> {
        let path = self.data.join(PASSWORD_FILE);
        let password = fs::read_to_string(&path).map_err(at(&path))?;
        Ok(format!(
            "postgres://{NAME}:{}@{}:{port}/{NAME}?sslmode=disable",
            password.trim(),
            Ipv4Addr::LOCALHOST
        ))
    }

    /// Makes the data directory. All of it happens in a sibling that is renamed at the end, so that a process
    /// killed here leaves no half-made one. The sibling's name is random: an initdb that outlived its parent
    /// may still be writing to an earlier one.
    fn initialize(&self, home: &Path) -> Result<(), Error> {
        let prefix = format!("{}.new-", self.installation.data_name());
        for entry in fs::read_dir(home).map_err(at(home))?.flatten() {
            if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                // What cannot be removed now, because it is still written to, goes the next time.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let staging = home.join(format!("{prefix}{}", random_hex()?));
        private_directory(&staging, self.account)?;
        let made = self.initialize_in(&staging);
        let _ = fs::remove_dir_all(&staging);
        made
    }

    fn initialize_in(&self, staging: &Path) -> Result<(), Error> {
        let throwaway = !self.settings.is_empty();
        let password = staging.join(PASSWORD_FILE);
        self.account.write_private(&password, &random_hex()?)?;
        let data = staging.join("data");
        let program = self.installation.program("initdb");
        let mut initdb = self.account.command(&program);
        initdb
            .arg("--pgdata")
            .arg(&data)
            .arg("--pwfile")
            .arg(&password)
            .args(["--username", NAME]);
        initdb.args(["--encoding", "UTF8", "--locale", "C"]);
        if throwaway {
            // Hashing the password costs a client built without optimisation tens of milliseconds a
            // connection. In clear, over loopback, it keeps other users out just as well.
            initdb.args(["--auth", "password", "--no-sync"]);
        } else {
            initdb.args(["--auth", "scram-sha-256"]);
        }
        let output = initdb.output().map_err(running(&program))?;
        if !output.status.success() {
            let reason = complaint(&output);
            return Err(Error::Initdb {
                directory: self.data.clone(),
                reason,
            });
        }

        let path = data.join(PASSWORD_FILE);
        fs::rename(&password, &path).map_err(at(&path))?;
        let path = data.join("postgresql.conf");
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| writeln!(file, "\ninclude_if_exists '{SETTINGS_FILE}'"))
            .map_err(at(&path))?;
        fs::rename(&data, &self.data).map_err(at(&self.data))
    }

    /// Starts the guardian of a throwaway.
    fn guard(&self, home: &Path) -> Result<Child, Error> {
        let mut guardian = self.account.command("/bin/sh");
        guardian
            .args(["-c", GUARDIAN, "guardian"])
            .arg(home)
            .arg(&self.data)
            .arg(self.installation.program("pg_ctl"));
        // Our end of the pipe is closed in every other child (the standard library opens it close-on-exec),
        // so it ends with this process. A group of its own: Ctrl-C ends the tests' group, not the guardian.
        guardian
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        guardian.spawn().map_err(running("/bin/sh"))
    }

    /// Brings the server up from whatever state it is in and returns its port. With `only`, on that port or
    /// not at all.
    fn bring_up(&self, only: Option<u16>) -> Result<u16, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.state() {
                State::Up(port) => return Ok(port),
                State::Busy(pid) => Error::Unresponsive {
                    pid,
                    data: self.data.clone(),
                },
                State::Down => match self.launch(only) {
                    Ok(()) => self.failure("the server stopped as soon as it had started".to_owned()),
                    Err(error) if may_pass(&error) => error,
                    Err(error) => return Err(error),
                },
            };
            // After a launch that went well, this look is the one that counts.
            if let State::Up(port) = self.state() {
                return Ok(port);
            }
            if Instant::now() > deadline {
                return Err(error);
            }
            thread::sleep(PAUSE);
        }
    }

    /// One attempt to start the server, which is down.
    fn launch(&self, only: Option<u16>) -> Result<(), Error> {
        if let Some(postmaster) = self.postmaster()
            && self.observe(postmaster.pid) == Process::Stale
        {
            // The server would refuse to start while the number in this file is taken, if only by its own
            // predecessor that nobody has reaped. Safe: a second interlock, in shared memory, stops it from
            // starting beside processes that still use the data.
            let path = self.data.join(PID_FILE);
            fs::remove_file(&path).map_err(at(&path))?;
        }
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|log| log.len() > LOG_LIMIT) {
            fs::remove_file(&log).map_err(at(&log))?;
        }
        let port = match only {
            Some(port) if is_free(port) => port,
            Some(port) => return Err(Error::PortTaken { port }),
            None => self.choose_port()?,
        };
        self.write_settings(port)?;
        self.settle()?;
        self.pg_ctl(&["start"])
    }

    /// The kept port if it is free, else any.
    fn choose_port(&self) -> Result<u16, Error> {
        let settings = fs::read_to_string(self.data.join(SETTINGS_FILE)).unwrap_or_default();
        let kept = settings
            .lines()
            .find_map(|line| line.strip_prefix("port = ")?.trim().parse().ok());
        if let Some(port) = kept.filter(|&port| is_free(port)) {
            return Ok(port);
        }
        let span = PORTS.end - PORTS.start;
        let offset = u16::try_from(random()? % u128::from(span)).unwrap_or(0);
        (0..span)
            .map(|step| PORTS.start + (offset + step) % span)
            .find(|&port| is_free(port))
            .ok_or(Error::NoPort)
    }

    fn write_settings(&self, port: u16) -> Result<(), Error> {
        let path = self.data.join(SETTINGS_FILE);
        let settings = format!(
            "# Written when the server is started by `local`; put other settings into postgresql.conf.\n\
             listen_addresses = '{}'\n\
             port = {port}\n\
             unix_socket_directories = ''\n\
             {}",
            Ipv4Addr::LOCALHOST,
            self.settings
        );
        if fs::read_to_string(&path).is_ok_and(|written| written == settings) {
            return Ok(());
        }
        self.account.write_private(&path, &settings)
    }

    /// Makes the database and the password be there, whatever happened to them since the last start.
    /// Single-user mode needs neither a client nor a password, and takes 25 ms.
    fn settle(&self) -> Result<(), Error> {
        // One line a statement.
        let mut sql = vec![format!("CREATE DATABASE {NAME};\n")];
        let password_path = self.data.join(PASSWORD_FILE);
        let kept = fs::read_to_string(&password_path).unwrap_or_default();
        let lost = kept.trim().is_empty() || !kept.trim().bytes().all(|byte| byte.is_ascii_alphanumeric());
        let password = if lost { random_hex()? } else { kept };
        if lost {
            sql.push(format!("ALTER ROLE {NAME} PASSWORD '{password}';\n"));
        }

        let program = self.installation.program("postgres");
        let mut single = self.account.command(&program);
        single.args(["--single", "-D"]).arg(&self.data).arg("template1");
        single
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = single.spawn().map_err(running(&program))?;
        if let Some(mut input) = child.stdin.take() {
            // If it is gone already, its exit status and output say why.
            let _ = input.write_all(sql.concat().as_bytes());
        }
        let output = child.wait_with_output().map_err(running(&program))?;
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            // None of this is in the server's log, and what a setting's mistake is stands before the fatal line.
            let said =
                |line: &str| message(line).or_else(|| Some(line.split_once("LOG:")?.1.trim().to_owned()));
            let said: Vec<_> = text.lines().filter_map(said).collect();
            return Err(self.failure(if said.is_empty() {
                complaint(&output)
            } else {
                said.join("; ")
            }));
        }
        let exists = format!("database \"{NAME}\" already exists");
        if let Some(reason) = text
            .lines()
            .filter(|line| !line.contains(&exists))
            .find_map(message)
        {
            return Err(self.failure(reason));
        }
        // Last: if it cannot be written, the next start sets another one.
        if lost {
            self.account.write_private(&password_path, &password)
        } else {
            Ok(())
        }
    }

    fn halt(&self) -> Result<(), Error> {
        let Some(postmaster) = self.postmaster() else {
            return Ok(());
        };
        if self.observe(postmaster.pid) != Process::Ours {
            return Ok(());
        }
        if matches!(self.state(), State::Busy(_)) {
            // Paused by a test, perhaps: it could not hear the request to stop.
            let _ = self.signal(postmaster.pid, "CONT");
        }
        match self.pg_ctl(&["stop", "-m", "fast", "-t", "30"]) {
            Err(_) if self.observe(postmaster.pid) == Process::Ours => {
                self.pg_ctl(&["stop", "-m", "immediate"])
            }
            // It had stopped by itself, or died while stopping.
            _ => Ok(()),
        }
    }

    fn pg_ctl(&self, args: &[&str]) -> Result<(), Error> {
        let log = self.log();
        let logged = fs::metadata(&log).map_or(0, |log| log.len());
        let mut pg_ctl = self.account.command("/bin/sh");
        pg_ctl
            .args(["-c", WITH_FILES_CLOSED, "pg_ctl"])
            .arg(self.installation.program("pg_ctl"));
        // With a log file of its own, the server keeps none of our pipes open.
        pg_ctl
            .arg("-D")
            .arg(&self.data)
            .arg("-l")
            .arg(&log)
            .arg("-w")
            .args(args);
        if args.first() == Some(&"stop") {
            // An impatient second Ctrl-C must not end the stop that the first one asked for.
            pg_ctl.process_group(0);
        }
        let output = pg_ctl.output().map_err(running("/bin/sh"))?;
        if output.status.success() {
            return Ok(());
        }
        let new = fs::read(&log).unwrap_or_default();
        let new = String::from_utf8_lossy(
            new.get(usize::try_from(logged).unwrap_or(0)..)
                .unwrap_or_default(),
        )
        .into_owned();
        let reason = new.lines().rev().find_map(message);
        Err(self.failure(reason.unwrap_or_else(|| complaint(&output))))
    }

    fn signal(&self, pid: u32, name: &str) -> Result<(), Error> {
        let mut kill = self.account.command("/bin/sh");
        kill.args(["-c", r#"kill -s "$1" "$2""#, "kill", name])
            .arg(pid.to_string());
        let output = kill.output().map_err(running("/bin/sh"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(self.failure(complaint(&output)))
        }
    }

    fn state(&self) -> State {
        let Some(postmaster) = self.postmaster() else {
            return State::Down;
        };
        if self.observe(postmaster.pid) != Process::Ours {
            return State::Down;
        }
        match postmaster.port {
            Some(port) if postmaster.ready && answers(port) => State::Up(port),
            _ => State::Busy(postmaster.pid),
        }
    }

    fn postmaster(&self) -> Option<Postmaster> {
        let text = fs::read_to_string(self.data.join(PID_FILE)).ok()?;
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        Some(Postmaster {
            pid: lines.first()?.trim_start_matches('-').parse().ok()?,
            port: lines.get(3).and_then(|port| port.parse().ok()),
            ready: lines.get(7) == Some(&"ready"),
        })
    }

    /// Whether the process is a live server in our data directory. The number alone proves nothing: after a
    /// crash or a reboot it may be a zombie's or a stranger's.
    fn observe(&self, pid: u32) -> Process {
        let proc = Path::new("/proc");
        let (name, state) = match fs::read_to_string(proc.join(format!("{pid}/stat"))) {
            // "PID (NAME) STATE …", where NAME may contain anything.
            Ok(stat) => {
                let (before, after) = stat.rsplit_once(')').unwrap_or_default();
                (
                    before.split_once('(').unwrap_or_default().1.to_owned(),
                    after.trim().to_owned(),
                )
            }
            Err(_) if proc.join("self/stat").exists() => return Process::Gone,
            // macOS and the BSDs.
            Err(_) => {
                let ps = Command::new("ps")
                    .args(["-o", "stat=", "-o", "comm=", "-p", &pid.to_string()])
                    .output();
                let text = ps
                    .map(|ps| String::from_utf8_lossy(&ps.stdout).trim().to_owned())
                    .unwrap_or_default();
                match text.split_once(char::is_whitespace) {
                    Some((state, name)) => (name.to_owned(), state.to_owned()),
                    None => return Process::Gone,
                }
            }
        };
        let dead = state.starts_with(['Z', 'X']);
        // A server works in its data directory. Where that may not be read, it is no evidence.
        let elsewhere =
            fs::read_link(proc.join(format!("{pid}/cwd"))).is_ok_and(|directory| directory != self.data);
        if dead || elsewhere || !name.contains("postgres") {
            Process::Stale
        } else {
            Process::Ours
        }
    }
}

/// Whether a failed start is worth another attempt: its predecessor is still dying, or another program was
/// faster to the port.
fn may_pass(error: &Error) -> bool {
    let Error::Server { reason, .. } = error else {
        return false;
    };
    [
        "lock file",
        "is still in use",
        "could not create any TCP/IP sockets",
    ]
    .iter()
    .any(|text| reason.contains(text))
}

/// The user to run the server as.
#[derive(Debug, Clone, Copy)]
enum Account {
    /// The one that runs this process.
    Own { uid: u32 },
    /// Another, because this one is root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// As [`Account::find`], but for root the owner of data that is already in `directory`.
    fn for_directory(directory: &Path) -> Result<Self, Error> {
        let account = Self::find();
        if matches!(account, Ok(Self::Own { .. })) {
            return account;
        }
        let owner = fs::read_dir(directory)
            .map_err(at(directory))?
            .flatten()
            .filter(|entry| entry.path().join("PG_VERSION").is_file())
            .find_map(|entry| entry.metadata().ok().filter(|data| data.uid() != 0));
        owner.map_or(account, |data| {
            Ok(Self::Other {
                uid: data.uid(),
                gid: data.gid(),
            })
        })
    }

    fn find() -> Result<Self, Error> {
        // The standard library cannot tell who we are.
        let output = Command::new("id").arg("-u").output().map_err(running("id"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let unknown = |_| io::Error::other("its output is not a number");
        match text.trim().parse().map_err(unknown).map_err(running("id"))? {
            0 => {}
            uid => return Ok(Self::Own { uid }),
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let entry = |wanted: &str| {
            let mut fields = passwd
                .lines()
                .map(|line| line.split(':'))
                .find(|line| line.clone().next() == Some(wanted))?
                .skip(2);
            // macOS writes the user `nobody` as -2.
            let mut number = || {
                fields.next().and_then(|id| {
                    id.parse()
                        .ok()
                        .or_else(|| id.parse().ok().map(i32::cast_unsigned))
                })
            };
            Some(Self::Other {
                uid: number()?,
                gid: number()?,
            })
        };
        ["postgres", "_postgres", "nobody"]
            .into_iter()
            .find_map(entry)
            .ok_or(Error::NoUser)
    }

    /// A command to be run as this user, without our environment: no `PG…` variable changes what it does, and
    /// no secret of ours shows among that user's processes.
    fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        // Where a shell finds its programs, and a server installed by hand its libraries.
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        // Messages in English, because some are looked for; UTC, because initdb takes long to find the
        // machine's zone.
        command.envs([("LC_ALL", "C"), ("TZ", "UTC")]);
        // The directory we are in may be closed to that user.
        command.current_dir("/").stdin(Stdio::null());
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Whether the server can live in this directory: its user can get there, and `pg_ctl`, which puts the
    /// path into a shell command between double quotes, can name it.
    fn can_use(self, directory: &Path) -> Result<bool, Error> {
        if directory
            .as_os_str()
            .as_bytes()
            .iter()
            .any(|byte| b"\"$`\\\n".contains(byte))
        {
            return Ok(false);
        }
        let Self::Other { uid, .. } = self else {
            return Ok(true);
        };
        let enter = |directory: &Path| {
            self.command("/bin/sh")
                .args(["-c", ":"])
                .current_dir(directory)
                .status()
        };
        enter(Path::new("/")).map_err(|cause| Error::User { uid, cause })?;
        Ok(enter(directory).is_ok())
    }

    fn own(self, path: &Path) -> Result<(), Error> {
        let Self::Other { uid, gid } = self else {
            return Ok(());
        };
        lchown(path, Some(uid), Some(gid)).map_err(at(path))
    }

    /// Writes a file that only this user can read, all of it or nothing. Never through a link that somebody
    /// else may have put there.
    fn write_private(self, path: &Path, text: &str) -> Result<(), Error> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(at(&temporary)(e)),
            _ => {}
        }
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&temporary)?;
            if let Self::Other { uid, gid } = self {
                fchown(&file, Some(uid), Some(gid))?;
            }
            file.write_all(text.as_bytes())?;
            fs::rename(&temporary, path)
        };
        write().map_err(at(path))
    }
}

/// The programs of one installed server.
#[derive(Debug)]
struct Installation {
    bin: PathBuf,
    major: u32,
}

impl Installation {
    fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The name of the data directory. One for each major version, since none reads another's data.
    fn data_name(&self) -> String {
        format!("pg-{}", self.major)
    }

    /// Prefers the version that `home` has data of: a newer server beside it must not seem to lose them.
    fn find(account: Account, home: &Path) -> Result<Self, Error> {
        // Read here and not in the service's configuration, which knows nothing of servers: these say how
        // this machine is set up, as PATH and HOME below do.
        if let Some(directory) = env::var_os("PG_BINDIR").filter(|value| !value.is_empty()) {
            let directory = PathBuf::from(directory);
            return Self::inspect(&directory, account).map_err(|reason| Error::Bindir { directory, reason });
        }
        let mut first = None;
        let mut seen = Vec::new();
        let asked = bindir_of_pg_config().into_iter().chain(bindirs_on_path());
        let mut keep = |installation: Self| {
            if home.join(installation.data_name()).is_dir() {
                return Some(installation);
            }
            first.get_or_insert(installation);
            None
        };
        for directory in asked {
            if !seen.contains(&directory)
                && let Ok(installation) = Self::inspect(&directory, account)
                && let Some(installation) = keep(installation)
            {
                return Ok(installation);
            }
            seen.push(directory);
        }
        let mut usual: Vec<_> = usual_bindirs()
            .into_iter()
            .filter(|directory| !seen.contains(directory))
            .filter_map(|directory| Self::inspect(&directory, account).ok())
            .collect();
        usual.sort_by_key(|installation| Reverse(installation.major));
        match usual.into_iter().find_map(&mut keep) {
            Some(installation) => Ok(installation),
            None => first.ok_or(Error::NotFound),
        }
    }

    fn inspect(bin: &Path, account: Account) -> Result<Self, String> {
        for name in ["postgres", "initdb", "pg_ctl"] {
            if !bin.join(name).is_file() {
                return Err(format!("there is no `{name}`"));
            }
        }
        // An absolute path, since the programs are run elsewhere.
        let bin = bin.canonicalize().map_err(|e| e.to_string())?;
        let output = account.command(bin.join("postgres")).arg("--version").output();
        let output = output.map_err(|e| format!("`postgres` cannot be run: {e}"))?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; "18beta1" has no dot.
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .split_once("(PostgreSQL) ")
            .map_or("", |(_, version)| version);
        let major: String = version.chars().take_while(char::is_ascii_digit).collect();
        match major.parse() {
            Ok(major) if major >= OLDEST_MAJOR => Ok(Self { bin, major }),
            Ok(major) => Err(format!("PostgreSQL {major} is older than {OLDEST_MAJOR}")),
            Err(_) => Err("`postgres --version` does not tell its version".to_owned()),
        }
    }
}

fn bindir_of_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let directory = output.stdout.trim_ascii();
    (output.status.success() && !directory.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(directory)))
}

/// Where the `postgres` on PATH really are: links in /usr/local/bin have no `initdb` beside them.
fn bindirs_on_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter_map(|directory| {
            directory
                .join("postgres")
                .canonicalize()
                .ok()?
                .parent()
                .map(Path::to_owned)
        })
        .collect()
}

/// Where packages put a server. A `*` stands for the rest of one directory's name.
fn usual_bindirs() -> Vec<PathBuf> {
    const PATTERNS: [&str; 18] = [
        "/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
        "/usr/pgsql-*/bin",                                   // PostgreSQL's own RPMs
        "/opt/homebrew/opt/postgresql*/bin",                  // Homebrew, Apple silicon
        "/usr/local/opt/postgresql*/bin",                     // Homebrew, Intel
        "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",     // Homebrew, Linux
        "/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
        "/Library/PostgreSQL/*/bin",                          // EnterpriseDB, macOS
        "/opt/PostgreSQL/*/bin",                              // EnterpriseDB, Linux
        "/opt/local/lib/postgresql*/bin",                     // MacPorts
        "/usr/libexec/postgresql*",                           // Alpine
        "/usr/lib/postgresql*/bin",                           // openSUSE
        "/usr/lib64/postgresql-*/bin",                        // Gentoo
        "/usr/local/pgsql/bin",                               // from source
        "/usr/local/bin",                                     // FreeBSD, OpenBSD
        "/usr/pkg/bin",                                       // NetBSD
        "/usr/bin",                                           // Fedora, Arch
        "/run/current-system/sw/bin",                         // NixOS
        "Applications/Postgres.app/Contents/Versions/*/bin",  // Postgres.app in the home directory
    ];
    let home = PathBuf::from(env::var_os("HOME").unwrap_or_else(|| OsString::from("/")));
    PATTERNS
        .iter()
        .flat_map(|pattern| expand(&home.join(pattern)))
        .collect()
}

/// The directories that match a pattern with at most one `*`, at the end of a component.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern {
        let Some(prefix) = component.as_bytes().strip_suffix(b"*") else {
            for path in &mut found {
                path.push(component);
            }
            continue;
        };
        let entries = found
            .iter()
            .filter_map(|path| fs::read_dir(path).ok())
            .flatten()
            .flatten();
        found = entries
            .filter(|entry| entry.file_name().as_bytes().starts_with(prefix))
            .map(|entry| entry.path())
            .collect();
    }
    found.retain(|path| path.is_dir());
    found
}

/// `directory`, or its stand-in under the temporary directory if the server's user cannot use it.
fn home(directory: &Path, account: Account) -> Result<PathBuf, Error> {
    if account.can_use(directory)? {
        return Ok(directory.to_owned());
    }
    let mut parent = env::temp_dir();
    if !account.can_use(&parent)? {
        parent = PathBuf::from("/tmp");
    }
    // FNV-1a: two directories have two names, and the same ones with every version of Rust.
    let hash = directory
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let home = parent.join(format!("{NAME}-local-{hash:016x}"));
    private_directory(&home, account)?;
    Ok(home)
}

/// Makes a directory that only the account can enter, or checks that the existing one is such. Anybody may
/// have put something of that name into the temporary directory.
fn private_directory(path: &Path, account: Account) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(at(path)(e)),
        _ => {}
    }
    let mut found = fs::symlink_metadata(path).map_err(at(path))?;
    let owner = match account {
        Account::Own { uid } => uid,
        Account::Other { uid, .. } => {
            // Just made, or left so by a root process that was killed here.
            if found.is_dir() && found.uid() == 0 {
                account.own(path)?;
                found = fs::symlink_metadata(path).map_err(at(path))?;
            }
            uid
        }
    };
    if found.is_dir() && found.uid() == owner && found.mode() & 0o777 == 0o700 {
        Ok(())
    } else {
        Err(Error::NotPrivate {
            path: path.to_owned(),
        })
    }
}

/// Held while a server is started or stopped.
fn lock_start(home: &Path, account: Account) -> Result<File, Error> {
    let path = home.join("start.lock");
    let file = open_lock(&path, account)?;
    acquire(&path, || file.try_lock())?;
    Ok(file)
}

/// Opens a lock file, which is private: whoever can open it can hold it.
fn open_lock(path: &Path, account: Account) -> Result<File, Error> {
    loop {
        match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            opened => return opened.map_err(at(path)),
        }
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
        {
            // Another process has just made it.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(at(path)(e)),
            Ok(file) => {
                account.own(path)?;
                return Ok(file);
            }
        }
    }
}

/// Repeats an attempt to lock for [`LOCK_PATIENCE`]: a wait without end would not say what it waits for.
fn acquire(path: &Path, attempt: impl Fn() -> Result<(), TryLockError>) -> Result<(), Error> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    let failed = |reason: String| Error::Lock {
        path: path.to_owned(),
        reason,
    };
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(failed(e.to_string())),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(failed(format!(
                    "another process has held it for {} s",
                    LOCK_PATIENCE.as_secs()
                )));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
        }
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(address(port)).is_ok()
}

fn connects(port: u16) -> bool {
    TcpStream::connect_timeout(&address(port), ANSWER).is_ok()
}

/// Whether a `PostgreSQL` answers on this port. Asks whether it speaks TLS (`SSLRequest` in the protocol),
/// the one question that needs no password; the answer is one byte.
fn answers(port: u16) -> bool {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address(port), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok(matches!(answer, [b'N' | b'S']))
    };
    ask().unwrap_or(false)
}

/// 128 random bits.
fn random() -> Result<u128, Error> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(at(path))?;
    Ok(u128::from_be_bytes(bytes))
}

/// The same, as 32 characters that need no quoting in a URL, in SQL or in a path.
fn random_hex() -> Result<String, Error> {
    Ok(format!("{:032x}", random()?))
}

/// The error that a server's log or a tool's output reports in this line, if any.
fn message(line: &str) -> Option<String> {
    ["FATAL:", "PANIC:", "ERROR:", " error:"]
        .iter()
        .find_map(|level| Some(line.split_once(level)?.1.trim().to_owned()))
}

/// What a tool complains about: the first error it reports, since what follows is about tidying up, or else
/// its last line.
fn complaint(output: &Output) -> String {
    let text = [&output.stdout[..], b"\n", &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let last = || {
        text.lines()
            .map(str::trim)
            .rfind(|line| !line.is_empty())
            .map(str::to_owned)
    };
    text.lines()
        .find_map(message)
        .or_else(last)
        .unwrap_or_else(|| output.status.to_string())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::File {
        path: path.to_owned(),
        cause,
    }
}

fn running<P: AsRef<Path> + ?Sized>(program: &P) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Command {
        program: program.as_ref().to_owned(),
        cause,
    }
}
