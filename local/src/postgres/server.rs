//! Starting, supervising and stopping a server.

use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::discover::Installation;
use super::home::{Home, SERVER_LOCK};
use super::{Error, at, data, last_error};

/// Timeout for starting and for stopping a server. On an idle machine either takes 0.1 s.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Interval of polling.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Not crash-safe, and with connections for many tests at once.
const THROWAWAY_SETTINGS: &str = "fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
";
/// When standard input ends, stops the server with the programs in `$0` and the data in `$1`, in the mode `$2`, and
/// removes the directory `$3`, if any.
const STOP: &str = r#"trap '' HUP INT TERM
read -r _
kill -s CONT "$(head -n 1 "$1/postmaster.pid")" # in case a test has paused it
"$0/pg_ctl" --pgdata "$1" --mode "$2" stop
[ -z "$3" ] || for attempt in 1 2 3 4 5 6 7 8 9; do rm -rf "$3" && break; sleep 1; done"#;

/// A running PostgreSQL on 127.0.0.1 with a database `people`, owned by the superuser `people`. It stops when this
/// value is stopped or dropped, or when the process ends.
pub struct Server {
    home: Home,
    installation: Installation,
    data: PathBuf,
    /// An additional address to listen on, for containers.
    containers: Option<IpAddr>,
    port: u16,
    url: String,
    /// `None` before the first start.
    process: Option<Child>,
    /// A shell that stops the server when its standard input ends, whose other end this process holds.
    stopper: Child,
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
    /// When another process runs a server there, no server can be found or fetched, or it does not start. Leaves
    /// nothing incomplete behind.
    pub fn start(directory: &Path, containers: Option<IpAddr>) -> Result<Self, Error> {
        let home = Home::kept(directory)?;
        let holder = home.claim()?.ok_or_else(|| home.in_use())?;
        Self::open(home, holder, containers, None)
    }

