//! File locks on a directory in use, which the kernel releases when their holders end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::Path;
use std::process;
use std::time::Duration;

use super::account::Account;
use super::{Error, at};

/// Locked by, and naming, the process that started the server.
const HOLDER: &str = "local.lock";
/// Locked by every process of the server, which inherits it as standard output.
const SERVER: &str = "server.lock";

/// Locks `home` for this process until the result is dropped.
pub(super) fn claim(home: &Path, account: Account) -> Result<File, Error> {
    let mut file = open(home, HOLDER, account)?;
    if !try_lock(home, &file)? {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        return Err(Error::InUse {
            directory: home.to_owned(),
            holder,
        });
    }
    file.set_len(0)
        .and_then(|()| write!(file, "process {}", process::id()))
        .map_err(at(home))?;
    Ok(file)
}

/// Locks `home` for a server; `None` while processes of an earlier server hold the lock.
pub(super) fn for_server(home: &Path, account: Account) -> Result<Option<File>, Error> {
    let file = open(home, SERVER, account)?;
    Ok(try_lock(home, &file)?.then_some(file))
}

/// Removes unused directories in `parent` that begin with `prefix`: leftovers of processes that were killed.
pub(super) fn remove_unused(parent: &Path, prefix: &str) {
    /// By this age, a directory has been locked by its creator.
    const AGE: Duration = Duration::from_mins(1);
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if !modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > AGE)) {
            continue;
        }
        let is_free = |name| match File::open(entry.path().join(name)) {
            Ok(file) => file.try_lock().is_ok(),
            // It is being removed.
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if is_free(HOLDER) && is_free(SERVER) {
            // Fails if it belongs to another user.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Opens a private file: anyone who can open it can lock it.
fn open(home: &Path, name: &str, account: Account) -> Result<File, Error> {
    let path = home.join(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(at(&path))?;
    if let Account::Other { uid, gid } = account {
        fchown(&file, Some(uid), Some(gid)).map_err(at(&path))?;
    }
    Ok(file)
}

fn try_lock(home: &Path, file: &File) -> Result<bool, Error> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(at(home)(error)),
    }
}
