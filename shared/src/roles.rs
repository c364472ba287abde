//! The role that the deployed functions sign in as: it reads and writes the rows of `people`, and changes nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection as _, Executor as _, PgConnection};

/// How the role signs in.
pub enum SignIn {
    /// With this password.
    Password(SecretString),
    /// With a token that IAM signs.
    Iam,
}

/// Any number that nothing else locks: the first bytes of the name of this service.
const LOCK: i64 = 0x0070_656f_706c_6500;

/// Creates the role `name`, or brings it up to date: sign-in, and the least rights. Harmless when repeated or run twice
/// at once.
///
/// # Errors
/// The driver's; then nothing has changed.
pub async fn grant(connection: &mut PgConnection, name: &str, sign_in: &SignIn) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK)
        .execute(&mut *transaction)
        .await?;
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS "exists!""#,
        name
    )
    .fetch_one(&mut *transaction)
    .await?;
    let role = quoted(name);
    if !exists {
        transaction.execute(&*format!("CREATE ROLE {role}")).await?;
    }
    match sign_in {
        SignIn::Password(password) => {
            let verifier =
                scram_verifier(password).ok_or_else(|| sqlx::Error::Protocol("no random bytes".into()))?;
            transaction
                .execute(&*format!("ALTER ROLE {role} LOGIN PASSWORD '{verifier}'"))
                .await?;
        }
        SignIn::Iam => {
            transaction
                .execute(&*format!(
                    "ALTER ROLE {role} LOGIN PASSWORD NULL; GRANT rds_iam TO {role}"
                ))
                .await?;
        }
    }
    let database = sqlx::query_scalar!(r#"SELECT current_database() AS "database!""#)
        .fetch_one(&mut *transaction)
        .await?;
    let database = quoted(&database);
    transaction
        .execute(&*format!(
            "GRANT CONNECT ON DATABASE {database} TO {role};
             GRANT USAGE ON SCHEMA people TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA people TO {role};
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA people TO {role};
             GRANT SELECT ON _sqlx_migrations TO {role}"
        ))
        .await?;
    transaction.commit().await
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// What PostgreSQL stores of a password (RFC 5803), so that the password itself reaches neither the server nor its log.
fn scram_verifier(password: &SecretString) -> Option<String> {
    const ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(4096).unwrap();
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).ok()?;
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ITERATIONS,
        &salt,
        password.expose_secret().as_bytes(),
        &mut salted,
    );
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&salted, b"Client Key").as_ref());
    let server_key = hmac::sign(&salted, b"Server Key");
    let [salt, stored_key, server_key] =
        [&salt[..], stored_key.as_ref(), server_key.as_ref()].map(|bytes| STANDARD.encode(bytes));
    Some(format!(
        "SCRAM-SHA-256${ITERATIONS}:{salt}${stored_key}:{server_key}"
    ))
}
