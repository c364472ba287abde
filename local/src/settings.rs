//! Settings of `local`, besides those of the functions.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use shared::config::{ConfigError, Environment};
use shared::origins::Origins;
use uuid::Uuid;

use crate::env_file;

/// Where to listen, and whom to let in.
#[derive(Debug)]
pub struct Settings {
    /// `HOST` and `PORT`; port 0 takes a free one.
    pub address: SocketAddr,
    /// `CORS_ALLOWED_ORIGINS`.
    pub origins: Origins,
    /// `ADOPT`: whether to adopt the rows of an earlier back end.
    pub adopt: bool,
}

impl Settings {
    /// The settings in `environment`.
    ///
    /// # Errors
    /// Names the invalid setting.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        const ORIGINS: &str = "CORS_ALLOWED_ORIGINS";
        const HOST: &str = "HOST";
        let host = match environment.text(HOST) {
            None | Some("localhost") => Ipv4Addr::LOCALHOST.into(),
            Some(host) => host.parse::<IpAddr>().map_err(|_| {
                ConfigError::new(
                    HOST,
                    "must be an address of this machine, like 127.0.0.1, or 0.0.0.0 for all",
                )
            })?,
        };
        let origins = environment
            .text(ORIGINS)
            .map_or(Ok(Origins::Loopback), Origins::parse)
            .map_err(|problem| ConfigError::new(ORIGINS, problem))?;
        Ok(Self {
            address: SocketAddr::new(host, environment.number("PORT", 3000, 0..=u16::MAX)?),
            origins,
            adopt: environment.flag("ADOPT")?,
        })
    }
}

/// Sets what mails need, unless it is set: they are printed, and their links open the pages of the example client,
/// which is served at `here`.
pub fn set_mail_defaults(environment: &mut Environment, here: SocketAddr) {
    environment.set_default("MAIL_FROM", "people@localhost");
    environment.set_default("APP_RESET_URL", format!("http://{here}/reset-password"));
    environment.set_default("APP_EMAIL_URL", format!("http://{here}/confirm-email"));
}

/// The directory of the checkout: the nearest one at or above the working directory with a `Cargo.lock`, so that
/// `local` can be started from any of its subdirectories. Outside a checkout, the working directory.
///
/// # Errors
/// When there is no working directory.
pub fn project_directory() -> io::Result<PathBuf> {
    let working = std::env::current_dir()?;
    let project = working
        .ancestors()
        .find(|directory| directory.join("Cargo.lock").is_file());
    Ok(project.unwrap_or(&working).to_owned())
}

/// The variables of the process, which take precedence, and those in the `.env` of `directory`, if there is one.
///
/// # Errors
/// When `.env` cannot be read. Does not quote it, since it may contain a secret.
pub fn environment(directory: &Path) -> Result<Environment, ConfigError> {
    let unreadable = |problem: String| ConfigError::new(".env", format!("cannot be read: {problem}"));
    let mut environment = Environment::of_process();
    let text = match fs::read_to_string(directory.join(".env")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(environment),
        text => text.map_err(|error| unreadable(error.to_string()))?,
    };
    let variables = env_file::parse(&text).map_err(|line| {
        unreadable(format!(
            "line {line} is not NAME=value, or its quotes do not match"
        ))
    })?;
    for (name, value) in variables {
        environment.set_default(name, value);
    }
    Ok(environment)
}

/// The signing key in `directory`, generated at the first start and kept, so that tokens survive a restart.
///
/// # Errors
/// When the file cannot be read or written.
pub fn kept_secret_key(directory: &Path) -> io::Result<String> {
    let file = directory.join("secret_key");
    match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // 244 random bits.
            let key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            fs::create_dir_all(directory)?;
            // Written to another file and linked at the end: a killed start leaves no partial key, and of two
            // concurrent starts one gets the other's.
            let partial = directory.join(format!("secret_key.{}", Uuid::new_v4()));
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&partial)?
                .write_all(key.as_bytes())?;
            let linked = fs::hard_link(&partial, &file);
            fs::remove_file(partial)?;
            match linked {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return fs::read_to_string(file);
                }
                linked => linked?,
            }
            Ok(key)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_address_is_loopback() {
        let address = |settings: &[(&str, &str)]| {
            Settings::from_environment(&settings.iter().copied().collect())
                .map(|settings| settings.address.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(address(&[]), Ok("127.0.0.1:3000".into()));
        assert_eq!(
            address(&[("HOST", "localhost"), ("PORT", "0")]),
            Ok("127.0.0.1:0".into())
        );
        assert_eq!(
            address(&[("HOST", "0.0.0.0"), ("PORT", "80")]),
            Ok("0.0.0.0:80".into())
        );
        assert_eq!(address(&[("HOST", "::1")]), Ok("[::1]:3000".into()));
        let problem = "HOST must be an address of this machine, like 127.0.0.1, or 0.0.0.0 for all";
        for refused in ["my-laptop", "127.0.0.1:80", "[::1]"] {
            assert_eq!(address(&[("HOST", refused)]), Err(problem.into()), "{refused}");
        }
    }

    #[test]
    fn the_secret_key_is_generated_once_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = std::env::temp_dir().join(format!("people-key-{}", Uuid::new_v4()));
        let key = kept_secret_key(&directory).unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(kept_secret_key(&directory).unwrap(), key);
        let mode = fs::metadata(directory.join("secret_key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(&directory).unwrap().count();
        assert_eq!(files, 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn concurrent_starts_get_the_same_secret_key() {
        let directory = std::env::temp_dir().join(format!("people-key-{}", Uuid::new_v4()));
        let barrier = std::sync::Barrier::new(8);
        let keys: std::collections::HashSet<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        kept_secret_key(&directory).unwrap()
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(keys, [kept_secret_key(&directory).unwrap()].into());
        fs::remove_dir_all(directory).unwrap();
    }
}
