//! The function `migrate`: the schema and the application role, as the owner of the database.

use std::fmt::Write as _;

use axum::http::Method;
use functions::job;
use serde_json::json;
use shared::config::Environment;
use shared::database::Migration;
use shared::roles::{Access, SignIn};
use shared::telemetry;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::harness::{Database, PASSWORD, Service};
use crate::panics::Lines;

/// Roles are shared by all databases of the server, so each test has its own.
struct Role {
    name: String,
    database: Database,
}

impl Role {
    async fn new() -> Self {
        let database = Database::empty().await;
        Self {
            name: format!("people_app_{}", Uuid::new_v4().simple()),
            database,
        }
    }

    fn environment(&self) -> Environment {
        [
            ("DATABASE_URL", &*self.database.url),
            ("APPLICATION_ROLE", &*self.name),
        ]
        .into_iter()
        .collect()
    }

    async fn migrate(&self) -> serde_json::Value {
        json!(
            functions::migrate::handle(&self.environment())
                .await
                .expect("it migrates")
        )
    }

    /// Sets a password for the role. Returns what the owner could not do.
    async fn sign_in_with(&self, password: &str) -> Vec<String> {
        self.sign_in_for(Access::All, password).await
    }

    async fn sign_in_for(&self, access: Access, password: &str) -> Vec<String> {
        let sign_in = SignIn::Password(password.to_owned().into());
        let migration = Migration {
            roles: &[shared::roles::Role {
                name: &self.name,
                sign_in: &sign_in,
                access,
            }],
            ..Migration::default()
        };
        let migrated = migration.run(&self.database.options()).await;
        migrated.expect("it migrates").left_to_do
    }

    /// The same database, as this role with a password.
    async fn sign_in(&self) -> Database {
        self.sign_in_with_access(Access::All).await
    }

    async fn sign_in_with_access(&self, access: Access) -> Database {
        self.sign_in_for(access, "a password of the application").await;
        let (_, place) = self.database.url.split_once('@').unwrap();
        Database {
            url: format!(
                "postgres://{}:a%20password%20of%20the%20application@{place}",
                self.name
            ),
        }
    }
}

/// Each statement is refused for want of a privilege.
async fn assert_forbidden(database: &Database, statements: &[&str]) {
    let mut connection = database.connect().await;
    for forbidden in statements {
        let refused = connection.execute(*forbidden).await.expect_err(forbidden);
        let code = refused
            .as_database_error()
            .and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        // Insufficient privilege.
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
}

/// A role that exists only on RDS.
async fn make_rds_iam(database: &Database) {
    database
        .execute(
            "DO $$ BEGIN CREATE ROLE rds_iam; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$",
        )
        .await;
}

#[tokio::test]
async fn it_migrates_creates_the_role_and_reports_it_and_a_second_run_does_nothing() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    let all: Vec<i64> = shared::database::MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .collect();
    let report = |applied: &[i64]| json!({ "applied": applied, "version": all.last(), "role": role.name, "adopted": [], "left_to_do": [] });
    assert_eq!(role.migrate().await, report(&all));
    assert_eq!(role.migrate().await, report(&[]));
    let member = format!("SELECT pg_has_role('{}', 'rds_iam', 'MEMBER')", role.name);
    assert_eq!(role.database.text(&member).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn with_iam_it_also_creates_the_limited_role() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    let limited = format!("{}_l", role.name);
    let environment: Environment = [
        ("DATABASE_URL", &*role.database.url),
        ("APPLICATION_ROLE", &*role.name),
        ("LIMITED_ROLE", &*limited),
    ]
    .into_iter()
    .collect();
    let report = functions::migrate::handle(&environment)
        .await
        .expect("it migrates");
    assert_eq!(report.limited_role.as_deref(), Some(&*limited));
    let member = format!("SELECT pg_has_role('{limited}', 'rds_iam', 'MEMBER')");
    assert_eq!(role.database.text(&member).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn in_parallel_it_is_harmless() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    let environment = role.environment();
    let (a, b, c) = tokio::join!(
        functions::migrate::handle(&environment),
        functions::migrate::handle(&environment),
        functions::migrate::handle(&environment)
    );
    for report in [a, b, c] {
        assert_eq!(report.expect("it migrates").role, role.name);
    }
}

#[tokio::test]
async fn the_service_works_as_the_application_role_which_can_only_change_rows_of_people() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    role.migrate().await;
    let service = Service::on(role.sign_in().await, &[]);
    let token = service.token_of_new_user("alice").await;
    assert_eq!(service.log_in("alice", "wrong").await.status, 401);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.get("/health", "").await.status, 200);
    assert_eq!(service.log_out(&token).await.status, 200);

    assert_forbidden(
        &service.database,
        &[
        "CREATE TABLE people.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE people.\"user\" ADD COLUMN mine int",
        "DROP TABLE people.user_session",
        "TRUNCATE people.user_session",
        "CREATE INDEX ON people.\"user\" (country)",
        "CREATE OR REPLACE FUNCTION people.reserve_place(key bytea, places integer, forget_after interval) \
         RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine",
        "UPDATE people._sqlx_migrations SET success = false",
        "DELETE FROM people._sqlx_migrations",
        "COPY people.\"user\" TO PROGRAM 'cat'",
        ],
    )
    .await;
}

