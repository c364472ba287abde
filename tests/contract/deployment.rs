//! The function `migrate`: the schema and the application's role, on a database of the owner's.

use serde_json::json;
use shared::config::Environment;
use sqlx::{ConnectOptions as _, Executor as _};
use uuid::Uuid;

use crate::harness::{Database, PASSWORD, Service};

/// Roles belong to the server, so each test has one of its own.
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

    /// The same database, as this role with a password.
    async fn sign_in(&self) -> Database {
        let owner = self.database.options();
        let mut connection = owner.connect().await.unwrap();
        let password = shared::roles::SignIn::Password("a password of the application".to_owned().into());
        shared::roles::grant(&mut connection, &self.name, &password)
            .await
            .unwrap();
        let (_, place) = self.database.url.split_once('@').unwrap();
        Database {
            url: format!(
                "postgres://{}:a%20password%20of%20the%20application@{place}",
                self.name
            ),
        }
    }
}

/// What RDS has and other servers have not.
async fn make_rds_iam(database: &Database) {
    database
        .execute(
            "DO $$ BEGIN CREATE ROLE rds_iam; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$",
        )
        .await;
}

#[tokio::test]
async fn it_migrates_makes_the_role_and_says_so_and_a_second_time_has_nothing_to_do() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    let all: Vec<i64> = shared::database::MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .collect();
    let report = |applied: &[i64]| json!({ "applied": applied, "version": all.last(), "role": role.name });
    assert_eq!(role.migrate().await, report(&all));
    assert_eq!(role.migrate().await, report(&[]));
    let member = format!("SELECT pg_has_role('{}', 'rds_iam', 'MEMBER')", role.name);
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
async fn the_service_works_as_the_applications_role_which_can_change_nothing_but_rows_of_people() {
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

    let mut connection = service.database.connect().await;
    for forbidden in [
        "CREATE TABLE people.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE people.\"user\" ADD COLUMN mine int",
        "DROP TABLE people.user_session",
        "TRUNCATE people.user_session",
        "CREATE INDEX ON people.\"user\" (country)",
        "CREATE OR REPLACE FUNCTION people.forget_attempts() RETURNS void LANGUAGE sql AS ''",
        "CREATE ROLE mine",
        "UPDATE _sqlx_migrations SET success = false",
        "DELETE FROM _sqlx_migrations",
        "COPY people.\"user\" TO PROGRAM 'cat'",
    ] {
        let refused = connection.execute(forbidden).await.expect_err(forbidden);
        let code = refused
            .as_database_error()
            .and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        // Insufficient privilege.
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
}

#[tokio::test]
async fn the_password_of_the_role_is_replaced_when_it_changes() {
    let role = Role::new().await;
    make_rds_iam(&role.database).await;
    role.migrate().await;
    let first = role.sign_in().await;
    drop(first.connect().await);
    let mut owner = role.database.connect().await;
    let password = shared::roles::SignIn::Password("another".to_owned().into());
    shared::roles::grant(&mut owner, &role.name, &password)
        .await
        .unwrap();
    let second = first
        .url
        .replace("a%20password%20of%20the%20application", "another");
    drop(Database { url: second }.connect().await);
}

#[tokio::test]
async fn without_an_owner_that_may_it_fails_and_says_why() {
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
