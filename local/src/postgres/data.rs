//! The location of the data, and the creation of a data directory.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use super::account::Account;
use super::discover::Installation;
use super::{Error, NAME, at, last_error};

/// The server's file in the data directory about its process.
pub(super) const PID_FILE: &str = "postmaster.pid";
/// Our file in the data directory with the role's password, mode 0600.
const PASSWORD_FILE: &str = "people.password";

/// Creates the database `$2` in the data directory `$1` with the program `$0`, in single-user mode, which needs neither
/// a port nor a password.
const CREATE: &str = r#"echo "CREATE DATABASE $2;" | "$0" --single -D "$1" -c exit_on_error=on template1"#;

/// Creates the data directory `data`, with the additional settings of a throw-away server, if it is for one. It is
/// built in a sibling directory that is renamed at the end, so a killed process leaves no incomplete one. `lock` is the
/// server's, held by the caller, and inherited by the programs started here.
pub(super) fn initialize(
    data: &Path,
    installation: &Installation,
    account: Account,
    throwaway: Option<&str>,
    lock: &File,
) -> Result<(), Error> {
    let staging = data.with_extension("new");
    remove_directory(&staging)?;
    account.private_directory(&staging)?;
    let (new, password) = (staging.join("data"), staging.join(PASSWORD_FILE));
    account.write_private(&password, &Uuid::new_v4().simple().to_string())?;
    let run = |command: &mut Command| -> Result<(), Error> {
        let program = PathBuf::from(command.get_program());
        let stdout = lock.try_clone().map_err(at(data))?;
        let output = command.stdout(stdout).output().map_err(at(&program))?;
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = last_error(&text).unwrap_or("it failed");
        let error = || format!("could not create a database in {}: {reason}", data.display()).into();
        output.status.success().then_some(()).ok_or_else(error)
    };

    let mut initdb = account.command(&installation.bin.join("initdb"));
    initdb.arg("--pgdata").arg(&new).arg("--pwfile").arg(&password);
    initdb.args(["--username", NAME, "--encoding", "UTF8", "--locale", "C"]);
    match throwaway {
        // SCRAM costs an unoptimised client tens of milliseconds per connection. Over loopback, a plain-text password
        // keeps other users out just as well.
        Some(_) => initdb.args(["--auth", "password", "--no-sync"]),
        None => initdb.args(["--auth", "scram-sha-256"]),
    };
    run(&mut initdb)?;
    append(&new.join("postgresql.conf"), throwaway.unwrap_or_default())?;
    let mut create = account.command(Path::new("/bin/sh"));
    create.args(["-c", CREATE]).arg(installation.bin.join("postgres"));
    run(create.arg(&new).arg(NAME))?;

    let password_file = new.join(PASSWORD_FILE);
    fs::rename(&password, &password_file).map_err(at(&password_file))?;
    fs::rename(&new, data).map_err(at(data))?;
    remove_directory(&staging)
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
    let file = OpenOptions::new().append(true).open(path);
    file.and_then(|mut file| write!(file, "\n{text}"))
        .map_err(at(path))
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// `postgres://people:PASSWORD@127.0.0.1:PORT/people?sslmode=disable` of the server with this data.
pub(super) fn url(data: &Path, port: u16) -> Result<String, Error> {
    let path = data.join(PASSWORD_FILE);
    let password = fs::read_to_string(&path).map_err(at(&path))?;
    let host = Ipv4Addr::LOCALHOST;
    Ok(format!(
        "postgres://{NAME}:{}@{host}:{port}/{NAME}?sslmode=disable",
        password.trim()
    ))
}

/// Whether the server with this data accepts connections, which it writes into its pid file, for `pg_ctl`.
pub(super) fn is_served(data: &Path) -> bool {
    let state = fs::read_to_string(data.join(PID_FILE)).unwrap_or_default();
    state.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}