#[tokio::test]
async fn functions_that_need_no_hash_work_as_a_role_that_cannot_read_one() {
    let role = Role::new().await;
    let limited = role.sign_in_with_access(Access::Limited).await;
    let service = Service::on(role.database.clone(), &[]);
    let token = service.token_of_new_user("alice").await;
    let other = service.log_in("alice", PASSWORD).await.access_token();
    let third = service.log_in("alice", PASSWORD).await.access_token();

    let limited_service = Service::on(limited.clone(), &[("SESSION_IDLE_MINUTES", "60")]);
    // So that the session notes that it was seen.
    role.database
        .execute("UPDATE people.user_session SET last_seen = now() - interval '30 minutes'")
        .await;
    let me = limited_service.get("/auth/me", &token).await;
    assert_eq!(me.status, 200, "{me:?}");
    assert_eq!(limited_service.get("/health", "").await.status, 200);
    let profile =
        json!({ "user_name": "A", "country": "DE", "job": "J", "phone": "1", "init_cn_level": "HSK1" });
    let changed = limited_service
        .call_as(Method::PATCH, "/auth/me", &token, &profile)
        .await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let listed = limited_service.sessions(&token).await.json();
    let sessions = listed["data"]["sessions"].as_array().expect("a list").clone();
    assert_eq!(sessions.len(), 3);
    let one = sessions.iter().find(|session| session["current"] == false);
    let one = one.expect("another session")["session_id"]
        .as_str()
        .expect("an id");
    assert_eq!(limited_service.end_session(&token, one).await.status, 200);
    assert_eq!(limited_service.end_other_sessions(&token).await.status, 200);
    for ended in [&other, &third] {
        assert_eq!(limited_service.get("/auth/me", ended).await.status, 401);
    }
    let event = include_str!("../events/authorizer-http.json");
    let decision = limited_service.authorize(&event.replace("TOKEN", &token)).await;
    assert_eq!(decision.expect("a decision")["isAuthorized"], true);
    assert_eq!(limited_service.log_out(&token).await.status, 200);
    let environment = [("DATABASE_URL", &*limited.url), ("SESSION_RETENTION_DAYS", "0")];
    let purged = functions::purge::handle(&environment.into_iter().collect()).await;
    assert_eq!(json!(purged.expect("it purges"))["sessions"], 3);

    assert_forbidden(
        &limited,
        &[
            "SELECT password_hash FROM people.\"user\"",
            "SELECT * FROM people.\"user\"",
            "SELECT FROM people.\"user\" WHERE password_hash LIKE '$argon2%'",
            "UPDATE people.\"user\" SET password_hash = 'x'",
            "UPDATE people.\"user\" SET password_version = 1",
            "UPDATE people.\"user\" SET roles = '{admin}'",
            "UPDATE people.\"user\" SET email = 'x@example.com'",
            "INSERT INTO people.\"user\" (userid) VALUES ('mallory')",
            "DELETE FROM people.\"user\"",
            "INSERT INTO people.user_session (session_id, expires_at) VALUES (gen_random_uuid(), now())",
            "UPDATE people.user_session SET expires_at = 'infinity'",
            "INSERT INTO people.outbox (kind) VALUES ('reset')",
            "SELECT people.hash_kinds(1)",
            "CREATE TABLE people.mine (id int)",
            "CREATE TABLE public.mine (id int)",
        ],
    )
    .await;
}

