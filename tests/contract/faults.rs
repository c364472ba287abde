//! Database failures: always a documented response in time, nothing written partially, and the next request works.

use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use local::postgres::Server;
use shared::config::{DatabaseConfig, Timeouts};
use shared::database::{DatabaseError, one_request};
use sqlx::{Connection as _, Executor as _};

use crate::harness::{Database, PASSWORD, PATIENT, Reply, Service, request};
use crate::health::{assert_behind, assert_down};
use crate::proxy::{Link, Proxy};

/// A request that is answered later than this hangs. The product's own limits are far below; what they cut off is seen
/// by what is answered, not by when, so that a busy machine fails no test.
const BOUND: Duration = Duration::from_mins(1);

/// Runs a request that must not hang.
async fn in_time(request: impl Future<Output = Reply>) -> Reply {
    let started = Instant::now();
    let reply = request.await;
    assert!(
        started.elapsed() < BOUND,
        "answered after {:?}",
        started.elapsed()
    );
    reply
}

/// Every endpoint except health responds with 503, in time.
async fn assert_all_unavailable(service: &Service, token: &str) {
    let (me, logout, login, register) = tokio::join!(
        in_time(service.get("/auth/me", token)),
        in_time(service.log_out(token)),
        in_time(service.log_in("alice", PASSWORD)),
        in_time(service.register("bob")),
    );
    for reply in [me, logout, login, register] {
        reply.assert_error(50301);
    }
}

/// Every endpoint works for a user who is logged in with `token`, which is logged out at the end.
async fn assert_all_work(service: &Service, token: &str) {
    let health = in_time(service.send(request(Method::GET, "/health", &[], ""))).await;
    assert_eq!(health.status, StatusCode::OK, "{}", health.text);
    for reply in [
        in_time(service.get("/auth/me", token)).await,
        in_time(service.log_in("alice", PASSWORD)).await,
        in_time(service.register(&uuid::Uuid::new_v4().to_string())).await,
        in_time(service.log_out(token)).await,
    ] {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }
}

async fn health_of_a_down_database(service: &Service) {
    let reply = in_time(service.send(request(Method::GET, "/health", &[], ""))).await;
    assert_down(&reply);
}

/// A service that waits no longer than a deployed one, for what is about that.
fn as_deployed(database: Database) -> Service {
    Service::with_timeouts(database, &[], Timeouts::default())
}

/// A service behind a proxy, with alice registered and logged in.
async fn behind_a_proxy(timeouts: Timeouts) -> (Proxy, Service, String) {
    let database = Database::migrated().await;
    let proxy = Proxy::to(&database, Link::Up).await;
    // The test itself bypasses the proxy.
    let mut service = Service::with_timeouts(proxy.of(&database), &[], timeouts);
    service.database = database;
    let token = service.token_of_new_user("alice").await;
    (proxy, service, token)
}

