//! Behind a real `PgBouncer` in transaction mode.

use axum::http::StatusCode;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::sync::Semaphore;

use crate::harness::{Database, PASSWORD, Reply, Service};
use crate::health::assert_down;
use crate::pgbouncer::{PgBouncer, SERVER_CONNECTIONS};

impl PgBouncer {
    /// An instance of the service behind the pooler.
    fn instance(&self, database: &Database) -> Service {
        let settings = [
            ("DATABASE_URL", self.url.as_str()),
            ("DATABASE_POOLER", "transaction"),
            // Keep the database busy, not the CPU.
            ("ARGON2_MEMORY_KIB", "64"),
            ("FAILURES_PER_ADDRESS", "0"),
            ("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "0"),
        ];
        Service::on(database.clone(), &settings)
    }

    /// Asserts that the pooler's server connections are as it got them: no open transaction, no prepared statement, no
    /// setting. A server connection that was lost may be gone, or another.
    async fn assert_clean(&self, database: &Database) {
        // Held concurrently, so that each uses another server connection.
        let mut clients = Vec::new();
        for _ in 0..SERVER_CONNECTIONS {
            let mut client = self.options().connect().await.expect("the pooler answers");
            client.execute("BEGIN").await.expect("BEGIN");
            clients.push(client);
        }
        let mut servers = Vec::new();
        for client in &mut clients {
            servers.push(server_state(client).await);
        }
        let ours = servers
            .iter()
            .map(|(pid, _)| pid.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        servers.dedup_by_key(|(pid, _)| *pid);
        assert_eq!(servers.len(), SERVER_CONNECTIONS);
        for (_, state) in servers {
            assert_eq!(
                state,
                "0 prepared statements, statement_timeout as it was, advisory locks 0"
            );
        }
        let open = format!(
            "pg_stat_activity WHERE datname = '{}' AND backend_type = 'client backend' AND xact_start IS NOT NULL
                 AND pid NOT IN (pg_backend_pid(), {ours})",
            database.name()
        );
        assert_eq!(database.count(&open).await, 0);
        for mut client in clients {
            client.execute("ROLLBACK").await.expect("ROLLBACK");
            client.close().await.expect("closed");
        }
    }
}

/// The server process of a client of the pooler, and its leftovers from others.
async fn server_state(client: &mut PgConnection) -> (i32, String) {
    // As one message, without a prepared statement.
    let row = sqlx::raw_sql(
        "SELECT pg_backend_pid() AS pid,
                (SELECT count(*) FROM pg_prepared_statements) || ' prepared statements, statement_timeout '
                || (SELECT CASE WHEN setting = reset_val THEN 'as it was' ELSE setting END
                    FROM pg_settings WHERE name = 'statement_timeout') || ', advisory locks '
                || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS state",
    )
    .fetch_one(client)
    .await
    .expect("a row");
    (row.get("pid"), row.get("state"))
}

/// The userid in a successful response.
#[track_caller]
fn userid(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let json = reply.json();
    json["data"]["user_info"]["userid"]
        .as_str()
        .expect("a userid")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_requests_of_many_users_never_get_another_users_data() {
    const USERS: usize = 24;
    // More than the pooler has server connections, but few enough for a slow machine.
    static IN_FLIGHT: Semaphore = Semaphore::const_new(3 * SERVER_CONNECTIONS);
    let database = Database::migrated().await;
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let instances: Vec<Service> = (0..4).map(|_| pooler.instance(&database)).collect();
    let instance = |n: usize| instances[n % instances.len()].clone();

    let registered: Vec<_> = (0..USERS)
        .map(|user| {
            let service = instance(user);
            tokio::spawn(async move {
                let _turn = IN_FLIGHT.acquire().await;
                service.token_of_new_user(&format!("user-{user}")).await
            })
        })
        .collect();
    let mut tokens = Vec::new();
    for token in registered {
        tokens.push(token.await.expect("no panic"));
    }

    // Different statements, with different numbers and types of parameters, in every order.
    let requests: Vec<_> = (0..240)
        .map(|n| {
            let user = n % USERS;
            let service = instance(n / 5);
            let token = tokens[user].clone();
            tokio::spawn(async move {
                let _turn = IN_FLIGHT.acquire().await;
                let name = format!("user-{user}");
                match n % 5 {
                    0 | 1 => assert_eq!(userid(&service.get("/auth/me", &token).await), name),
                    2 => {
                        let reply = service.log_in(&name, PASSWORD).await;
                        assert_eq!(userid(&reply), name);
                        let token = reply.access_token();
                        assert_eq!(userid(&service.get("/auth/me", &token).await), name);
                        assert_eq!(service.log_out(&token).await.status, StatusCode::OK);
                        let reply = service.get("/auth/me", &token).await;
                        reply.assert_error(40103);
                    }
                    3 => {
                        let another = format!("another-{n}");
                        assert_eq!(userid(&service.register(&another).await), another);
                    }
                    _ => {
                        let reply = service.get("/health", "").await;
                        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
                        let reply = service.register(&name).await;
                        reply.assert_error(40901);
                    }
                }
            })
        })
        .collect();
    for request in requests {
        request.await.expect("as it should be");
    }
    assert_eq!(database.count(r#"people."user""#).await, 24 + 48);
    assert_eq!(database.count("people.user_session").await, 24 + 48);
    pooler.assert_clean(&database).await;
}

#[tokio::test]
async fn a_statement_that_fails_leaves_nothing_behind() {
    let database = Database::migrated().await;
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let service = pooler.instance(&database);
    let token = service.token_of_new_user("alice").await;
    database
        .execute(r#"ALTER TABLE people."user" ADD CONSTRAINT no_bob CHECK (userid <> 'bob')"#)
        .await;
    // More requests than there are server connections.
    for _ in 0..=SERVER_CONNECTIONS {
        let reply = service.register("bob").await;
        reply.assert_error(50001);
        let reply = service.register("ALICE").await;
        reply.assert_error(40901);
        assert_eq!(userid(&service.get("/auth/me", &token).await), "alice");
    }
    pooler.assert_clean(&database).await;
    database
        .execute(r#"ALTER TABLE people."user" DROP CONSTRAINT no_bob"#)
        .await;
    assert_eq!(userid(&service.register("bob").await), "bob");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_also_cancelled_by_the_server() {
    let database = Database::migrated().await;
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    // As set on the role by `migrate`: behind a pooler the service sends no settings.
    database
        .execute(&format!(
            "ALTER DATABASE {} SET statement_timeout = '1500ms'",
            database.name()
        ))
        .await;
    let service = pooler.instance(&database);
    let token = service.token_of_new_user("alice").await;
    let mut locker = database.connect().await;
    locker
        .execute("BEGIN; LOCK TABLE people.user_session IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    let reply = service.get("/auth/me", &token).await;
    reply.assert_error(50301);
    locker.execute("ROLLBACK").await.expect("unlocked");
    assert_eq!(userid(&service.get("/auth/me", &token).await), "alice");
    pooler.assert_clean(&database).await;
}

#[tokio::test]
async fn a_lost_server_connection_is_replaced_within_the_request() {
    let database = Database::migrated().await;
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let service = pooler.instance(&database);
    let token = service.token_of_new_user("alice").await;
    for _ in 0..3 {
        let terminated = database
            .text(&format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = '{}' AND pid <> pg_backend_pid()",
                database.name()
            ))
            .await;
        assert_ne!(terminated.as_deref(), Some("0"));
        assert_eq!(userid(&service.get("/auth/me", &token).await), "alice");
        assert_eq!(userid(&service.log_in("alice", PASSWORD).await), "alice");
    }
    pooler.assert_clean(&database).await;
}

#[tokio::test]
async fn without_the_setting_requests_fail_rather_than_mixing_up_users() {
    let database = Database::migrated().await;
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let service = Service::on(database, &[("DATABASE_URL", &pooler.url)]);
    let reply = service.register("alice").await;
    reply.assert_error(50301);
    assert_down(&service.get("/health", "").await);
}

#[tokio::test]
async fn every_route_answers_and_leaves_its_connections_clean() {
    for route in functions::routes() {
        let database = Database::migrated().await;
        let Some(pooler) = PgBouncer::before(&database).await else {
            return;
        };
        let service = pooler.instance(&database);
        let token = match route.path() {
            "/user/register" => String::new(),
            _ => service.token_of_new_user("alice").await,
        };
        // Its use has to be noted, too.
        let stale = "UPDATE people.user_session SET last_seen = now() - interval '1 day'";
        database.execute(stale).await;
        let reply = service.send(service.valid_example(route, &token).await).await;
        assert_eq!(reply.status, StatusCode::OK, "{}: {}", route.key(), reply.text);
        pooler.assert_clean(&database).await;
    }
}