#[tokio::test]
async fn the_password_of_the_role_is_replaced_when_it_changes() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    role.migrate().await;
    let first = role.sign_in().await;
    drop(first.connect().await);
    role.sign_in_with("another").await;
    let second = first
        .url
        .replace("a%20password%20of%20the%20application", "another");
    drop(Database { url: second }.connect().await);
}

#[tokio::test]
async fn without_sufficient_privileges_it_fails_and_says_why() {
    let environment = [(
        "DATABASE_URL",
        "postgres://nobody:nothing@127.0.0.1:1/none?sslmode=disable",
    )];
    let failure = functions::migrate::handle(&environment.into_iter().collect())
        .await
        .unwrap_err()
        .to_string();
    assert!(failure.contains("Connection refused"), "{failure}");
    assert!(!failure.contains("nothing"), "{failure}");
}

/// A role that can log in, with only these attributes, and the database as that role.
async fn someone(database: &Database, attributes: &str) -> (String, Database) {
    let name = format!("people_someone_{}", Uuid::new_v4().simple());
    database
        .execute(&format!(
            "CREATE ROLE {name} LOGIN {attributes} PASSWORD 'someone'"
        ))
        .await;
    let (_, place) = database.url.split_once('@').expect("a URL with a user");
    let url = format!("postgres://{name}:someone@{place}");
    (name, Database { url })
}

/// Privileges that PostgreSQL 13 and 14 grant to everybody.
const OLD_DEFAULTS: &str = "GRANT CREATE ON SCHEMA public TO PUBLIC";

/// Runs with a password for the role. Returns what it could not do.
async fn migrate_as(owner: &Database, role: &str) -> Result<Vec<String>, shared::database::MigrationError> {
    let sign_in = SignIn::Password("a password of the application".to_owned().into());
    let migration = Migration {
        roles: &[shared::roles::Role {
            name: role,
            sign_in: &sign_in,
            access: Access::All,
        }],
        ..Migration::default()
    };
    Ok(migration.run(&owner.options()).await?.left_to_do)
}

#[tokio::test]
async fn privileges_that_postgresql_13_and_14_grant_to_everybody_are_revoked() {
    let role = Role::new().await;
    role.database.execute(OLD_DEFAULTS).await;
    let (someone, _) = someone(&role.database, "").await;
    let may = format!(
        "SELECT concat(has_schema_privilege('{someone}', 'public', 'CREATE'),
                       has_database_privilege('{someone}', current_database(), 'TEMPORARY'))"
    );
    assert_eq!(role.database.text(&may).await.as_deref(), Some("tt"));
    assert_eq!(role.sign_in_with("a password").await, [""; 0]);
    assert_eq!(role.database.text(&may).await.as_deref(), Some("ff"));
}

