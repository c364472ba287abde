//! What `sam local` needs to run the functions in containers beside a running `local`: an address of this machine that they
//! reach, and a file of settings.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

/// How containers reach this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Gateway {
    /// What they call it.
    pub host: String,
    /// The address on which to listen for them; `None` where they arrive at 127.0.0.1.
    pub address: Option<IpAddr>,
}

impl Gateway {
    /// Asks Docker. Its virtual machine on macOS hands containers' connections on to 127.0.0.1; on Linux they arrive at the
    /// address of its bridge.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn find() -> Result<Self, String> {
        if cfg!(target_os = "macos") {
            return Ok(Self {
                host: "host.docker.internal".to_owned(),
                address: None,
            });
        }
        let format = "{{(index .IPAM.Config 0).Gateway}}";
        let output = Command::new("docker")
            .args(["network", "inspect", "bridge", "--format", format])
            .output();
        let answer = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let address: IpAddr = answer
            .ok()
            .and_then(|answer| answer.parse().ok())
            .ok_or("--sam: Docker does not tell the address of its bridge: start it first")?;
        TcpListener::bind((address, 0)).map_err(|error| {
            format!("--sam: Docker's bridge {address} is no address of this machine ({error}): rootless Docker has none")
        })?;
        Ok(Self {
            host: address.to_string(),
            address: Some(address),
        })
    }
}

/// Writes the file for `--env-vars`, which only this user can read: there are secrets in it.
///
/// # Errors
/// When it cannot be written.
pub fn write_settings(file: &Path, database_url: &str, secret_key: &str) -> io::Result<()> {
    // All that the template would take from AWS. `sam local` sets nothing that the template does not declare.
    let settings = json!({ "Parameters": {
        "DATABASE_URL": database_url,
        "DATABASE_SECRET_ARN": "",
        "DATABASE_IAM_AUTH": "false",
        "DATABASE_POOLER": "none",
        "SECRET_KEY": secret_key,
        "SECRET_KEY_ARN": "",
        "SECRET_KEY_PREVIOUS_ARN": "",
        "APPLICATION_SECRET_ARN": "",
    }});
    // A new file, so that no other user has it open.
    let _ = fs::remove_file(file);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(format!("{settings:#}\n").as_bytes())
}
