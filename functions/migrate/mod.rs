//! Runs the migrations from inside the database's network, as the owner, and keeps the role that the other functions sign
//! in as. Invoked by the pipeline with any event, before new code takes traffic. Harmless when repeated or run twice at once.

use serde::Serialize;
use shared::aws::{Aws, AwsError};
use shared::config::{ConfigError, DatabaseConfig, Environment};
use shared::database::{Database, Migration, MigrationError};
use shared::roles::{Role, SignIn};
use thiserror::Error;

/// What was done.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    /// The versions of the migrations that ran now.
    pub applied: Vec<i64>,
    /// The newest version that has run.
    pub version: i64,
    /// The role that was created or brought up to date.
    pub role: String,
    /// What was changed in the tables of an earlier back end.
    pub adopted: Vec<String>,
    /// What the owner may not do, and has to be done by somebody else.
    pub left_to_do: Vec<String>,
}

/// Why nothing was done. The function fails with it, so that a pipeline stops.
#[derive(Debug, Error)]
pub enum Failure {
    /// A setting is missing or unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// AWS did not give a secret.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// A migration stopped, or the role could not be brought up to date.
    #[error(transparent)]
    Migration(#[from] MigrationError),
}

/// Migrates as the settings in `environment` say:
///
/// - `DATABASE_SECRET_ARN` or `DATABASE_URL`: the owner's.
/// - `APPLICATION_SECRET_ARN`: the application's secret, a JSON object with `username` and `password`. Without it the
///   role signs in with IAM.
/// - `APPLICATION_ROLE`: its name where the secret does not state one; default `people_app`.
///
/// # Errors
/// A message for the log of the pipeline; it holds no secret.
pub async fn handle(environment: &Environment) -> Result<Report, Failure> {
    let database = Database::new(DatabaseConfig::from_environment(environment)?);
    let (role, sign_in) = application_role(environment).await?;
    let migration = Migration {
        // Whoever invokes it against an earlier back end's database wants that one adopted.
        adopt: true,
        role: Some(Role {
            name: &role,
            sign_in: &sign_in,
        }),
        ..Migration::default()
    };
    // What is wrong is told by the run, in more words.
    let _ = database.wait_until_reachable().await;
    let migrated = database.migrate(&migration).await?;
    Ok(Report {
        applied: migrated.applied,
        version: migrated.version,
        role,
        adopted: migrated.adopted,
        left_to_do: migrated.left_to_do,
    })
}

async fn application_role(environment: &Environment) -> Result<(String, SignIn), Failure> {
    const ARN: &str = "APPLICATION_SECRET_ARN";
    let name = environment
        .text("APPLICATION_ROLE")
        .unwrap_or("people_app")
        .to_owned();
    let Some(arn) = environment.text(ARN) else {
        return Ok((name, SignIn::Iam));
    };
    let secret = Aws::default().database_secret(arn).await?;
    let password = secret
        .password
        .ok_or_else(|| ConfigError::new(ARN, "must name a secret with a password"))?;
    Ok((secret.username.unwrap_or(name), SignIn::Password(password)))
}