#[tokio::test]
async fn an_owner_of_only_the_schema_reports_what_it_cannot_revoke_and_continues() {
    let role = Role::new().await;
    let (owner, as_owner) = someone(&role.database, "CREATEROLE").await;
    role.database
        .execute(&format!(
            "{OLD_DEFAULTS}; CREATE SCHEMA people AUTHORIZATION {owner}"
        ))
        .await;
    let left_to_do = migrate_as(&as_owner, &role.name).await.expect("it migrates");
    let database = role.database.name();
    assert_eq!(left_to_do.len(), 2, "{left_to_do:?}");
    assert!(
        left_to_do[0].starts_with(&format!(
            "every role can create objects in the schema public, and {owner} cannot revoke that; as its owner, "
        )) && left_to_do[0].ends_with(": REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        "{left_to_do:?}"
    );
    assert!(
        left_to_do[1].ends_with(&format!(": REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")),
        "{left_to_do:?}"
    );
}

#[tokio::test]
async fn objects_planted_in_public_are_never_run() {
    let role = Role::new().await;
    role.database.execute(OLD_DEFAULTS).await;
    let (_, someone) = someone(&role.database, "").await;
    // Each of these matches better than the original, or would be found first in a search path that includes it.
    let mut plants = String::new();
    for (name, arguments, result) in [
        ("power_", "numeric, integer", "numeric"),
        ("equal_", "text, varchar", "boolean"),
        ("lower", "varchar", "text"),
        ("coalesce_", "", "integer"),
    ] {
        let _ = write!(
            plants,
            "CREATE FUNCTION public.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql AS
                 'BEGIN RAISE EXCEPTION $$planted$$; END';"
        );
    }
    plants.push_str(
        "CREATE OPERATOR public.^ (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.power_);
         CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = varchar, FUNCTION = public.equal_);
         CREATE FUNCTION public.planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$planted$$; END';
         CREATE TABLE public._sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
             installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL,
             execution_time BIGINT NOT NULL);
         CREATE TRIGGER planted BEFORE INSERT ON public._sqlx_migrations EXECUTE FUNCTION public.planted();
         GRANT ALL ON public._sqlx_migrations TO PUBLIC;
         CREATE TABLE public.attempt (LIKE public._sqlx_migrations);",
    );
    someone.execute(&plants).await;
    // They work.
    let error = role.database.connect().await.execute("SELECT 2.0 ^ 1").await;
    assert!(error.expect_err("planted").to_string().contains("planted"));

    let database = role.sign_in().await;
    role.sign_in().await;
    let service = Service::on(database, &[]);
    let token = service.token_of_new_user("alice").await;
    assert_eq!(service.log_in("alice", "wrong").await.status, 401);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(service.get("/auth/me", &token).await.status, 200);
    assert_eq!(service.get("/health", "").await.status, 200);
    // Until the limit is reached, so that the wait is computed.
    let mut last = 401;
    for _ in 0..12 {
        last = service.log_in("mallory", "wrong").await.status.as_u16();
    }
    assert_eq!(last, 429);
    assert_eq!(service.log_out(&token).await.status, 200);
    assert_eq!(role.database.count("public._sqlx_migrations").await, 0);
}

#[tokio::test]
async fn the_role_has_a_safe_search_path_and_the_timeout_behind_every_pooler() {
    let role = Role::new().await;
    let mut connection = role.sign_in().await.connect().await;
    for (setting, value) in [
        ("search_path", "pg_catalog, pg_temp"),
        ("statement_timeout", "1500ms"),
    ] {
        let found: String = sqlx::query_scalar(&format!("SHOW {setting}"))
            .fetch_one(&mut connection)
            .await
            .expect("a setting");
        assert_eq!(found, value);
    }
}

