//! Starting, supervising and stopping a server.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Signal, kill_process};
use uuid::Uuid;

use super::account::Account;
use super::data::{self, Origin};
use super::discover::Installation;
use super::existing::{self, Postmaster};
use super::{Error, at, locks, message, running};

/// Timeout for starting and for stopping a server. On an idle machine either takes 0.1 s.
pub(super) const TIMEOUT: Duration = Duration::from_mins(1);
/// Interval of polling.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Ports to choose from. Below the ranges that Linux (from 32768) and macOS (from 49152) use for outgoing connections, so
/// that the port is still free at the next start.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Name prefix of the directories of throw-away servers, in the system's temporary directory.
const THROWAWAY_PREFIX: &str = "people-test-";
/// Not crash-safe, and with connections for many tests at once.
const THROWAWAY_SETTINGS: &str = "fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
";

/// Runs the server, and stops it when standard input ends: when the process at its other end stops the server or ends, even
/// by `kill -9`. `$1`: the signal to stop it with. `$2`: a directory to remove afterwards, if any. The rest: the server.
/// Standard output is the server's lock, standard error its log.
const RUN: &str = r#"trap '' HUP INT TERM
signal=$1 directory=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{
    read -r _
    trap '' USR1
    kill -s "$signal" "$server"
    kill -s CONT "$server" # in case a test has paused it
    [ -z "$directory" ] || until rm -rf "$directory"; do sleep 0.1; done
} <&3 3<&- >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$server"
kill -s USR1 "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
"#;

/// A running PostgreSQL on 127.0.0.1 with a database `people`, owned by the superuser `people`. It stops when this value is
/// stopped or dropped, or when the process ends.
pub struct Server {
    /// The directory with locks, port and data.
    home: PathBuf,
    data: PathBuf,
    installation: Installation,
    account: Account,
    throwaway: bool,
    /// An additional address to listen on, for containers.
    containers: Option<IpAddr>,
    port: u16,
    url: String,
    /// The shell that runs the server and ends with it; `None` before the first start.
    process: Mutex<Option<Child>>,
    /// Locked during the lifetime of this value.
    _holder: File,
}

