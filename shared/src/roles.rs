//! The roles as which the deployed functions connect. The application role can read and write the rows of `people`, and
//! nothing else; the limited role, of functions that need no password hash, cannot even read those.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection as _, Executor as _, PgConnection};

/// How the role authenticates.
pub enum SignIn {
    /// With this password.
    Password(SecretString),
    /// With an IAM token.
    Iam,
}

/// What a role may do with the rows of `people`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write all of them.
    All,
    /// What the functions do that need no password hash: read users but their hashes, change profiles, read, end and
    /// delete sessions, delete counters and messages. It can neither create users and sessions nor learn or set a hash.
    Limited,
}

/// A role.
pub struct Role<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it authenticates.
    pub sign_in: &'a SignIn,
    /// What it may do.
    pub access: Access,
}

/// Human-readable list of what prevents the owner from creating the role. To be called before anything is changed.
///
/// # Errors
/// The driver's.
pub async fn obstacles(connection: &mut PgConnection, role: &Role<'_>) -> Result<Vec<String>, sqlx::Error> {
    let iam = matches!(role.sign_in, SignIn::Iam);
    sqlx::query_scalar!(
        r#"
        SELECT 'this PostgreSQL has no role rds_iam, so it does not support IAM authentication: enable that on the RDS database, '
               'or use a password (APPLICATION_SECRET_ARN)' AS "line!"
        WHERE $2 AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam')
        UNION ALL
        SELECT format('the role %s cannot create or change roles: ALTER ROLE %1$I CREATEROLE', current_user)
        FROM pg_roles WHERE rolname = current_user AND NOT rolsuper AND NOT rolcreaterole
        UNION ALL
        SELECT format('%s is the role that migrates: the application needs one of its own', $1::text)
        WHERE $1 IN (current_user, session_user)
        UNION ALL
        SELECT format('the role %s is a superuser: the application needs another', $1)
        FROM pg_roles WHERE rolname = $1 AND rolsuper
        UNION ALL
        SELECT format('the role %s cannot grant CONNECT to %s: GRANT CONNECT ON DATABASE %I TO %2$I',
                      current_user, $1, current_database())
        WHERE NOT has_database_privilege(current_database(), 'CONNECT WITH GRANT OPTION')
          AND NOT EXISTS (
              SELECT FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
              WHERE datname = current_database() AND privilege_type = 'CONNECT'
                AND grantee IN (0, coalesce(to_regrole(quote_ident($1)), 0))
          )
        "#,
        role.name,
        iam
    )
    .fetch_all(connection)
    .await
}

