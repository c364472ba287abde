//! `GET /health`.

use axum::http::Method;

use crate::harness::{Database, Reply, Service, request};
use crate::snapshot::assert_reply;

impl Service {
    async fn health(&self) -> Reply {
        self.send(request(Method::GET, "/health", &[], "")).await
    }
}

pub fn assert_down(reply: &Reply) {
    assert_reply!(reply, @r#"
    503 {"code":50301,"message":"The service is temporarily unavailable.",
      "data":{"status":"unavailable","database":"down","schema":"unknown"}}
    retry-after: 1
    "#);
}

pub fn assert_behind(reply: &Reply) {
    assert_reply!(reply, @r#"
    503 {"code":50301,"message":"The service is temporarily unavailable.",
      "data":{"status":"unavailable","database":"up","schema":"behind"}}
    retry-after: 1
    "#);
}

pub fn assert_healthy(reply: &Reply) {
    assert_reply!(reply, @r#"
    200 {"code":1,"message":"success","data":{"status":"ok","database":"up","schema":"current"}}
    "#);
}

#[tokio::test]
async fn a_ready_service_is_ok() {
    let service = Service::start().await;
    assert_healthy(&service.health().await);
}

#[tokio::test]
async fn health_neither_needs_nor_reads_credentials() {
    let service = Service::start().await;
    assert_healthy(&service.get("/health", "nonsense").await);
}

#[tokio::test]
async fn a_database_that_refuses_connections_is_down() {
    let nowhere = Database {
        url: "postgres://people@127.0.0.1:1/people?sslmode=disable".to_owned(),
    };
    let service = Service::on(nowhere, &[]);
    assert_down(&service.health().await);
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_down() {
    let mut database = Database::empty().await;
    database.url = database.url.replace("/people_test_", "/no_such_people_test_");
    let service = Service::on(database, &[]);
    assert_down(&service.health().await);
}

#[tokio::test]
async fn a_database_without_migrations_is_behind() {
    let service = Service::on(Database::empty().await, &[]);
    assert_behind(&service.health().await);
}

#[tokio::test]
async fn a_database_that_lacks_one_migration_is_behind() {
    let service = Service::start().await;
    let latest = "version = (SELECT max(version) FROM people._sqlx_migrations)";
    service
        .database
        .execute(&format!(
            "UPDATE people._sqlx_migrations SET success = false WHERE {latest}"
        ))
        .await;
    assert_behind(&service.health().await);
    service
        .database
        .execute(&format!("DELETE FROM people._sqlx_migrations WHERE {latest}"))
        .await;
    assert_behind(&service.health().await);
}

#[tokio::test]
async fn a_service_becomes_ok_when_its_database_is_migrated() {
    let database = Database::empty().await;
    let service = Service::on(database.clone(), &[]);
    assert_behind(&service.health().await);
    shared::database::migrate(&database.options())
        .await
        .expect("migrations run");
    assert_healthy(&service.health().await);
}

#[tokio::test]
async fn a_schema_newer_than_the_code_is_ok() {
    let service = Service::start().await;
    service
        .database
        .execute(
            "INSERT INTO people._sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (99990101000000, 'of a later release', true, '', 0)",
        )
        .await;
    assert_healthy(&service.health().await);
    assert_eq!(service.register("alice").await.status, 200);
}

#[tokio::test]
async fn a_schema_that_cannot_be_read_is_unknown_in_a_database_that_is_up() {
    let service = Service::start().await;
    service
        .database
        .execute("ALTER TABLE people._sqlx_migrations RENAME COLUMN success TO succeeded")
        .await;
    assert_reply!(service.health().await, @r#"
    503 {"code":50301,"message":"The service is temporarily unavailable.",
      "data":{"status":"unavailable","database":"up","schema":"unknown"}}
    retry-after: 1
    "#);
}

#[tokio::test]
async fn health_shows_no_versions() {
    let service = Service::start().await;
    let reply = service.health().await;
    let server_version = service
        .database
        .text("SELECT current_setting('server_version')")
        .await
        .expect("a version");
    assert!(!reply.text.contains(&server_version), "{}", reply.text);
    assert!(!reply.text.contains(env!("CARGO_PKG_VERSION")), "{}", reply.text);
    assert_eq!(reply.header("server"), None);
}