impl Server {
    /// Starts the server with the data in `directory/pg-15` (or another installed major version), which is created if
    /// missing. Takes about 0.8 s the first time, then 0.15 s. A server that a killed process left running is stopped
    /// first. The port remains the same unless another program has taken it.
    ///
    /// The server also listens on `containers`, if given: an address of this machine that containers can reach.
    ///
    /// If the user that runs the server cannot enter `directory`, for example in root's home, a directory in
    /// /var/lib/people-local is used instead: see [`Server::data_directory`].
    ///
    /// # Errors
    /// [`Error::InUse`] when another process runs a server there; else see [`Error`]. Leaves nothing incomplete behind.
    pub fn start(directory: &Path, containers: Option<IpAddr>) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let directory = directory.canonicalize().map_err(at(directory))?;
        let account = Account::for_directory(&directory)?;
        let home = data::home(&directory, account)?;
        let holder = locks::claim(&home, account)?;
        Self::open(home, account, holder, containers, None)
    }

    /// Starts a new server for tests in its own directory, in about 0.7 s, with up to 300 connections. It does not sync to
    /// disk, and is stopped and removed when this [`Server`] is stopped or dropped or the process ends, even by `kill -9`.
    /// Removes leftovers of earlier ones.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn throwaway() -> Result<Self, Error> {
        Self::new_throwaway(&Origin::Initdb(THROWAWAY_SETTINGS))
    }

    /// Starts a throw-away server that follows this one: a hot standby, with a copy of the data and the same user and
    /// password. `SELECT pg_promote()` makes it a primary.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn standby(&self) -> Result<Self, Error> {
        Self::new_throwaway(&Origin::Backup(&self.url))
    }

    fn new_throwaway(origin: &Origin) -> Result<Self, Error> {
        let account = Account::find()?;
        let mut parent = env::temp_dir();
        if !account.can_enter(&parent)? {
            parent = PathBuf::from("/tmp");
        }
        locks::remove_unused(&parent, THROWAWAY_PREFIX);
        let name = Uuid::new_v4().simple();
        let staging = parent.join(format!("people-new-{name}"));
        account.private_directory(&staging)?;
        let holder = locks::claim(&staging, account)?;
        // Renamed only after it is locked, since the name marks it as removable.
        let home = parent.join(format!("{THROWAWAY_PREFIX}{name}"));
        fs::rename(&staging, &home).map_err(at(&home))?;
        Self::open(home.clone(), account, holder, None, Some(origin))
            .inspect_err(|_| drop(fs::remove_dir_all(home)))
    }

    /// Finds the programs, creates the data directory if it is missing, and starts the server: a throw-away one from
    /// `throwaway`.
    fn open(
        home: PathBuf,
        account: Account,
        holder: File,
        containers: Option<IpAddr>,
        throwaway: Option<&Origin>,
    ) -> Result<Self, Error> {
        let installation = Installation::find(account, &home)?;
        let mut server = Self {
            data: home.join(installation.data_name()),
            home,
            installation,
            account,
            throwaway: throwaway.is_some(),
            containers,
            port: 0,
            url: String::new(),
            process: Mutex::new(None),
            _holder: holder,
        };
        // From here on no process of an earlier server is left in the data directory or on the port.
        let lock = server.lock()?;
        let version = server.data.join("PG_VERSION");
        if !version.try_exists().map_err(at(&version))? {
            data::report_other_versions(&server.home, &server.installation);
            let origin = throwaway.unwrap_or(&Origin::Initdb(""));
            data::initialize(&server.data, &server.installation, account, origin, &lock)?;
        }
        if containers.is_some() {
            data::allow_containers(&server.data)?;
        }
        drop(lock);
        let mut attempts = 1;
        loop {
            let port = server.choose_port()?;
            server.port = port;
            server.url = existing::url(&server.data, port)?;
            match server.run() {
                // Another program took the port first.
                Err(Error::Server { reason, .. }) if attempts < 5 && reason.contains("TCP/IP") => {
                    attempts += 1;
                }
                outcome => return outcome.map(|()| server),
            }
        }
    }

    /// `postgres://people:PASSWORD@127.0.0.1:PORT/people?sslmode=disable`, with the password. Does not change during the
    /// lifetime of this value.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory (`pg_ctl -D`). It contains the server's log, `server.log`.
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// The server's main process, or `None` while it is down.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        let down = self.has_ended(&mut self.process()).unwrap_or(true);
        let postmaster = self.postmaster().filter(|_| !down)?;
        u32::try_from(postmaster.pid.as_raw_pid()).ok()
    }

    /// Sends the server's main process a signal, such as `KILL`, `STOP` or `CONT`, to test failures. While it is stopped,
    /// new connections hang and open ones still work.
    ///
    /// # Errors
    /// [`Error::Server`] if it is down or the signal is unknown.
    pub fn signal(&self, name: &str) -> Result<(), Error> {
        let signal = match name {
            "CONT" => Signal::CONT,
            "INT" => Signal::INT,
            "KILL" => Signal::KILL,
            "QUIT" => Signal::QUIT,
            "STOP" => Signal::STOP,
            _ => return Err(self.failure(format!("unknown signal {name}"))),
        };
        let postmaster = self
            .postmaster()
            .ok_or_else(|| self.failure("it is not running"))?;
        kill_process(postmaster.pid, signal).map_err(|error| self.failure(error.to_string()))
    }

    /// Stops the server without a checkpoint, like a crash, to test failures. [`Server::restart_if_down`] starts it again.
    ///
    /// # Errors
    /// [`Error::Server`] if it was down or does not stop.
    pub fn crash(&self) -> Result<(), Error> {
        self.signal("QUIT")?;
        self.wait_for_end(&mut self.process())
    }

    /// Restarts the server on the same port, for tests.
    ///
    /// # Errors
    /// [`Error::Server`] if it was down, does not stop or does not start.
    pub fn restart(&self) -> Result<(), Error> {
        self.signal("INT")?;
        self.wait_for_end(&mut self.process())?;
        self.run()
    }

    /// Starts the server again, on the same port, if it is down. Returns whether it was. Cheap while the server is up.
    ///
    /// # Errors
    /// As for [`Server::start`]. May be retried.
    pub fn restart_if_down(&self) -> Result<bool, Error> {
        let down = self.has_ended(&mut self.process())?;
        if down {
            self.run()?;
        }
        Ok(down)
    }

    /// Stops the server, closing open connections. A throw-away server is removed.
    ///
    /// # Errors
    /// [`Error::Server`] if it does not stop.
    pub fn stop(self) -> Result<(), Error> {
        let mut process = self.process();
        if let Some(child) = process.as_mut() {
            drop(child.stdin.take());
        }
        self.wait_for_end(&mut process)?;
        // The shell does this, unless the server had died before.
        if self.throwaway && self.home.exists() {
            fs::remove_dir_all(&self.home).map_err(at(&self.home))?;
        }
        Ok(())
    }

    /// Starts the server, which must not be running, and waits until it accepts connections.
    fn run(&self) -> Result<(), Error> {
        let mut process = self.process();
        let lock = self.lock()?;
        // The lock proves that no process of an earlier server is left, so its pid file is stale.
        let pid_file = self.data.join("postmaster.pid");
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(&pid_file)(error)),
            _ => {}
        }
        let log = self.log();
        let _ = fs::rename(&log, log.with_extension("log.old"));
        self.account.write_private(&log, "")?;
        let log = fs::OpenOptions::new().append(true).open(&log).map_err(at(&log))?;
        let (signal, remove) = if self.throwaway {
            ("QUIT", self.home.as_path())
        } else {
            ("INT", Path::new(""))
        };
        let others = self
            .containers
            .map_or_else(String::new, |address| format!(",{address}"));
        let mut shell = self.account.command("/bin/sh");
        shell.args(["-c", RUN, "postgres", signal]).arg(remove);
        shell
            .arg(self.installation.bin.join("postgres"))
            .arg("-D")
            .arg(&self.data);
        shell.args(["-c", &format!("port={}", self.port)]);
        shell.args(["-c", &format!("listen_addresses={}{others}", Ipv4Addr::LOCALHOST)]);
        // No Unix sockets: their paths are limited to 107 bytes.
        shell.args(["-c", "unix_socket_directories="]);
        shell.stdin(Stdio::piped()).stdout(lock).stderr(log);
        // Its own process group: Ctrl-C ends ours, and we then stop the server.
        shell.process_group(0);
        let child = process.insert(shell.spawn().map_err(running(Path::new("/bin/sh")))?);

        let deadline = Instant::now() + TIMEOUT;
        while !self.postmaster().is_some_and(|postmaster| postmaster.ready) {
            if child.try_wait().map_err(at(&self.data))?.is_some() {
                return Err(self.failure(self.last_message()));
            }
            if Instant::now() > deadline {
                drop(child.stdin.take());
                return Err(self.failure(format!("it did not start within {} s", TIMEOUT.as_secs())));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// The server's lock. Waits until no process of an earlier server holds it: one whose parent was killed is stopping.
    fn lock(&self) -> Result<File, Error> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(lock) = locks::for_server(&self.home, self.account)? {
                return Ok(lock);
            }
            if let Some(postmaster) = self.postmaster() {
                // In case the shell that stops it was killed as well. The id is valid, since a process of the server holds
                // the lock.
                let _ = kill_process(postmaster.pid, Signal::INT);
            }
            if Instant::now() > deadline {
                return Err(self.failure("a server from an earlier start does not stop: kill it"));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self, process: &mut Option<Child>) -> Result<bool, Error> {
        match process {
            None => Ok(true),
            Some(child) => Ok(child.try_wait().map_err(at(&self.data))?.is_some()),
        }
    }

    fn wait_for_end(&self, process: &mut Option<Child>) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        while !self.has_ended(process)? {
            if Instant::now() > deadline {
                return Err(self.failure(format!("it did not stop within {} s", TIMEOUT.as_secs())));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn postmaster(&self) -> Option<Postmaster> {
        Postmaster::of(&self.data)
    }

    fn log(&self) -> PathBuf {
        self.data.join("server.log")
    }

    /// The last error in the log.
    fn last_message(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let fatal = text.lines().rev().find_map(message);
        fatal
            .or_else(|| text.lines().last())
            .unwrap_or("it ended right after it had started")
            .to_owned()
    }

    fn failure(&self, reason: impl Into<String>) -> Error {
        Error::Server {
            reason: reason.into(),
            log: self.log(),
        }
    }

    /// The previous port if it is free, else another free port, which is remembered.
    fn choose_port(&self) -> Result<u16, Error> {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let path = self.home.join("port");
        let previous = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
        if let Some(port) = previous.filter(is_free) {
            return Ok(port);
        }
        let offset = || Uuid::new_v4().as_u128() % u128::from(PORTS.end - PORTS.start);
        let port =
            std::iter::repeat_with(|| u16::try_from(offset()).map_or(0, |offset| PORTS.start + offset))
                .take(1_000)
                .find(is_free)
                .ok_or_else(|| self.failure(format!("no free port in {PORTS:?}")))?;
        fs::write(&path, port.to_string()).map_err(at(&path))?;
        Ok(port)
    }
}