/// Creates the role, or brings it up to date: authentication, `settings`, and the least privileges on `relations`, the
/// tables and views of the schema `people`. Also revokes what PostgreSQL up to 14 grants to everybody: creating objects
/// in the schema `public`, and temporary tables. To be called within a transaction, not concurrently. Returns a
/// human-readable list of what is left to somebody with more privileges than the owner.
///
/// # Errors
/// The driver's.
pub async fn grant(
    connection: &mut PgConnection,
    role: &Role<'_>,
    relations: &[String],
    settings: &[(&str, &str)],
) -> Result<Vec<String>, sqlx::Error> {
    let name = quoted(role.name);
    let facts = sqlx::query!(
        r#"
        SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS "exists!", current_database() AS "database!",
               EXISTS (
                   SELECT FROM pg_auth_members
                   WHERE roleid = to_regrole('rds_iam') AND member = to_regrole(quote_ident($1))
               ) AS "iam!"
        "#,
        role.name
    )
    .fetch_one(&mut *connection)
    .await?;
    let database = quoted(&facts.database);
    let mut statements = Vec::new();
    if !facts.exists {
        statements.push(format!("CREATE ROLE {name}"));
    }
    match role.sign_in {
        SignIn::Password(password) => {
            let verifier =
                scram_verifier(password).ok_or_else(|| sqlx::Error::Protocol("no random bytes".into()))?;
            statements.push(format!("ALTER ROLE {name} LOGIN PASSWORD '{verifier}'"));
            // Members of it cannot authenticate with a password.
            if facts.iam {
                statements.push(format!("REVOKE rds_iam FROM {name}"));
            }
        }
        SignIn::Iam => {
            statements.push(format!("ALTER ROLE {name} LOGIN PASSWORD NULL"));
            if !facts.iam {
                statements.push(format!("GRANT rds_iam TO {name}"));
            }
        }
    }
    for (setting, value) in settings {
        // The names in a list are quoted separately.
        let value = value.split(", ").map(quoted).collect::<Vec<_>>().join(", ");
        statements.push(format!(
            "ALTER ROLE {name} IN DATABASE {database} SET {setting} = {value}"
        ));
    }
    statements.push(format!(
        "GRANT CONNECT ON DATABASE {database} TO {name};
         GRANT USAGE ON SCHEMA people TO {name};
         GRANT SELECT ON people._sqlx_migrations TO {name}"
    ));
    statements.push(match role.access {
        Access::All => {
            let relations: Vec<String> = relations
                .iter()
                .map(|relation| format!("people.{}", quoted(relation)))
                .collect();
            let relations = relations.join(", ");
            format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON {relations} TO {name};
                 GRANT USAGE ON ALL SEQUENCES IN SCHEMA people TO {name};
                 GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA people TO {name}"
            )
        }
        Access::Limited => limited(&name, &readable_columns(&mut *connection).await?),
    });
    connection.execute(&*statements.join(";\n")).await?;
    revoke_from_public(connection, &database).await
}

/// The columns of a user but the hash, also those that a later migration adds.
async fn readable_columns(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        SELECT string_agg(quote_ident(attname), ', ') AS "columns!" FROM pg_attribute
        WHERE attrelid = 'people."user"'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'password_hash'
        "#
    )
    .fetch_one(connection)
    .await
}

fn limited(name: &str, readable: &str) -> String {
    // Locking a row takes the right to UPDATE a column. The view's cannot be updated; rows of the others can be deleted
    // anyway.
    format!(
        "GRANT SELECT ({readable}), UPDATE (user_name, country, job, phone, init_cn_level) ON people.\"user\" TO {name};
         GRANT SELECT, UPDATE (logout_time, last_seen), DELETE ON people.user_session TO {name};
         GRANT SELECT, UPDATE (last_seen) ON people.live_session TO {name};
         GRANT SELECT, UPDATE (key), DELETE ON people.attempt TO {name};
         GRANT SELECT, UPDATE (network), DELETE ON people.known_network TO {name};
         GRANT SELECT, UPDATE (outbox_id), DELETE ON people.outbox TO {name}"
    )
}

/// Returns what could not be revoked: that takes the owner of the schema or of the database.
async fn revoke_from_public(
    connection: &mut PgConnection,
    database: &str,
) -> Result<Vec<String>, sqlx::Error> {
    for statement in [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned(),
        format!("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"),
    ] {
        let mut attempt = connection.begin().await?;
        if attempt.execute(&*statement).await.is_ok() {
            attempt.commit().await?;
        } else {
            attempt.rollback().await?;
        }
    }
    sqlx::query_scalar!(
        r#"
        SELECT format('every role can create objects in the schema public, and %s cannot revoke that; as its owner, %s: %s',
                      current_user, nspowner::regrole, 'REVOKE CREATE ON SCHEMA public FROM PUBLIC') AS "line!"
        FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
        WHERE nspname = 'public' AND grantee = 0 AND privilege_type = 'CREATE'
        UNION ALL
        SELECT format('every role can create temporary tables, and %s cannot revoke that; as the owner of the database, %s: %s',
                      current_user, datdba::regrole, format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', datname))
        FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
        WHERE datname = current_database() AND grantee = 0 AND privilege_type = 'TEMPORARY'
        "#
    )
    .fetch_all(connection)
    .await
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// The SCRAM verifier of a password (RFC 5803), so that the password itself reaches neither the server nor its log.
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
