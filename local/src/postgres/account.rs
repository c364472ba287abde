//! The user that runs the server. PostgreSQL refuses to run as root, so root runs it as the owner of existing data, or
//! as the user `postgres` or `nobody`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use super::{Error, at};

const NO_USER: &str = "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as: \
    add one (`useradd --system postgres`), run as a plain user, or set DATABASE_URL";

/// The user and the group to run the server as; `None` for those of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Account {
    /// The user for new data, or for those in `directory`: for root, their owner.
    pub(super) fn find(directory: Option<&Path>) -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self { uid: None, gid: None });
        }
        let entries = directory.and_then(|directory| fs::read_dir(directory).ok());
        let mut entries = entries.into_iter().flatten().flatten();
        let owner = entries.find_map(|entry| {
            let version = entry.path().join("PG_VERSION");
            fs::metadata(version).ok().filter(|data| data.uid() != 0)
        });
        let id = |option: &str, user: &str| -> Option<u32> {
            let output = Command::new("id").args([option, user]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let mut users = ["postgres", "_postgres", "nobody"].into_iter();
        let (uid, gid) = owner
            .map(|owner| (owner.uid(), owner.gid()))
            .or_else(|| users.find_map(|user| Some((id("-u", user)?, id("-g", user)?))))
            .ok_or_else(|| NO_USER.to_owned())?;
        Ok(Self {
            uid: Some(uid),
            gid: Some(gid),
        })
    }

    /// A command to run as this user, without our environment: no `PG…` variable changes its behaviour, and none of our
    /// secrets is visible among that user's processes.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear();
        // Programs of the shell, and libraries of a manually installed server.
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // Messages in English, because we search for some; UTC, because initdb takes long to detect the time zone.
        command.envs([("LC_ALL", "C"), ("TZ", "UTC")]);
        // That user may have no access to the current directory.
        command.current_dir("/").stdin(Stdio::null());
        if let Self {
            uid: Some(uid),
            gid: Some(gid),
        } = self
        {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Whether this user can enter `directory`.
    pub(super) fn can_enter(self, directory: &Path) -> Result<bool, Error> {
        let Some(uid) = self.uid else {
            return Ok(true);
        };
        let enter = |directory: &Path| {
            let mut shell = self.command(Path::new("/bin/sh"));
            shell.args(["-c", ":"]).current_dir(directory).status()
        };
        enter(Path::new("/")).map_err(|cause| {
            format!(
                "PostgreSQL refuses to run as root, and programs cannot be run as uid {uid} here ({cause}): run as a \
                 plain user, or set DATABASE_URL"
            )
        })?;
        Ok(enter(directory).is_ok())
    }

    /// Creates a directory that only this user can enter.
    pub(super) fn private_directory(self, path: &Path) -> Result<(), Error> {
        let created = DirBuilder::new().mode(0o700).create(path);
        created
            .and_then(|()| lchown(path, self.uid, self.gid))
            .map_err(at(path))
    }

    /// Writes a new file that only this user can read.
    pub(super) fn write_private(self, path: &Path, text: &str) -> Result<(), Error> {
        // Root must not follow a link of that user's.
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| {
            fchown(&file, self.uid, self.gid)?;
            file.write_all(text.as_bytes())
        })
        .map_err(at(path))
    }
}