#[tokio::test]
async fn a_database_that_is_down_at_the_start_is_503_until_it_is_there() {
    let database = Database::migrated().await;
    let token = Service::on(database.clone(), &[])
        .token_of_new_user("alice")
        .await;
    let proxy = Proxy::to(&database, Link::Refusing).await;
    let service = Service::on(proxy.of(&database), &[]);
    assert_all_unavailable(&service, &token).await;
    health_of_a_down_database(&service).await;
    proxy.set(Link::Up);
    assert_all_work(&service, &token).await;
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_503_in_time() {
    let (proxy, service, token) = behind_a_proxy(Timeouts::default()).await;
    proxy.set(Link::Silent);
    assert_all_unavailable(&service, &token).await;
    health_of_a_down_database(&service).await;
    proxy.set(Link::Up);
    assert_all_work(&service, &token).await;
}

#[tokio::test]
async fn a_connection_that_was_ended_while_idle_is_replaced_within_the_request() {
    for path in [
        "/auth/me",
        "/auth/login",
        "/user/register",
        "/auth/logout",
        "/health",
    ] {
        let service = Service::start().await;
        let token = service.token_of_new_user("alice").await;
        // One connection, used just now.
        service
            .database
            .execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        let reply = in_time(async {
            match path {
                "/auth/me" => service.get(path, &token).await,
                "/auth/login" => service.log_in("alice", PASSWORD).await,
                "/user/register" => service.register("bob").await,
                "/auth/logout" => service.log_out(&token).await,
                _ => service.send(request(Method::GET, path, &[], "")).await,
            }
        })
        .await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_read_whose_connection_was_cut_is_repeated() {
    let (proxy, service, token) = behind_a_proxy(PATIENT).await;
    proxy.cut_connections();
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_connection_that_died_in_a_freeze_is_replaced_within_the_request() {
    let (proxy, service, token) = behind_a_proxy(Timeouts::default()).await;
    proxy.freeze_connections();
    // Longer than a connection is used without a ping.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let reply = in_time(service.register("bob")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    proxy.freeze_connections();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_all_work(&service, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_while_idle_goes_unnoticed() {
    let mut server = tokio::task::block_in_place(Server::throwaway).unwrap();
    let database = Database {
        url: server.url().to_owned(),
    };
    shared::database::migrate(&database.options()).await.unwrap();
    let service = Service::on(database, &[]);
    let token = service.token_of_new_user("alice").await;
    tokio::task::block_in_place(|| server.end("INT")).unwrap();
    assert!(tokio::task::block_in_place(|| server.restart_if_down()).unwrap());
    assert_all_work(&service, &token).await;
    tokio::task::block_in_place(|| server.stop()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_stopped_or_paused_is_503_and_serves_again_afterwards() {
    let mut server = tokio::task::block_in_place(Server::throwaway).unwrap();
    let database = Database {
        url: server.url().to_owned(),
    };
    shared::database::migrate(&database.options()).await.unwrap();
    let service = as_deployed(database);
    let token = service.token_of_new_user("alice").await;

    // The throw-away server does not sync to disk: this makes the session survive the crash.
    service.database.execute("CHECKPOINT").await;
    tokio::task::block_in_place(|| server.end("QUIT")).unwrap();
    assert_all_unavailable(&service, &token).await;
    health_of_a_down_database(&service).await;
    assert!(tokio::task::block_in_place(|| server.restart_if_down()).unwrap());
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);

    tokio::task::block_in_place(|| server.signal("STOP")).unwrap();
    let me = in_time(service.get("/auth/me", &token)).await;
    tokio::task::block_in_place(|| server.signal("CONT")).unwrap();
    assert!([200, 503].contains(&me.status.as_u16()), "{}", me.text);
    assert_all_work(&service, &token).await;
    tokio::task::block_in_place(|| server.stop()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_reads_is_503_until_it_writes() {
    let server = tokio::task::block_in_place(Server::throwaway).unwrap();
    let database = Database {
        url: server.url().to_owned(),
    };
    shared::database::migrate(&database.options()).await.unwrap();
    let service = Service::on(database.clone(), &[]);
    let token = service.token_of_new_user("alice").await;
    // As a former primary: what it knows of sessions may be out of date.
    let only_reads = async |value| {
        let setting = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        database.execute(&setting).await;
        database.execute("SELECT pg_reload_conf()").await;
    };
    only_reads("on").await;
    let started = Instant::now();
    let instance = loop {
        assert!(started.elapsed() < BOUND, "served");
        let instance = Service::on(database.clone(), &[]);
        // The server reads its settings again in a moment.
        if instance.get("/auth/me", &token).await.status != StatusCode::OK {
            break instance;
        }
    };
    assert_all_unavailable(&instance, &token).await;
    health_of_a_down_database(&instance).await;
    only_reads("off").await;
    while instance.get("/health", "").await.status != StatusCode::OK {
        assert!(started.elapsed() < 2 * BOUND, "not served");
    }
    assert_all_work(&instance, &token).await;
    tokio::task::block_in_place(|| server.stop()).unwrap();
}

/// Holds a lock that statements on `table` wait for, until it is dropped.
async fn lock(database: &Database, table: &str) -> sqlx::PgConnection {
    let mut connection = database.connect().await;
    connection
        .execute(&*format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        .await
        .unwrap();
    connection
}

/// Terminates the connection that waits for a lock, as soon as there is one, and then releases the lock.
async fn end_the_waiting_connection(mut holder: sqlx::PgConnection) {
    holder.execute(UNTIL_SOMEBODY_WAITS).await.unwrap();
    holder
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid));
             COMMIT",
        )
        .await
        .unwrap();
    holder.close().await.unwrap();
}

#[tokio::test]
async fn a_read_terminated_by_the_server_is_retried_once() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let holder = lock(&service.database, "people.user_session").await;
    let (reply, ()) = tokio::join!(
        in_time(service.get("/auth/me", &token)),
        end_the_waiting_connection(holder)
    );
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn a_write_terminated_by_the_server_was_rolled_back_and_is_retried() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    let holder = lock(&service.database, "people.user_session").await;
    let (reply, ()) = tokio::join!(
        in_time(service.log_out(&token)),
        end_the_waiting_connection(holder)
    );
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    service.get("/auth/me", &token).await.assert_error(40103);

    let holder = lock(&service.database, "people.\"user\"").await;
    let (reply, ()) = tokio::join!(
        in_time(service.register("bob")),
        end_the_waiting_connection(holder)
    );
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(service.database.count("people.\"user\"").await, 2);
}

/// Waits until a statement waits for a lock that this connection has. The server looks itself: a busy test would come
/// too late.
const UNTIL_SOMEBODY_WAITS: &str = "DO $$ BEGIN
    WHILE clock_timestamp() < now() + interval '1 minute' AND NOT EXISTS (
        SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
    ) LOOP
        PERFORM pg_sleep(0.005);
    END LOOP;
END $$";

#[tokio::test]
async fn a_write_with_a_serialization_failure_is_retried_once() {
    let database = Database::migrated().await;
    // A row that was changed since the transaction began is then an error (40001), as under a stricter default of
    // theirs.
    database
        .execute(&format!(
            "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'",
            database.name()
        ))
        .await;
    let service = Service::on(database, &[]);
    let token = service.token_of_new_user("alice").await;
    let mut other = service.database.connect().await;
    other
        .execute("BEGIN; UPDATE people.user_session SET expires_at = expires_at + interval '1 second'")
        .await
        .unwrap();
    let (reply, ()) = tokio::join!(in_time(service.log_out(&token)), async {
        other.execute(UNTIL_SOMEBODY_WAITS).await.unwrap();
        other.execute("COMMIT").await.unwrap();
    });
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    service.get("/auth/me", &token).await.assert_error(40103);
}

#[tokio::test]
async fn a_write_in_a_deadlock_is_retried_once() {
    let database = Database::migrated().await;
    // The first time, ending a session also locks another row.
    database
        .execute(&format!(
            "ALTER DATABASE {} SET deadlock_timeout = '3s';
             CREATE TABLE public.another AS SELECT 1 AS id;
             CREATE SEQUENCE public.tries;
             CREATE FUNCTION take_another() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN
                      IF nextval(''public.tries'') = 1 THEN PERFORM FROM public.another FOR UPDATE; END IF;
                      RETURN new;
                  END';
             CREATE TRIGGER another BEFORE UPDATE ON people.user_session FOR EACH ROW
                 EXECUTE FUNCTION take_another()",
            database.name()
        ))
        .await;
    let service = Service::on(database, &[]);
    let token = service.token_of_new_user("alice").await;
    let mut other = service.database.connect().await;
    // The deadlock has to be detected in the statement of the service.
    other
        .execute("SET deadlock_timeout = '1min'; BEGIN; SELECT FROM public.another FOR UPDATE")
        .await
        .unwrap();
    let (reply, ()) = tokio::join!(in_time(service.log_out(&token)), async {
        // In one message, so that it comes before the service looks for a deadlock, which it does once a wait. It waits
        // until the service has been made to give the session up.
        let then = format!("{UNTIL_SOMEBODY_WAITS}; SELECT FROM people.user_session FOR UPDATE; COMMIT");
        other.execute(&*then).await.unwrap();
    });
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn a_statement_that_fails_again_when_retried_is_503() {
    for (code, tries) in [
        ("40001", "2"),
        ("40P01", "2"),
        // It is unknown whether it was committed.
        ("40003", "1"),
        ("57P01", "2"),
        ("57P05", "2"),
        // Too slow: cancelled by the server.
        ("57014", "1"),
    ] {
        let service = Service::start().await;
        let token = service.token_of_new_user("alice").await;
        service
            .database
            .execute(&format!(
                "CREATE SEQUENCE public.tries;
                 CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                     BEGIN
                         PERFORM nextval('public.tries');
                         RAISE EXCEPTION 'no' USING ERRCODE = '{code}';
                     END $$;
                 CREATE TRIGGER refuse BEFORE UPDATE ON people.user_session FOR EACH ROW EXECUTE FUNCTION refuse()"
            ))
            .await;
        in_time(service.log_out(&token)).await.assert_error(50301);
        let tried = service.database.text("SELECT last_value FROM public.tries").await;
        assert_eq!(tried.as_deref(), Some(tries), "{code}");
        assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_503_and_changes_nothing() {
    let service = as_deployed(Database::migrated().await);
    let token = service.token_of_new_user("alice").await;
    let holder = lock(&service.database, "people.user_session, people.\"user\"").await;
    assert_all_unavailable(&service, &token).await;
    holder.close().await.unwrap();
    assert_eq!(service.database.count("people.user_session").await, 1);
    assert_all_work(&service, &token).await;
}

#[tokio::test]
async fn no_free_connection_is_503_in_time() {
    let database = Database::migrated().await;
    let role = format!("limited_{}", uuid::Uuid::new_v4().simple());
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'limited' CONNECTION LIMIT 1;
             GRANT USAGE ON SCHEMA people TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA people TO {role};
             GRANT SELECT ON people._sqlx_migrations TO {role}"
        ))
        .await;
    let url = database
        .url
        .split_once('@')
        .map(|(_, place)| format!("postgres://{role}:limited@{place}"));
    let limited = Database { url: url.unwrap() };
    let token = Service::on(database.clone(), &[])
        .token_of_new_user("alice")
        .await;
    let the_one = limited.connect().await;
    let service = Service::on(limited, &[]);
    assert_all_unavailable(&service, &token).await;
    health_of_a_down_database(&service).await;
    the_one.close().await.unwrap();
    let reply = in_time(service.get("/auth/me", &token)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    database.execute(&format!("DROP OWNED BY {role}")).await;
}

/// A service behind a proxy, with a connection on which every statement has been prepared.
async fn warm_behind_a_proxy(timeouts: Timeouts) -> (Proxy, Service, String) {
    let (proxy, service, token) = behind_a_proxy(timeouts).await;
    assert_all_work(&service, &token).await;
    let token = service.log_in("alice", PASSWORD).await.access_token();
    (proxy, service, token)
}

#[tokio::test]
async fn a_registration_whose_answer_is_lost_answers_409_when_it_is_repeated() {
    let (proxy, service, _) = warm_behind_a_proxy(PATIENT).await;
    proxy.set(Link::LosingAnswer(2));
    in_time(service.register("bob")).await.assert_error(50301);
    proxy.set(Link::Up);
    service.register("bob").await.assert_error(40901);
    assert_eq!(service.log_in("bob", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_login_whose_answer_is_lost_opens_a_second_session_when_it_is_repeated() {
    let (proxy, service, _) = warm_behind_a_proxy(PATIENT).await;
    let before = service.database.count("people.user_session").await;
    proxy.set(Link::LosingAnswer(2));
    in_time(service.log_in("alice", PASSWORD))
        .await
        .assert_error(50301);
    proxy.set(Link::Up);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, StatusCode::OK);
    assert_eq!(service.database.count("people.user_session").await, before + 2);
}

#[tokio::test]
async fn a_logout_whose_answer_is_lost_answers_401_when_it_is_repeated() {
    let (proxy, service, token) = warm_behind_a_proxy(PATIENT).await;
    proxy.set(Link::LosingAnswer(1));
    in_time(service.log_out(&token)).await.assert_error(50301);
    proxy.set(Link::Up);
    let repeated = service.log_out(&token).await;
    repeated.assert_error(40103);
}

#[tokio::test]
async fn a_connection_that_is_cut_between_two_statements_leaves_nothing_half_written() {
    let (proxy, service, _) = warm_behind_a_proxy(PATIENT).await;
    let sessions = service.database.count("people.user_session").await;
    proxy.set(Link::LosingRequest(2));
    in_time(service.log_in("alice", PASSWORD))
        .await
        .assert_error(50301);
    proxy.set(Link::Up);
    assert_eq!(service.database.count("people.user_session").await, sessions);
    assert_eq!(service.get("/health", "").await.status, StatusCode::OK);

    proxy.set(Link::LosingRequest(2));
    in_time(service.register("bob")).await.assert_error(50301);
    proxy.set(Link::Up);
    assert_eq!(
        service
            .database
            .count("people.\"user\" WHERE userid = 'bob'")
            .await,
        0
    );
    assert_eq!(service.register("bob").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_warm_request_takes_the_documented_round_trips() {
    let (proxy, service, token) = warm_behind_a_proxy(PATIENT).await;
    assert_eq!(
        service.log_in("alice", "wrong").await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        service.log_in("nobody", "wrong").await.status,
        StatusCode::UNAUTHORIZED
    );
    service.database.lock_out().await;
    proxy.round_trips();
    let mut counted = Vec::new();
    let mut count = |what, status: StatusCode| counted.push((what, status.as_u16(), proxy.round_trips()));
    count("locked", service.log_in("alice", PASSWORD).await.status);
    count("me", service.get("/auth/me", &token).await.status);
    count("health", service.get("/health", "").await.status);
    service.database.execute("DELETE FROM people.attempt").await;
    count("wrong password", service.log_in("alice", "wrong").await.status);
    count("unknown userid", service.log_in("nobody", "wrong").await.status);
    count("login", service.log_in("alice", PASSWORD).await.status);
    count("register", service.register("bob").await.status);
    count("userid taken", service.register("bob").await.status);
    count("logout", service.log_out(&token).await.status);
    count("logged out", service.get("/auth/me", &token).await.status);
    count("forged", service.get("/auth/me", "a.b.c").await.status);
    assert_eq!(
        counted,
        [
            ("locked", 429, 1),
            ("me", 200, 1),
            ("health", 200, 1),
            ("wrong password", 401, 1),
            ("unknown userid", 401, 1),
            ("login", 200, 2),
            ("register", 200, 2),
            ("userid taken", 409, 1),
            ("logout", 200, 1),
            ("logged out", 401, 1),
            ("forged", 401, 0),
        ]
    );
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn the_statements_of_a_request_share_its_time_budget() {
    let (proxy, service, token) = warm_behind_a_proxy(Timeouts::default()).await;
    // Each alone is fast enough.
    proxy.set(Link::Slow(Timeouts::default().request.mul_f64(0.6)));
    let (login, register) = tokio::join!(
        in_time(service.log_in("alice", PASSWORD)),
        in_time(service.register("bob"))
    );
    login.assert_error(50301);
    register.assert_error(50301);
    proxy.set(Link::Up);
    assert_eq!(
        service
            .database
            .count(r#"people."user" WHERE userid = 'bob'"#)
            .await,
        0
    );
    assert_all_work(&service, &token).await;
}

#[test]
fn the_time_budget_for_statements_leaves_time_for_the_rest_of_a_request() {
    assert!(Timeouts::default().request <= Duration::from_millis(2_700));
}

/// The database behind the proxy, with 2 s for the statements of a request.
fn with_two_seconds_a_request(proxy: &Proxy, service: &Service) -> shared::database::Database {
    let url = proxy.of(&service.database).url;
    let settings = [("DATABASE_URL", url.as_str())].into_iter().collect();
    let mut config = DatabaseConfig::from_environment(&settings).unwrap();
    config.timeouts.request = Duration::from_secs(2);
    shared::database::Database::new(config)
}

/// What a request does besides waiting for the database, such as hashing, is part of its time.
#[tokio::test]
async fn other_work_counts_but_leaves_a_statement_a_moment() {
    let (proxy, service, _) = warm_behind_a_proxy(PATIENT).await;
    let database = &with_two_seconds_a_request(&proxy, &service);
    let after = |work: Duration| {
        one_request(async move {
            tokio::time::sleep(work).await;
            database
                .read(&(), |connection, ()| {
                    Box::pin(sqlx::query("SELECT 1").execute(connection))
                })
                .await
        })
    };
    after(Duration::ZERO).await.expect("connected");
    proxy.set(Link::Slow(Duration::from_millis(450)));
    let error = after(Duration::from_millis(1_900)).await.expect_err("too late");
    assert!(matches!(error, DatabaseError::Unavailable(_)), "{error}");
    proxy.set(Link::Up);
    // On a slow machine the moment may be too short.
    while after(Duration::from_secs(3)).await.is_err() {}
}

#[tokio::test]
async fn the_remaining_time_budget_applies_to_any_number_of_statements() {
    let (proxy, service, _) = warm_behind_a_proxy(PATIENT).await;
    let database = with_two_seconds_a_request(&proxy, &service);
    let one = || {
        database.read(&(), |connection, ()| {
            Box::pin(sqlx::query("SELECT 1").execute(connection))
        })
    };
    one().await.expect("connected");
    proxy.set(Link::Slow(Duration::from_millis(450)));
    let mut answered = 0;
    let error = one_request(async {
        loop {
            match one().await {
                Ok(_) => answered += 1,
                Err(error) => break error,
            }
        }
    })
    .await;
    assert!(matches!(error, DatabaseError::Unavailable(_)), "{error}");
    // A slow machine does fewer.
    assert!(answered <= 4, "{answered}");
    // The next request has a new budget.
    proxy.set(Link::Up);
    one_request(one()).await.expect("answered");
}

#[tokio::test]
async fn the_first_request_on_a_connection_made_in_advance_only_has_to_prepare_its_statements() {
    for route in functions::routes() {
        let behind = Service::start().await;
        let token = match route.path() {
            "/user/register" => String::new(),
            _ => behind.token_of_new_user("alice").await,
        };
        let proxy = Proxy::to(&behind.database, Link::Up).await;
        let first = Service::on(proxy.of(&behind.database), &[]);
        first.connect_ahead().await;
        proxy.round_trips();
        let request = behind.valid_example(route, &token).await;
        let reply = first.send(request).await;
        assert_eq!(proxy.connections(), 1);
        // Two for each statement, since the driver prepares it first.
        let round_trips = match route.path() {
            // Before the hash, or the check of the link, and after it.
            "/user/register"
            | "/auth/login"
            | "/auth/token"
            | "/auth/password"
            | "/auth/reset"
            | "/auth/email"
            | "/auth/email/confirm"
            | "/user/delete" => 4,
            _ => 2,
        };
        let counted = (reply.status.as_u16(), proxy.round_trips());
        assert_eq!(counted, (200, round_trips), "{}", route.key());
    }
}

#[tokio::test]
async fn a_database_without_a_schema_is_connected_to_in_advance_too() {
    let database = Database::empty().await;
    let service = Service::on(database.clone(), &[]);
    service.connect_ahead().await;
    shared::database::migrate(&database.options()).await.unwrap();
    let token = service.token_of_new_user("alice").await;
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_in_advance_is_made_by_the_first_request() {
    let behind = Service::start().await;
    let token = behind.token_of_new_user("alice").await;
    let proxy = Proxy::to(&behind.database, Link::Refusing).await;
    let service = Service::on(proxy.of(&behind.database), &[]);
    service.connect_ahead().await;
    proxy.set(Link::Up);
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);

    proxy.set(Link::Silent);
    let service = as_deployed(proxy.of(&behind.database));
    let (reply, ()) = tokio::join!(in_time(service.get("/auth/me", &token)), service.connect_ahead());
    reply.assert_error(50301);
}

#[tokio::test]
async fn an_outdated_schema_is_503_on_health_and_everywhere() {
    let service = Service::on(Database::empty().await, &[]);
    assert_behind(&service.get("/health", "").await);
    let token = Service::start().await.token_of_new_user("alice").await;
    assert_all_unavailable(&service, &token).await;
    shared::database::migrate(&service.database.options())
        .await
        .unwrap();
    assert_eq!(service.get("/health", "").await.status, StatusCode::OK);
    assert_eq!(service.register("alice").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_schema_change_under_a_kept_connection_goes_unnoticed() {
    let service = Service::start().await;
    let token = service.token_of_new_user("alice").await;
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
    // The kept connection has a plan for the old type: "cached plan must not change result type".
    service
        .database
        .execute("ALTER TABLE people.\"user\" ALTER COLUMN job TYPE varchar(64)")
        .await;
    assert_eq!(service.get("/auth/me", &token).await.status, StatusCode::OK);
    assert_eq!(service.log_in("alice", PASSWORD).await.status, StatusCode::OK);
}
