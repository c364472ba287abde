//! Runs the migrations as the owner from inside the database's network, and maintains the roles that the other
//! functions use. Invoked by the pipeline with any event before new code receives traffic. Idempotent, and safe to run
//! concurrently.

use serde::Serialize;
use shared::aws::{Aws, AwsError};
use shared::config::{ConfigError, DatabaseConfig, Environment};
use shared::database::{Database, Migration, MigrationError};
use shared::roles::{Access, Role, SignIn};
use thiserror::Error;

/// The result.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Report {
    /// The versions of the migrations applied by this run.
    pub applied: Vec<i64>,
    /// The newest version applied.
    pub version: i64,
    /// The application role, which was created or brought up to date.
    pub role: String,
    /// The same of functions that need no password hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limited_role: Option<String>,
    /// Changes to the tables of an earlier back end.
    pub adopted: Vec<String>,
    /// What is left to somebody with more privileges than the owner.
    pub left_to_do: Vec<String>,
}

/// Why nothing was done. The function fails with it, which stops the pipeline.
#[derive(Debug, Error)]
pub enum Failure {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret could not be read.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// A migration failed, or the role could not be brought up to date.
    #[error(transparent)]
    Migration(#[from] MigrationError),
}

/// Migrates, according to these settings in `environment`:
///
/// - `DATABASE_SECRET_ARN` or `DATABASE_URL`: the database, as its owner.
/// - `APPLICATION_SECRET_ARN`: the secret of the application role, a JSON object with `username` and `password`.
///   Without it the role authenticates with IAM.
/// - `APPLICATION_ROLE`: its name, if the secret does not contain one; default `people_app`.
/// - `LIMITED_ROLE`: with IAM, the role of functions that need no password hash; without it, there is none.
///
/// # Errors
/// A message for the log of the pipeline, without secrets.
pub async fn handle(environment: &Environment) -> Result<Report, Failure> {
    let database = Database::new(DatabaseConfig::from_environment(environment)?);
    let (role, sign_in) = application_role(environment).await?;
    let limited_role = match sign_in {
        SignIn::Iam => environment.text("LIMITED_ROLE").map(str::to_owned),
        SignIn::Password(_) => None,
    };
    let mut roles = vec![Role {
        name: &role,
        sign_in: &sign_in,
        access: Access::All,
    }];
    roles.extend(limited_role.as_deref().map(|name| Role {
        name,
        sign_in: &sign_in,
        access: Access::Limited,
    }));
    let migration = Migration {
        // Invoking it on an earlier back end's database is a request to adopt it.
        adopt: true,
        roles: &roles,
        ..Migration::default()
    };
    // If this fails, the run reports the error in more detail.
    let _ = database.wait_until_reachable().await;
    let migrated = database.migrate(&migration).await?;
    Ok(Report {
        applied: migrated.applied,
        version: migrated.version,
        role,
        limited_role,
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