#[tokio::test]
async fn a_role_that_gets_a_password_no_longer_authenticates_with_iam() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    let member = format!("SELECT pg_has_role('{}', 'rds_iam', 'MEMBER')", role.name);
    role.migrate().await;
    assert_eq!(role.database.text(&member).await.as_deref(), Some("true"));
    role.sign_in_with("a password").await;
    assert_eq!(role.database.text(&member).await.as_deref(), Some("false"));
    role.migrate().await;
    assert_eq!(role.database.text(&member).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn missing_privileges_are_reported_before_anything_is_done() {
    let role = Role::new().await;
    let (owner, as_owner) = someone(&role.database, "").await;
    let error = migrate_as(&as_owner, &role.name)
        .await
        .expect_err("it may do nothing")
        .to_string();
    assert_eq!(
        error,
        format!(
            "nothing was changed; this has to be fixed first:\n\
             - the role {owner} cannot create a schema in the database: GRANT CREATE ON DATABASE {} TO {owner}\n\
             - the role {owner} cannot create or change roles: ALTER ROLE {owner} CREATEROLE",
            role.database.name()
        )
    );
    role.database
        .execute("CREATE SCHEMA people; CREATE TABLE people.\"user\" (user_id uuid primary key)")
        .await;
    let error = migrate_as(&as_owner, &role.name)
        .await
        .expect_err("it owns nothing")
        .to_string();
    assert!(
        error.contains(&format!(
            "\n- the role {owner} cannot use the schema people and create objects in it: GRANT USAGE, CREATE ON SCHEMA people TO {owner}\n\
             - the role {owner} does not own the table people.\"user\": ALTER TABLE people.\"user\" OWNER TO {owner}\n"
        )),
        "{error}"
    );
    assert_eq!(role.database.text("to_regclass('people.attempt')").await, None);
}

#[tokio::test]
async fn missing_rds_iam_is_reported_before_anything_is_done() {
    // On the tests' server that role exists.
    let server = tokio::task::spawn_blocking(local::postgres::Server::throwaway);
    let server = server.await.expect("no panic").expect("a throw-away PostgreSQL");
    let database = Database {
        url: server.url().to_owned(),
    };
    let environment: Environment = [("DATABASE_URL", &*database.url)].into_iter().collect();
    let failure = functions::migrate::handle(&environment)
        .await
        .expect_err("it stops")
        .to_string();
    assert_eq!(
        failure,
        "nothing was changed; this has to be fixed first:\n\
         - this PostgreSQL has no role rds_iam, so it does not support IAM authentication: enable that on the RDS \
         database, or use a password (APPLICATION_SECRET_ARN)"
    );
    assert_eq!(database.text("to_regnamespace('people')").await, None);
    drop(database);
}

#[tokio::test]
async fn it_migrates_repeatedly_through_a_pooler_in_transaction_mode() {
    let role = Role::new().await;
    let Some(pooler) = crate::pgbouncer::PgBouncer::before(&role.database).await else {
        return;
    };
    let pooled = Database {
        url: pooler.url.clone(),
    };
    // The next run gets a server connection that was used before.
    for _ in 0..4 {
        migrate_as(&pooled, &role.name).await.expect("it migrates");
    }
}

/// The pipeline does not wait for the answer of a migration, but looks for this line (deploy/migration.py).
#[tokio::test]
async fn the_end_of_a_job_is_one_line_with_the_id_of_the_invocation_and_the_result() {
    let lines = Lines::default();
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(telemetry::subscriber(move || writer.clone()));
    let outcome = job::logged("8f1d", async { Ok::<_, String>(json!({ "version": 7 })) }).await;
    assert_eq!(outcome, Ok(json!({ "version": 7 })));
    let line = lines.only();
    assert_eq!(line["span"]["request_id"], "8f1d");
    assert_eq!(
        (&line["message"], &line["result"]),
        (&json!("done"), &json!(r#"{"version":7}"#))
    );
    let outcome = job::logged("9a2e", async { Err::<(), _>("a table is locked") }).await;
    assert_eq!(outcome, Err("a table is locked".to_owned()));
    let line = lines.only();
    assert_eq!(line["span"]["request_id"], "9a2e");
    assert_eq!(
        (&line["message"], &line["error"]),
        (&json!("failed"), &json!("a table is locked"))
    );
}
