//! What `sam local` needs to run the functions in containers next to a running `local`: an address under which they
//! reach this machine, and a file with settings.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

/// How containers reach this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Host name or address, as seen by containers.
    pub host: String,
    /// The address to listen on for them; `None` if they arrive at 127.0.0.1.
    pub address: Option<IpAddr>,
}

impl Gateway {
    /// Asks Docker. On macOS, its virtual machine forwards connections to 127.0.0.1; on Linux they arrive at the
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
        let format = "{{with index .IPAM.Config 0}}{{or .Gateway .Subnet}}{{end}}";
        let output = Command::new("docker")
            .args(["network", "inspect", "bridge", "--format", format])
            .output();
        let answer = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        let address = answer
            .ok()
            .and_then(|answer| bridge_address(&answer))
            .ok_or("--sam: Docker does not report the address of its bridge: start Docker first")?;
        TcpListener::bind((address, 0)).map_err(|error| {
            format!("--sam: Docker's bridge {address} is not an address of this machine ({error}): rootless Docker is not supported")
        })?;
        Ok(Self {
            host: address.to_string(),
            address: Some(address),
        })
    }
}

/// The address in `answer`; or, of a subnet, the first one, which Docker takes. A new daemon does not report its
/// address.
fn bridge_address(answer: &str) -> Option<IpAddr> {
    match answer.split_once('/') {
        Some((subnet, _)) => {
            let first = Ipv4Addr::from_bits(subnet.parse::<Ipv4Addr>().ok()?.to_bits() + 1);
            Some(first.into())
        }
        None => answer.parse().ok(),
    }
}

/// Writes the file for `--env-vars`. Only this user can read it: it contains secrets.
///
/// # Errors
/// When it cannot be written.
pub fn write_settings(file: &Path, database_url: &str, secret_key: &str) -> io::Result<()> {
    // Everything that the template takes from AWS. `sam local` sets only variables that the template declares.
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
    // A new file, which no other user can have open.
    let _ = fs::remove_file(file);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(format!("{settings:#}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_has_the_reported_address_or_else_the_first_of_its_subnet() {
        let address = |text: &str| text.parse().ok();
        assert_eq!(bridge_address("172.17.0.1"), address("172.17.0.1"));
        assert_eq!(bridge_address("172.17.0.0/16"), address("172.17.0.1"));
        assert_eq!(bridge_address(""), None);
        assert_eq!(bridge_address("<no value>"), None);
    }
}
