//! A server that is running, also one of another process.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread::sleep;
use std::time::Instant;

use rustix::process::Pid;

use super::account::Account;
use super::data::{self, PASSWORD_FILE};
use super::discover::Installation;
use super::server::{POLL_INTERVAL, TIMEOUT};
use super::{Error, NAME, Server, at};

/// The server with the data in a directory.
pub enum Found {
    /// It was started, since no process was running it.
    Started(Server),
    /// Another process runs it, which decides when it ends.
    Running {
        /// As [`Server::url`].
        url: String,
    },
}

impl Found {
    /// As [`Server::url`].
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Started(server) => server.url(),
            Self::Running { url } => url,
        }
    }
}

impl Server {
    /// Starts the server with the data in `directory`, like [`Server::start`], or finds the one that another process runs
    /// there or is starting.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::InUse`] when the other one does not accept connections within a minute.
    pub fn start_or_find(directory: &Path) -> Result<Found, Error> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let in_use = match Self::start(directory, None) {
                Err(error @ Error::InUse { .. }) => error,
                outcome => return outcome.map(Found::Started),
            };
            if let Some(url) = url_of_running(directory)? {
                return Ok(Found::Running { url });
            }
            if Instant::now() > deadline {
                return Err(in_use);
            }
            sleep(POLL_INTERVAL);
        }
    }
}

/// The URL of the server with the data in `directory`, if it accepts connections.
fn url_of_running(directory: &Path) -> Result<Option<String>, Error> {
    let directory = directory.canonicalize().map_err(at(directory))?;
    let account = Account::for_directory(&directory)?;
    let home = data::home(&directory, account)?;
    let data = home.join(Installation::find(account, &home)?.data_name());
    let Some(postmaster) = Postmaster::of(&data).filter(|postmaster| postmaster.ready) else {
        return Ok(None);
    };
    url(&data, postmaster.port).map(Some)
}

/// The URL of the server with this data on this port.
pub(super) fn url(data: &Path, port: u16) -> Result<String, Error> {
    let path = data.join(PASSWORD_FILE);
    let password = fs::read_to_string(&path).map_err(at(&path))?;
    Ok(format!(
        "postgres://{NAME}:{}@{}:{port}/{NAME}?sslmode=disable",
        password.trim(),
        Ipv4Addr::LOCALHOST
    ))
}

/// A server's main process, as `postmaster.pid` has it, which `pg_ctl` reads too.
pub(super) struct Postmaster {
    pub pid: Pid,
    pub port: u16,
    /// It accepts connections.
    pub ready: bool,
}

impl Postmaster {
    /// That of the server with this data; `None` if there is none.
    pub(super) fn of(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        // In this order: process, data directory, start, port, socket directory, address, shared memory, status.
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: Pid::from_raw(lines.first()?.parse().ok()?)?,
            port: lines
                .get(3)
                .and_then(|port| port.parse().ok())
                .unwrap_or_default(),
            ready: lines.get(7) == Some(&"ready"),
        })
    }
}
