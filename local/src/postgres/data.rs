//! Where the data lies, and how a data directory is made.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use uuid::Uuid;

use super::account::Account;
use super::discover::Installation;
use super::{Error, NAME, at, message, running};

/// In the data directory: the role's password, mode 0600.
pub(super) const PASSWORD_FILE: &str = "people.password";

/// Where root keeps the data of projects whose directory is closed to the user that runs the server. It survives a
/// reboot, which the system's temporary directory need not.
const FALLBACK_DIRECTORY: &str = "/var/lib/people-local";

/// `directory`, or its stand-in if the server's user cannot enter it.
pub(super) fn home(directory: &Path, account: Account) -> Result<PathBuf, Error> {
    if account.can_enter(directory)? {
        return Ok(directory.to_owned());
    }
    // FNV-1a: two directories have two names, and the same ones with every version of Rust.
    let hash = directory
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let parent = Path::new(FALLBACK_DIRECTORY);
    fs::create_dir_all(parent).map_err(at(parent))?;
    let home = parent.join(format!("{hash:016x}"));
    account.private_directory(&home)?;
    Ok(home)
}

/// Makes the data directory `data` with an empty database. All of it happens in a sibling that is renamed at the end, so
/// that a process killed here leaves no half-made one. `lock` is the server's, held by the caller: what is started
/// here holds it too.
pub(super) fn initialize(
    data: &Path,
    installation: &Installation,
    account: Account,
    settings: &str,
    lock: &File,
) -> Result<(), Error> {
    let staging = data.with_extension("new");
    remove_directory(&staging)?;
    account.private_directory(&staging)?;
    let made = staging.join("data");
    let password = staging.join(PASSWORD_FILE);
    account.write_private(&password, &Uuid::new_v4().simple().to_string())?;

    let program = installation.bin.join("initdb");
    let mut initdb = account.command(&program);
    initdb
        .arg("--pgdata")
        .arg(&made)
        .arg("--pwfile")
        .arg(&password)
        .args(["--username", NAME, "--encoding", "UTF8", "--locale", "C"])
        .stdout(lock.try_clone().map_err(running(&program))?);
    if settings.is_empty() {
        initdb.args(["--auth", "scram-sha-256"]);
    } else {
        // Hashing the password costs a client built without optimisation tens of milliseconds a connection. In clear, over
        // loopback, it keeps other users out just as well.
        initdb.args(["--auth", "password", "--no-sync"]);
    }
    let output = initdb.output().map_err(running(&program))?;
    let failed = |output: &Output| Error::Initdb {
        directory: data.to_owned(),
        reason: complaint(output),
    };
    if !output.status.success() {
        return Err(failed(&output));
    }
    append(&made.join("postgresql.conf"), settings)?;

    // Single-user mode needs neither a port nor a password.
    let program = installation.bin.join("postgres");
    let mut single = account.command(&program);
    single.args(["--single", "-D"]).arg(&made).arg("template1");
    single
        .stdin(Stdio::piped())
        .stdout(lock.try_clone().map_err(running(&program))?)
        .stderr(Stdio::piped());
    let mut child = single.spawn().map_err(running(&program))?;
    if let Some(mut input) = child.stdin.take() {
        // If it is gone already, its exit status and output say why.
        let _ = writeln!(input, "CREATE DATABASE {NAME};");
    }
    let output = child.wait_with_output().map_err(running(&program))?;
    if !output.status.success()
        || String::from_utf8_lossy(&output.stderr)
            .lines()
            .any(|line| message(line).is_some())
    {
        return Err(failed(&output));
    }

    let kept = made.join(PASSWORD_FILE);
    fs::rename(&password, &kept).map_err(at(&kept))?;
    fs::rename(&made, data).map_err(at(data))?;
    remove_directory(&staging)
}

/// Says so when `home` has data of other versions only, which would else seem lost.
pub(super) fn tell_of_others(home: &Path, installation: &Installation) {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    for other in entries.filter(|entry| entry.path().join("PG_VERSION").is_file()) {
        let (path, major) = (other.path(), installation.major);
        eprintln!(
            "local: a new database for PostgreSQL {major}: it cannot read the one in {}",
            path.display()
        );
    }
}

/// Lets whoever knows the password in from the networks that the server listens on besides loopback.
pub(super) fn admit_containers(data: &Path) -> Result<(), Error> {
    const RULE: &str = "host all all samenet scram-sha-256\n";
    let path = data.join("pg_hba.conf");
    let rules = fs::read_to_string(&path).map_err(at(&path))?;
    if rules.contains(RULE) {
        Ok(())
    } else {
        append(&path, RULE)
    }
}

fn append(path: &Path, text: &str) -> Result<(), Error> {
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| write!(file, "\n{text}"))
        .map_err(at(path))
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// What a tool complains about: the first error it reports, since what follows is about tidying up, or else its last line.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = || text.lines().map(str::trim).rfind(|line| !line.is_empty());
    text.lines()
        .find_map(message)
        .or_else(last)
        .map_or_else(|| output.status.to_string(), str::to_owned)
}
