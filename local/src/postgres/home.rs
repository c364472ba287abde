//! The directory of a server: its locks, its port, and one data directory for each major version.
//!
//! Use is tracked with file locks (`flock`), which the kernel releases when their holders end, and never with process
//! ids.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, iter, process};

use uuid::Uuid;

use super::account::Account;
use super::{Error, at};

/// Where root keeps the data of projects whose directory the server's user cannot enter. Unlike the temporary
/// directory, it survives a reboot.
const FALLBACK_DIRECTORY: &str = "/var/lib/people-local";
/// Name prefix of the directories of throw-away servers, in the system's temporary directory.
const THROWAWAY_PREFIX: &str = "people-test-";
/// Locked by, and naming, the process that started the server.
const HOLDER_LOCK: &str = "local.lock";
/// Locked by every process of the server, which inherits it.
pub(super) const SERVER_LOCK: &str = "server.lock";
/// Ports to choose from. Below the ranges that Linux (from 32768) and macOS (from 49152) use for outgoing connections,
/// so that the port is still free at the next start.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A directory, and the user that runs the server in it.
pub(super) struct Home {
    pub(super) path: PathBuf,
    pub(super) account: Account,
}

impl Home {
    /// `directory`, which is created if missing, or a substitute if the server's user cannot enter it.
    pub(super) fn kept(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        let mut path = directory.canonicalize().map_err(at(directory))?;
        let account = Account::find(Some(&path))?;
        if !account.can_enter(&path)? {
            path = Path::new(FALLBACK_DIRECTORY).join(path.strip_prefix("/").unwrap_or(&path));
            fs::create_dir_all(&path).map_err(at(&path))?;
        }
        Ok(Self { path, account })
    }

    /// A new directory. Leftovers of killed processes are removed.
    pub(super) fn throwaway() -> Result<Self, Error> {
        let account = Account::find(None)?;
        let mut parent = env::temp_dir();
        if !account.can_enter(&parent)? {
            parent = PathBuf::from("/tmp");
        }
        remove_unused(&parent);
        let path = parent.join(format!("{THROWAWAY_PREFIX}{}", Uuid::new_v4().simple()));
        account.private_directory(&path)?;
        Ok(Self { path, account })
    }

    /// Locks it for this process, until the result is dropped; `None` if another process has.
    pub(super) fn claim(&self) -> Result<Option<File>, Error> {
        let lock = self.lock(HOLDER_LOCK)?;
        if let Some(mut file) = lock.as_ref() {
            let cleared = file.set_len(0);
            cleared
                .and_then(|()| write!(file, "process {}", process::id()))
                .map_err(at(&self.path))?;
        }
        Ok(lock)
    }

    /// That another process has claimed it.
    pub(super) fn in_use(&self) -> Error {
        let path = self.path.display();
        let holder = fs::read_to_string(self.path.join(HOLDER_LOCK)).unwrap_or_default();
        format!("the database in {path} is in use by {holder}: stop that one, or set DATABASE_URL").into()
    }

    /// Locks a private file, since anyone who can open it can lock it; `None` if it is locked.
    pub(super) fn lock(&self, name: &str) -> Result<Option<File>, Error> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(at(&path)(error)),
        }
    }

    /// The port of the last start, if any.
    pub(super) fn last_port(&self) -> Option<u16> {
        fs::read_to_string(self.path.join("port")).ok()?.parse().ok()
    }

    /// The port of the last start if it is free, else another free port, which is remembered.
    pub(super) fn choose_port(&self) -> Result<u16, Error> {
        let random = || PORTS.start + Uuid::new_v4().as_fields().1 % (PORTS.end - PORTS.start);
        let mut candidates = self
            .last_port()
            .into_iter()
            .chain(iter::repeat_with(random).take(1_000));
        let port = candidates
            .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
            .ok_or_else(|| format!("no free port in {PORTS:?}"))?;
        let path = self.path.join("port");
        fs::write(&path, port.to_string()).map_err(at(&path))?;
        Ok(port)
    }
}

/// Removes unused directories of throw-away servers in `parent`.
fn remove_unused(parent: &Path) {
    /// By this age, a directory has been locked by its creator.
    const AGE: Duration = Duration::from_mins(1);
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(THROWAWAY_PREFIX)) {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old = modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > AGE));
        let is_free = |name| {
            File::open(entry.path().join(name))
                .ok()
                .is_none_or(|file| file.try_lock().is_ok())
        };
        if is_old && is_free(HOLDER_LOCK) && is_free(SERVER_LOCK) {
            // Fails if it belongs to another user.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
