//! Databases with any number of users and sessions, filled as the service would.

use local::postgres::Server;
use shared::config::{Config, Environment, PasswordConfig};
use shared::password::{Parameters, Password, Passwords};
use shared::password_policy::PasswordPolicy;
use shared::token::Keys;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::harness::{Database, PASSWORD, SECRET_KEY};

/// People who log in and have a live session. The same number at every size, so that only the tables differ.
pub const ACTIVE: u32 = 1_000;

/// One in this many users has a count of failed log-ins.
const USERS_PER_ATTEMPT: u32 = 10;

/// The `n`th userid, as SQL. Sorted differently from the rows, as names are.
const USERID: &str = "left(md5(n::text), 6) || '-' || n";

/// Statements to drop every constraint and index of the schema, and to create them again.
const DEFINITIONS: &str = "
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS remove,
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS make,
           contype = 'f' AS refers
    FROM pg_constraint
    WHERE connamespace = 'people'::regnamespace AND contype IN ('p', 'u', 'c', 'f')
    UNION ALL
    SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid), false
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = 'people'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
    ORDER BY refers DESC, remove";

/// Somebody who can log in with [`PASSWORD`] and whose token is live for a day.
#[derive(Clone)]
pub struct Person {
    pub userid: String,
    pub token: String,
}

/// Settings for a service that has to accept the tokens of these people.
pub const TOKEN_SETTINGS: [(&str, &str); 2] = [
    ("SECRET_KEY", SECRET_KEY),
    ("ACCESS_TOKEN_EXPIRE_MINUTES", "1440"),
];

/// A new database `name` on `server` with `rows` users, each with one session, most of which have ended.
pub async fn database_with(
    server: &Server,
    name: &str,
    rows: u32,
    parameters: Parameters,
) -> Result<(Database, Vec<Person>), sqlx::Error> {
    let mut connection = connect(server.url()).await?;
    connection.execute(&*format!("CREATE DATABASE {name}")).await?;
    connection.close().await?;
    let (start, query) = server.url().split_once('?').unwrap_or((server.url(), ""));
    let (address, _) = start.rsplit_once('/').unwrap_or((start, ""));
    let database = Database {
        url: format!("{address}/{name}?{query}"),
    };
    shared::database::migrate(&database.options())
        .await
        .map_err(|error| sqlx::Error::Protocol(error.to_string()))?;

    let hash = Passwords::new(&PasswordConfig {
        policy: PasswordPolicy::new(8, &[]),
        parameters,
    })
    .hash(Password::new(PASSWORD).expect("a password"))
    .await
    .expect("a hash");
    let mut connection = connect(&database.url).await?;
    let people = people(&mut connection, rows).await?;
    fill(&mut connection, rows, &hash).await?;
    connection.close().await?;
    Ok((database, people))
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options: sqlx::postgres::PgConnectOptions = url.parse()?;
    options.disable_statement_logging().connect().await
}

/// The active people, evenly spread over all rows, also in a temporary table `active`.
async fn people(connection: &mut PgConnection, rows: u32) -> Result<Vec<Person>, sqlx::Error> {
    let environment: Environment = TOKEN_SETTINGS
        .into_iter()
        .chain([("DATABASE_URL", "postgres://nobody@127.0.0.1/none?sslmode=disable")])
        .collect();
    let keys = Keys::new(
        &Config::from_environment(&environment)
            .expect("usable settings")
            .tokens,
    );
    connection
        .execute("CREATE TEMPORARY TABLE active (n integer PRIMARY KEY, token text NOT NULL)")
        .await?;
    let chosen = sqlx::query(&format!(
        "SELECT n, {USERID} AS userid, md5('user ' || n)::uuid AS user_id, md5('session ' || n)::uuid AS session_id, now()
         FROM generate_series($1, $2, $1) AS n"
    ))
    .bind(i64::from((rows / ACTIVE).max(1)))
    .bind(i64::from(rows))
    .fetch_all(&mut *connection)
    .await?;
    let mut people = Vec::new();
    let (mut numbers, mut digests) = (Vec::new(), Vec::new());
    for row in chosen {
        let (userid, user_id, session_id): (String, Uuid, Uuid) = (row.get(1), row.get(2), row.get(3));
        let token = keys
            .sign(session_id, user_id, &userid, row.get(4))
            .expect("a token");
        numbers.push(row.get::<i64, _>(0));
        digests.push(token.digest().as_str().to_owned());
        people.push(Person {
            userid,
            token: token.expose().to_owned(),
        });
    }
    sqlx::query("INSERT INTO active SELECT * FROM unnest($1::bigint[], $2::text[])")
        .bind(numbers)
        .bind(digests)
        .execute(connection)
        .await?;
    Ok(people)
}

/// Fills the tables without constraints and indexes, and then recreates these, which is many times faster.
async fn fill(connection: &mut PgConnection, rows: u32, hash: &str) -> Result<(), sqlx::Error> {
    connection
        .execute(
            "SET work_mem = '256MB'; SET maintenance_work_mem = '512MB'; SET client_min_messages = warning",
        )
        .await?;
    let definitions: Vec<(String, String, bool)> =
        sqlx::query_as(DEFINITIONS).fetch_all(&mut *connection).await?;
    for (remove, _, _) in &definitions {
        connection.execute(&**remove).await?;
    }
    let attempts = rows / USERS_PER_ATTEMPT;
    connection
        .execute(&*format!(
            r#"
            INSERT INTO people."user"
                (user_id, userid, user_name, country, job, email, init_cn_level, reg_time, password_hash)
            SELECT md5('user ' || n)::uuid, {USERID}, 'Person ' || n, 'Germany', 'teacher',
                   'person' || n || '@example.com', 'HSK ' || n % 6 + 1, now() - n % 1000 * interval '1 day', '{hash}'
            FROM generate_series(1, {rows}) AS n;

            INSERT INTO people.user_session (session_id, user_id, token, login_time, logout_time, expires_at)
            SELECT md5('session ' || n)::uuid, md5('user ' || n)::uuid,
                   coalesce(token, md5('token ' || n) || md5('nekot ' || n)), login_time,
                   CASE WHEN token IS NULL AND n % 2 = 0 THEN login_time + interval '20 minutes' END,
                   CASE WHEN token IS NULL THEN login_time + interval '1 hour' ELSE now() + interval '1 day' END
            FROM generate_series(1, {rows}) AS n
            LEFT JOIN active USING (n),
            LATERAL (SELECT now() - (2 + n % 700) * interval '1 hour' AS login_time) AS time;

            INSERT INTO people.attempt (key, forgotten_at, failed_at)
            SELECT sha256(('attempt ' || n)::bytea), now() + n % 1000 * interval '1 minute', now()
            FROM generate_series(1, {attempts}) AS n;
            "#
        ))
        .await?;
    for (_, make, _) in definitions.iter().rev() {
        connection.execute(&**make).await?;
    }
    let made: Vec<(String, String, bool)> = sqlx::query_as(DEFINITIONS).fetch_all(&mut *connection).await?;
    assert_eq!(
        made, definitions,
        "the schema is the one that the migrations made"
    );
    connection
        .execute(r#"VACUUM (FREEZE, ANALYZE) people."user", people.user_session, people.attempt"#)
        .await?;
    connection.execute("CHECKPOINT").await?;
    Ok(())
}
