//! Finding a PostgreSQL to run: in `PG_BINDIR`, through `pg_config`, on PATH, in the usual directories; else one that
//! was fetched earlier or is fetched now.

use std::cmp::Reverse;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::Account;
use super::{Error, fetch};

/// The oldest supported version. Older ones lack `gen_random_uuid`, and have had no fixes since 2024.
const OLDEST_MAJOR: u32 = 13;

/// Where packages install a server that is not on PATH.
const USUAL_DIRECTORIES: [&str; 5] = [
    "/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
    "/usr/pgsql-*/bin",                                   // PostgreSQL's own RPMs
    "/opt/homebrew/opt/postgresql*/bin",                  // Homebrew, Apple silicon
    "/usr/local/opt/postgresql*/bin",                     // Homebrew, Intel
    "/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
];

/// An installed PostgreSQL.
#[derive(Debug)]
pub(super) struct Installation {
    /// The directory of its programs.
    pub(super) bin: PathBuf,
    /// The major version, which determines the format of the data.
    pub(super) major: u32,
}

impl Installation {
    /// The name of the data directory: one for each major version, since none can read another's data.
    pub(super) fn data_name(&self) -> String {
        format!("pg-{}", self.major)
    }

    /// Finds one, preferably of a version that `home` has data of: with a newer server the data would seem to be lost.
    pub(super) fn find(account: Account, home: &Path) -> Result<Self, Error> {
        // Read here and not in the service's configuration: like PATH, it describes the machine.
        if let Some(directory) = env::var_os("PG_BINDIR").filter(|value| !value.is_empty()) {
            let directory = PathBuf::from(directory);
            return Self::inspect(&directory, account).map_err(|reason| {
                let directory = directory.display();
                format!(
                    "PG_BINDIR={directory}: {reason}; name the directory that holds `postgres` and `initdb`"
                )
                .into()
            });
        }
        let inspect = |directory: PathBuf| Self::inspect(&directory, account).ok();
        let mut found: Vec<_> = programs_on_path().filter_map(inspect).collect();
        let usual = USUAL_DIRECTORIES
            .iter()
            .filter_map(|pattern| glob::glob(pattern).ok());
        let mut usual: Vec<_> = usual.flatten().flatten().filter_map(inspect).collect();
        usual.sort_by_key(|installation| Reverse(installation.major));
        found.extend(usual);
        found.extend(fetch::cached().filter_map(inspect));
        let with_data = found
            .iter()
            .position(|installation| home.join(installation.data_name()).is_dir());
        match found.into_iter().nth(with_data.unwrap_or(0)) {
            Some(installation) => Ok(installation),
            None => fetch::fetch(account),
        }
    }

    /// The PostgreSQL in `bin`, or what is wrong with it.
    pub(super) fn inspect(bin: &Path, account: Account) -> Result<Self, String> {
        if let Some(name) = ["postgres", "initdb", "pg_ctl"]
            .iter()
            .find(|name| !bin.join(name).is_file())
        {
            return Err(format!("there is no `{name}`"));
        }
        // An absolute path, since the programs run in another directory.
        let bin = bin.canonicalize().map_err(|error| error.to_string())?;
        let output = account.command(&bin.join("postgres")).arg("--version").output();
        let output = output.map_err(|error| format!("`postgres` cannot be run: {error}"))?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; "18beta1" has no dot.
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .split_once("(PostgreSQL) ")
            .map_or("", |(_, version)| version);
        let digits = version
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(version.len());
        match version[..digits].parse() {
            Ok(major) if major >= OLDEST_MAJOR => Ok(Self { bin, major }),
            Ok(major) => Err(format!("PostgreSQL {major} is older than {OLDEST_MAJOR}")),
            Err(_) => Err("`postgres --version` does not report a version".to_owned()),
        }
    }
}

/// The directory that `pg_config` names, and those of `postgres` on PATH, with links resolved: a link in /usr/local/bin
/// may have no `initdb` beside it.
fn programs_on_path() -> impl Iterator<Item = PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok();
    let output = output.filter(|output| output.status.success());
    let named = output.and_then(|output| String::from_utf8(output.stdout).ok());
    let named = named.filter(|directory| !directory.trim().is_empty());
    let named = named.map(|directory| PathBuf::from(directory.trim()));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = env::split_paths(&path)
        .filter_map(|directory| directory.join("postgres").canonicalize().ok())
        .filter_map(|program| program.parent().map(Path::to_owned))
        .collect();
    named.into_iter().chain(on_path)
}