    /// Starts the server with the data in `directory`, like [`Server::start`], or finds the one that another process
    /// runs there or is starting. Returns its URL, and the server if it was started, which may be stopped then.
    ///
    /// # Errors
    /// As for [`Server::start`]; also when the other one does not accept connections within a minute.
    pub fn start_or_find(directory: &Path) -> Result<(String, Option<Self>), Error> {
        let home = Home::kept(directory)?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(holder) = home.claim()? {
                let server = Self::open(home, holder, None, None)?;
                return Ok((server.url.clone(), Some(server)));
            }
            let data = home
                .path
                .join(Installation::find(home.account, &home.path)?.data_name());
            if let Some(port) = home.last_port().filter(|_| data::is_served(&data)) {
                return Ok((data::url(&data, port)?, None));
            }
            if Instant::now() > deadline {
                return Err(home.in_use());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Starts a new server for tests in its own directory, in about 0.7 s, with up to 300 connections. It does not sync
    /// to disk, and is stopped and removed when this [`Server`] is stopped or dropped or the process ends, even by
    /// `kill -9`. Removes leftovers of earlier ones.
    ///
    /// # Errors
    /// As for [`Server::start`].
    pub fn throwaway() -> Result<Self, Error> {
        let home = Home::throwaway()?;
        let path = home.path.clone();
        let holder = home.claim()?.ok_or_else(|| home.in_use())?;
        let server = Self::open(home, holder, None, Some(THROWAWAY_SETTINGS));
        server.inspect_err(|_| drop(fs::remove_dir_all(path)))
    }

    /// Finds the programs, creates the data directory if it is missing, and starts the server: a throw-away one with
    /// `throwaway` as additional settings.
    fn open(
        home: Home,
        holder: File,
        containers: Option<IpAddr>,
        throwaway: Option<&str>,
    ) -> Result<Self, Error> {
        let installation = Installation::find(home.account, &home.path)?;
        let data = home.path.join(installation.data_name());
        let (mode, remove) = match throwaway {
            Some(_) => ("immediate", home.path.as_path()),
            None => ("fast", Path::new("")),
        };
        let mut stopper = stopper(&home, &installation, &data, mode, remove);
        let stopper = stopper.stdin(Stdio::piped()).spawn().map_err(at(&data))?;
        let mut server = Self {
            home,
            installation,
            data,
            containers,
            port: 0,
            url: String::new(),
            process: None,
            stopper,
            _holder: holder,
        };
        // From here on no process of an earlier server is left in the data directory or on the port.
        let lock = server.lock()?;
        let version = server.data.join("PG_VERSION");
        if !version.try_exists().map_err(at(&version))? {
            data::report_other_versions(&server.home.path, &server.installation);
            data::initialize(
                &server.data,
                &server.installation,
                server.home.account,
                throwaway,
                &lock,
            )?;
        }
        if containers.is_some() {
            data::allow_containers(&server.data)?;
        }
        drop(lock);
        let mut attempts = 1;
        loop {
            server.port = server.home.choose_port()?;
            server.url = data::url(&server.data, server.port)?;
            match server.run() {
                // Another program took the port first.
                Err(error) if attempts < 5 && error.to_string().contains("TCP/IP") => attempts += 1,
                outcome => return outcome.map(|()| server),
            }
        }
    }

    /// `postgres://people:PASSWORD@127.0.0.1:PORT/people?sslmode=disable`, with the password. Does not change during
    /// the lifetime of this value.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The data directory (`pg_ctl -D`). It contains the server's log, `server.log`.
    #[must_use]
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// The server's main process, or `None` while it is down.
    pub fn postmaster_pid(&mut self) -> Option<u32> {
        let process = self.process.as_mut()?;
        matches!(process.try_wait(), Ok(None)).then(|| process.id())
    }

    /// Sends the server's main process a signal, to test failures: `STOP` and `CONT`, between which new connections
    /// hang and open ones still work, or one that ends it, as in [`Server::end`].
    ///
    /// # Errors
    /// When it is down or the signal is unknown.
    pub fn signal(&mut self, name: &str) -> Result<(), Error> {
        let pid = self
            .postmaster_pid()
            .ok_or_else(|| self.failure("it is not running"))?;
        let mut kill = Command::new("kill");
        let status = kill.args(["-s", name, &pid.to_string()]).status();
        let sent = status.is_ok_and(|status| status.success());
        sent.then_some(())
            .ok_or_else(|| self.failure("it cannot be sent that signal"))
    }

    /// Ends the server with a signal, to test failures: `INT` for a regular end, `QUIT` for one without a checkpoint,
    /// like a crash, or `KILL`. [`Server::restart_if_down`] starts it again.
    ///
    /// # Errors
    /// When it was down or does not end.
    pub fn end(&mut self, signal: &str) -> Result<(), Error> {
        self.signal(signal)?;
        self.wait_for_end()
    }

    /// Starts the server again, on the same port, if it is down. Returns whether it was. Cheap while the server is up.
    ///
    /// # Errors
    /// As for [`Server::start`]. May be retried.
    pub fn restart_if_down(&mut self) -> Result<bool, Error> {
        let down = self.postmaster_pid().is_none();
        if down {
            self.run()?;
        }
        Ok(down)
    }

    /// Stops the server, closing open connections. A throw-away server is removed.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(mut self) -> Result<(), Error> {
        // Before, since one that has ended seems to run until somebody asks.
        let _ = self.postmaster_pid();
        drop(self.stopper.stdin.take());
        self.stopper.wait().map_err(at(&self.data))?;
        self.wait_for_end()
    }

    /// Starts the server, which must not be running, and waits until it accepts connections.
    fn run(&mut self) -> Result<(), Error> {
        let lock = self.lock()?;
        // The lock proves that no process of an earlier server is left. A pid file of one would name any other process.
        let _ = fs::remove_file(self.data.join(data::PID_FILE));
        let log = self.log();
        let _ = fs::rename(&log, log.with_extension("log.old"));
        self.home.account.write_private(&log, "")?;
        let program = self.installation.bin.join("postgres");
        let mut addresses = Ipv4Addr::LOCALHOST.to_string();
        addresses.extend(self.containers.map(|address| format!(",{address}")));
        let mut postgres = self.home.account.command(&program);
        postgres.arg("-D").arg(&self.data);
        postgres.args(["-c", &format!("port={}", self.port)]);
        postgres.args(["-c", &format!("listen_addresses={addresses}")]);
        // No Unix sockets: their paths are limited to 107 bytes.
        postgres.args(["-c", "unix_socket_directories="]);
        postgres.stdout(lock);
        postgres.stderr(OpenOptions::new().append(true).open(&log).map_err(at(&log))?);
        // Its own process group: Ctrl-C ends ours, and we then stop the server.
        postgres.process_group(0);
        self.process = Some(postgres.spawn().map_err(at(&program))?);
        let deadline = Instant::now() + TIMEOUT;
        while !data::is_served(&self.data) {
            if self.postmaster_pid().is_none() {
                let log = fs::read(&log).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                return Err(self.failure(last_error(&log).unwrap_or("it ended right after it had started")));
            }
            self.wait(deadline, "start")?;
        }
        Ok(())
    }

    /// The server's lock. Waits until no process of an earlier server holds it: one whose parent was killed is
    /// stopping.
    fn lock(&self) -> Result<File, Error> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(lock) = self.home.lock(SERVER_LOCK)? {
                return Ok(lock);
            }
            // In case the shell that was to stop it was killed as well.
            let mut stopper = stopper(&self.home, &self.installation, &self.data, "fast", Path::new(""));
            stopper.status().map_err(at(&self.data))?;
            self.wait(deadline, "stop")?;
        }
    }

    fn wait_for_end(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        while self.postmaster_pid().is_some() {
            self.wait(deadline, "stop")?;
        }
        Ok(())
    }

    /// Waits for a moment, until `deadline`.
    fn wait(&self, deadline: Instant, what: &str) -> Result<(), Error> {
        if Instant::now() > deadline {
            return Err(self.failure(&format!("it did not {what} within {} s", TIMEOUT.as_secs())));
        }
        thread::sleep(POLL_INTERVAL);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.data.join("server.log")
    }

    fn failure(&self, reason: &str) -> Error {
        format!("PostgreSQL: {reason} (its log is {})", self.log().display()).into()
    }
}

/// The command [`STOP`].
fn stopper(home: &Home, installation: &Installation, data: &Path, mode: &str, remove: &Path) -> Command {
    let mut shell = home.account.command(Path::new("/bin/sh"));
    shell
        .args(["-c", STOP])
        .arg(&installation.bin)
        .arg(data)
        .arg(mode)
        .arg(remove);
    shell.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell
}
