//! The user that runs the server. PostgreSQL refuses to run as root, so root runs it as the owner of existing data, or as
//! the user `postgres` or `nobody`.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use super::{Error, at};

/// The user to run the server as.
#[derive(Debug, Clone, Copy)]
pub(super) enum Account {
    /// The user of this process.
    Own,
    /// Another user, because this process runs as root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// The user for new data.
    pub(super) fn find() -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        // name:password:uid:gid:…; macOS writes the uid of `nobody` as -2.
        let number = |text: &str| {
            text.parse()
                .or_else(|_| text.parse().map(i32::cast_unsigned))
                .ok()
        };
        let account = |wanted: &str| {
            let entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
            entries
                .filter(|entry| entry.len() > 3 && entry[0] == wanted)
                .find_map(|entry| {
                    Some(Self::Other {
                        uid: number(entry[2])?,
                        gid: number(entry[3])?,
                    })
                })
        };
        ["postgres", "_postgres", "nobody"]
            .into_iter()
            .find_map(account)
            .ok_or(Error::NoUser)
    }

    /// The user for `directory`: for root, the owner of existing data in it.
    pub(super) fn for_directory(directory: &Path) -> Result<Self, Error> {
        let account = Self::find();
        if matches!(account, Ok(Self::Own)) {
            return account;
        }
        let owner = fs::read_dir(directory)
            .map_err(at(directory))?
            .flatten()
            .filter(|entry| entry.path().join("PG_VERSION").is_file())
            .find_map(|entry| entry.metadata().ok().filter(|data| data.uid() != 0));
        owner.map_or(account, |data| {
            Ok(Self::Other {
                uid: data.uid(),
                gid: data.gid(),
            })
        })
    }

    /// A command to run as this user, without our environment: no `PG…` variable changes its behaviour, and none of our
    /// secrets is visible among that user's processes.
    pub(super) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        // Programs of the shell, and libraries of a manually installed server.
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // Messages in English, because we search for some; UTC, because initdb takes long to detect the time zone.
        command.envs([("LC_ALL", "C"), ("TZ", "UTC")]);
        // That user may have no access to the current directory.
        command.current_dir("/").stdin(Stdio::null());
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Whether this user can enter `directory`.
    pub(super) fn can_enter(self, directory: &Path) -> Result<bool, Error> {
        let Self::Other { uid, .. } = self else {
            return Ok(true);
        };
        let enter = |directory: &Path| {
            self.command("/bin/sh")
                .args(["-c", ":"])
                .current_dir(directory)
                .status()
        };
        enter(Path::new("/")).map_err(|cause| Error::User { uid, cause })?;
        Ok(enter(directory).is_ok())
    }

    /// Creates a directory that only this user can enter. An existing one is given to this user, so its parent must not be
    /// writable by others.
    pub(super) fn private_directory(self, path: &Path) -> Result<(), Error> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(at(path)(error)),
            _ => {}
        }
        if let Self::Other { uid, gid } = self {
            lchown(path, Some(uid), Some(gid)).map_err(at(path))?;
        }
        Ok(())
    }

    /// Writes a new file that only this user can read.
    pub(super) fn write_private(self, path: &Path, text: &str) -> Result<(), Error> {
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            if let Self::Other { uid, gid } = self {
                fchown(&file, Some(uid), Some(gid))?;
            }
            file.write_all(text.as_bytes())
        };
        write().map_err(at(path))
    }
}
