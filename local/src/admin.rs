//! The command `admin`: one invocation of the function of that name, on the database of this project, whether `local`
//! is running or not.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use functions::admin::{self, Admin};
use serde_json::Value;
use shared::config::{DatabaseConfig, Environment};
use tokio::task::spawn_blocking;

use crate::postgres::Server;
use crate::settings::{self, Settings};
use crate::{Failure, migration};

/// Invokes the function with `event`, or with what is read from standard input if that is `-`, and prints the answer.
/// Fails if that is an error.
///
/// # Errors
/// When the database cannot be started, migrated or used.
pub async fn run(event: String) -> Result<ExitCode, Failure> {
    let event = if event == "-" {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("standard input: {error}"))?;
        text
    } else {
        event
    };
    let directory = settings::project_directory()?;
    let mut environment = settings::environment(&directory)?;
    let settings = Settings::from_environment(&environment)?;
    settings::set_mail_defaults(&mut environment, settings.address);
    let embedded = embedded_database(&mut environment, &directory.join(".local")).await?;
    let answer = answer(&event, &environment, settings.adopt).await;
    if let Some(Embedded {
        server: Some(server), ..
    }) = embedded
    {
        spawn_blocking(|| server.stop()).await??;
    }
    let answer = answer?;
    // Nobody may be reading it.
    let _ = writeln!(io::stdout(), "{answer}");
    Ok(if answer.get("error").is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn answer(event: &str, environment: &Environment, adopt: bool) -> Result<Value, Failure> {
    let admin = Admin::from_environment(environment)?;
    let place = migration::place(&DatabaseConfig::from_environment(environment)?);
    migration::migrate(&admin.database, &place, adopt).await?;
    Ok(admin::handle(&admin, event).await?)
}

/// The embedded database, which `local` may be using.
struct Embedded {
    /// `None` if another process runs it.
    server: Option<Server>,
    /// Locked meanwhile: the server that one command has started is stopped when that one has ended.
    _one_at_a_time: File,
}

/// Starts the embedded database, or finds the running one, and sets `DATABASE_URL` to it, unless another database is
/// configured.
async fn embedded_database(environment: &mut Environment, state: &Path) -> Result<Option<Embedded>, Failure> {
    if environment.text("DATABASE_URL").is_some() || environment.text("DATABASE_SECRET_ARN").is_some() {
        return Ok(None);
    }
    let state = state.to_owned();
    let (url, embedded) = spawn_blocking(move || -> Result<_, Failure> {
        let lock = state.join("admin.lock");
        let one_at_a_time = fs::create_dir_all(&state)
            .and_then(|()| File::create(&lock))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| format!("{}: {error}", lock.display()))?;
        let (url, server) = Server::start_or_find(&state)?;
        let embedded = Embedded {
            server,
            _one_at_a_time: one_at_a_time,
        };
        Ok((url, embedded))
    })
    .await??;
    environment.set_default("DATABASE_URL", url);
    Ok(Some(embedded))
}
