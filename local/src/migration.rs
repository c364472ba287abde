//! Brings the database up to date, and says where it is.

use shared::config::{Credentials, DatabaseConfig};
use shared::database::{Database, Migration};

use crate::Failure;

/// Brings the schema of the database at `place` up to date, and prints what was adopted.
///
/// # Errors
/// Says what is in the way, and what to do about it.
pub async fn migrate(database: &Database, place: &str, adopt: bool) -> Result<(), Failure> {
    let migration = Migration {
        adopt,
        ..Migration::default()
    };
    let migrated = Box::pin(database.migrate(&migration)).await;
    let migrated = migrated.map_err(|error| {
        let error = error.to_string();
        format!(
            "the database at {place} cannot be migrated: {error}{}",
            remedy(&error)
        )
    })?;
    for line in migrated.adopted {
        eprintln!("local: {line}");
    }
    Ok(())
}

/// What to do about a common error.
fn remedy(error: &str) -> &'static str {
    if error.contains("server does not support TLS") {
        "; to connect without it, add ?sslmode=disable to DATABASE_URL"
    } else if error.contains("UnknownIssuer") {
        "; add ?sslrootcert=FILE to DATABASE_URL, with the certificate of the authority that issued the server's"
    } else if error.contains("was previously applied but") {
        "; a version of the project with other migrations made this database: use that one, or a new database (the \
         embedded one is new after its data directory is deleted)"
    } else {
        ""
    }
}

/// Describes the database without credentials, which may be anywhere in a URL.
#[must_use]
pub fn place(database: &DatabaseConfig) -> String {
    if let Credentials::Secret(arn) = &database.credentials {
        return format!("the one that {arn} names");
    }
    let options = &database.options;
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    // Without a name, it is that of the role.
    format!("{server}/{}", options.get_database().unwrap_or_default())
}
