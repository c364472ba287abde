//! The location of the data, and the creation of a data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use uuid::Uuid;

use super::account::Account;
use super::discover::Installation;
use super::{Error, NAME, at, message, running};

/// File in the data directory with the role's password, mode 0600.
pub(super) const PASSWORD_FILE: &str = "people.password";

/// Where root keeps the data of projects whose directory the server's user cannot enter. Unlike the temporary directory,
/// it survives a reboot.
const FALLBACK_DIRECTORY: &str = "/var/lib/people-local";

/// `directory`, or a substitute if the server's user cannot enter it.
pub(super) fn home(directory: &Path, account: Account) -> Result<PathBuf, Error> {
    if account.can_enter(directory)? {
        return Ok(directory.to_owned());
    }
    // FNV-1a: a different name for each directory, and the same with every version of Rust.
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

/// Where new data come from.
pub(super) enum Origin<'a> {
    /// Empty, with these additional settings.
    Initdb(&'a str),
    /// A copy of those of the server with this URL, to follow it.
    Backup(&'a str),
}

/// Creates the data directory `data`. It is built in a sibling directory that is renamed at the
/// end, so a killed process leaves no incomplete one. `lock` is the server's, held by the caller, and inherited by the
/// programs started here.
pub(super) fn initialize(
    data: &Path,
    installation: &Installation,
    account: Account,
    origin: &Origin,
    lock: &File,
) -> Result<(), Error> {
    let staging = data.with_extension("new");
    remove_directory(&staging)?;
    account.private_directory(&staging)?;
    let new = staging.join("data");
    match origin {
        Origin::Initdb(settings) => initdb(&new, installation, account, settings, lock)?,
        Origin::Backup(url) => {
            let mut backup = account.command(installation.bin.join("pg_basebackup"));
            backup.args(["--dbname", url, "--pgdata"]).arg(&new);
            backup.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
            run(&mut backup, &new, lock)?;
        }
    }
    fs::rename(&new, data).map_err(at(data))?;
    remove_directory(&staging)
}

/// Creates an empty database in `new`, whose parent is private to `account`.
fn initdb(
    new: &Path,
    installation: &Installation,
    account: Account,
    settings: &str,
    lock: &File,
) -> Result<(), Error> {
    let password = new.with_file_name(PASSWORD_FILE);
    account.write_private(&password, &Uuid::new_v4().simple().to_string())?;

    let program = installation.bin.join("initdb");
    let mut initdb = account.command(&program);
    initdb
        .arg("--pgdata")
        .arg(new)
        .arg("--pwfile")
        .arg(&password)
        .args(["--username", NAME, "--encoding", "UTF8", "--locale", "C"]);
    if settings.is_empty() {
        initdb.args(["--auth", "scram-sha-256"]);
    } else {
        // SCRAM costs an unoptimised client tens of milliseconds per connection. Over loopback, a plain-text password keeps
        // other users out just as well.
        initdb.args(["--auth", "password", "--no-sync"]);
    }
    run(&mut initdb, new, lock)?;
    append(&new.join("postgresql.conf"), settings)?;

    // Single-user mode needs neither a port nor a password.
    let program = installation.bin.join("postgres");
    let mut single = account.command(&program);
    single.args(["--single", "-D"]).arg(new).arg("template1");
    single
        .stdin(Stdio::piped())
        .stdout(lock.try_clone().map_err(running(&program))?)
        .stderr(Stdio::piped());
    let mut child = single.spawn().map_err(running(&program))?;
    if let Some(mut input) = child.stdin.take() {
        // If it has already ended, exit status and output tell why.
        let _ = writeln!(input, "CREATE DATABASE {NAME};");
    }
    let output = child.wait_with_output().map_err(running(&program))?;
    if !output.status.success()
        || String::from_utf8_lossy(&output.stderr)
            .lines()
            .any(|line| message(line).is_some())
    {
        return Err(failed(new, &output));
    }

    let password_file = new.join(PASSWORD_FILE);
    fs::rename(&password, &password_file).map_err(at(&password_file))
}

/// Runs a program that creates data in `new`.
fn run(command: &mut Command, new: &Path, lock: &File) -> Result<(), Error> {
    let program = PathBuf::from(command.get_program());
    command.stdout(lock.try_clone().map_err(running(&program))?);
    let output = command.output().map_err(running(&program))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(new, &output))
    }
}

fn failed(new: &Path, output: &Output) -> Error {
    Error::Initdb {
        directory: new.to_owned(),
        reason: error_of(output),
    }
}

/// Reports data of other versions in `home`, which would otherwise seem to be lost.
pub(super) fn report_other_versions(home: &Path, installation: &Installation) {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    for other in entries.filter(|entry| entry.path().join("PG_VERSION").is_file()) {
        let (path, major) = (other.path(), installation.major);
        eprintln!(
            "local: creating a new database, since PostgreSQL {major} cannot read the one in {}",
            path.display()
        );
    }
}

/// Allows password log-ins from the networks of the addresses that the server listens on.
pub(super) fn allow_containers(data: &Path) -> Result<(), Error> {
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

/// The error of a tool: the first one that it reports, since the rest is about cleaning up, or else its last line.
fn error_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = || text.lines().map(str::trim).rfind(|line| !line.is_empty());
    text.lines()
        .find_map(message)
        .or_else(last)
        .map_or_else(|| output.status.to_string(), str::to_owned)
}
