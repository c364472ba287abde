//! Floods over TCP: many concurrent requests, clients that disconnect, and bodies that are too large, incomplete, too
//! deep or too slow. An instance responds with a documented error or closes the connection, with bounded memory, and
//! continues.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::app::App;
use shared::config::{Config, Environment};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Database, PASSWORD, PATIENT, Reply, SECRET_KEY};

/// Variable with the database of the flooded process.
const FLOODED_DATABASE: &str = "PEOPLE_FLOODED_DATABASE";
/// No response takes this long, however busy the machine is: handlers have a deadline of 10 s.
const HANG: Duration = Duration::from_mins(1);
/// Memory of one hash.
const HASH_KIB: u64 = 19_456;
/// Memory of everything else (200 connections, the list of common passwords, threads): less than one more hash.
const MARGIN_KIB: u64 = 16 * 1024;

/// An instance with all functions on a port, with hashes of normal size and no limit for attempts.
async fn serve(database: &Database) -> SocketAddr {
    let settings = [
        ("DATABASE_URL", &*database.url),
        ("SECRET_KEY", SECRET_KEY),
        ("FAILURES_PER_ADDRESS", "0"),
        ("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "0"),
        ("ARGON2_ITERATIONS", "1"),
    ];
    let environment: Environment = settings.into_iter().collect();
    let mut config = Config::from_environment(&environment).expect("usable settings");
    config.database.connections = 8;
    config.database.timeouts = PATIENT;
    let router = local::server::router(Arc::new(App::new(config)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());
    address
}

/// An instance in a separate process, so that its memory can be measured.
struct Instance {
    process: Child,
    address: SocketAddr,
}

impl Instance {
    async fn start(database: &Database) -> Self {
        let url = database.url.clone();
        let started = tokio::task::spawn_blocking(move || {
            let this_program = env::current_exe().expect("this program");
            let mut process = Command::new(this_program)
                .args(["--exact", "floods::flooded_process", "--ignored", "--nocapture"])
                .env(FLOODED_DATABASE, url)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process");
            let address = BufReader::new(process.stdout.as_mut().expect("its output"))
                .lines()
                .map_while(Result::ok)
                .find_map(|line| line.split_once("listening on ")?.1.parse().ok())
                .expect("its address");
            Self { process, address }
        });
        started.await.expect("an instance")
    }

    /// Its peak memory, in KiB, if the system reports that.
    fn peak_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        peak.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// Asserts that its memory has grown, since `before`, by at most one hash per processor.
    #[track_caller]
    fn assert_memory_is_bounded(&self, before: Option<u64>) {
        let processors = std::thread::available_parallelism().map_or(1, |processors| processors.get() as u64);
        let limit = processors * HASH_KIB + MARGIN_KIB;
        if let Some((before, after)) = before.zip(self.peak_kib()) {
            assert!(
                after - before <= limit,
                "from {before} KiB to {after} KiB; the limit is {limit} KiB more"
            );
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that other tests flood"]
async fn flooded_process() {
    let Ok(url) = env::var(FLOODED_DATABASE) else {
        return;
    };
    println!("\nlistening on {}", serve(&Database { url }).await);
    // Until killed, or until its parent has ended.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
}

fn post(path: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}\r\n"
    );
    [head.as_bytes(), body.as_ref()].concat()
}

/// A whole request with a JSON body.
fn post_json(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    post(path, &format!("content-length: {}\r\n", body.len()), body)
}

fn log_in(userid: &str, password: &str) -> Vec<u8> {
    post_json("/auth/login", &json!({ "userid": userid, "password": password }))
}

fn register(userid: &str) -> Vec<u8> {
    post_json(
        "/user/register",
        &json!({ "userid": userid, "password": PASSWORD }),
    )
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

fn me(token: &str) -> Vec<u8> {
    get("/auth/me", &format!("authorization: Bearer {token}\r\n"))
}

/// Sends bytes and reads until the connection is closed. `None` if there was no response.
async fn exchange(address: SocketAddr, request: Vec<u8>, then_close: bool) -> Option<Reply> {
    let conversation = async {
        let (mut from, mut to) = TcpStream::connect(address)
            .await
            .expect("a connection")
            .into_split();
        let sending = async {
            // A server that has seen enough may close before it has everything.
            let _ = to.write_all(&request).await;
            if then_close {
                let _ = to.shutdown().await;
            }
            to
        };
        let receiving = async {
            let mut answer = Vec::new();
            let _ = from.read_to_end(&mut answer).await;
            answer
        };
        tokio::join!(sending, receiving).1
    };
    let answer = timeout(HANG, conversation)
        .await
        .expect("an answer or a closed connection");
    let answer = String::from_utf8(answer).expect("UTF-8");
    if answer.is_empty() {
        return None;
    }
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    let (status, headers) = head.split_once("\r\n").expect("headers");
    let headers = headers.lines().map(|line| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.parse().expect("a name"), value.parse().expect("a value"))
    });
    let status = status.split(' ').nth(1).expect("a status");
    Some(Reply {
        status: status.parse().expect("a status"),
        headers: headers.collect(),
        text: body.to_owned(),
    })
}

async fn answer(address: SocketAddr, request: Vec<u8>) -> Reply {
    exchange(address, request, false).await.expect("an answer")
}

async fn assert_serving(address: SocketAddr) {
    let health = answer(address, get("/health", "")).await;
    assert_eq!(health.status, 200, "{}", health.text);
}

/// Registers alice, gives her password to `user1` to `userN`, and logs her in. Returns her token.
async fn create_users(address: SocketAddr, database: &Database, users: u32) -> String {
    assert_eq!(answer(address, register("alice")).await.status, 200);
    database
        .execute(&format!(
            r#"INSERT INTO people."user" (userid, user_name, password_hash)
               SELECT 'user' || n, 'user', password_hash FROM people."user", generate_series(1, {users}) AS n"#
        ))
        .await;
    answer(address, log_in("alice", PASSWORD)).await.access_token()
}

#[tokio::test]
async fn with_a_hundred_concurrent_logins_and_registrations_me_and_health_respond_and_memory_is_bounded() {
    let database = Database::migrated().await;
    let instance = Instance::start(&database).await;
    let address = instance.address;
    assert_serving(address).await;
    let before = instance.peak_kib();
    let token = create_users(address, &database, 75).await;

    let mut flood = JoinSet::new();
    for n in 1..=100 {
        let (login, expected) = match n {
            1..=50 => (log_in(&format!("user{n}"), PASSWORD), 200),
            51..=75 => (log_in(&format!("user{n}"), "wrong"), 401),
            _ => (log_in(&format!("nobody{n}"), "wrong"), 401),
        };
        flood.spawn(async move { ("login", expected, answer(address, login).await) });
        let registration = register(&format!("new{n}"));
        flood.spawn(async move { ("register", 200, answer(address, registration).await) });
    }
    let (mut done, mut late, mut looks) = (Vec::new(), Vec::new(), 0);
    while !flood.is_empty() {
        let (me, health) = tokio::join!(answer(address, me(&token)), answer(address, get("/health", "")));
        assert_eq!(
            (me.status.as_u16(), health.status.as_u16()),
            (200, 200),
            "{me:?} {health:?}"
        );
        looks += 1;
        while let Some(answered) = flood.try_join_next() {
            let (what, expected, answer) = answered.expect("an answer");
            match (answer.status.as_u16(), answer.json()["code"].as_u64()) {
                // On a machine that is too slow for all of them within the handlers' deadline.
                (503, Some(50301)) => late.push(what),
                (200, Some(1)) | (401, Some(40101)) if answer.status == expected => {
                    done.push((what, expected));
                }
                _ => panic!("{what}: {answer:?} instead of {expected}"),
            }
        }
    }
    assert!(looks > 1, "the flood was over before anybody looked");
    assert_eq!(done.len() + late.len(), 200);
    for (what, status, table) in [
        ("register", 200, "people.\"user\" WHERE userid LIKE 'new%'"),
        (
            "login",
            200,
            "people.user_session JOIN people.\"user\" USING (user_id) WHERE userid LIKE 'user%'",
        ),
    ] {
        let answered = done.iter().filter(|done| **done == (what, status)).count();
        let unknown = late.iter().filter(|late| **late == what).count();
        let written = usize::try_from(database.count(table).await).expect("a count");
        assert!(answered > 0, "no {what} succeeded");
        assert!(
            (answered..=answered + unknown).contains(&written),
            "{what}: {answered} of {written}"
        );
    }
    instance.assert_memory_is_bounded(before);
}

#[tokio::test]
async fn clients_that_disconnect_during_their_hash_release_their_resources() {
    let database = Database::migrated().await;
    let instance = Instance::start(&database).await;
    assert_serving(instance.address).await;
    let before = instance.peak_kib();
    let token = create_users(instance.address, &database, 50).await;

    let mut clients = Vec::new();
    for n in 1..=50 {
        let mut client = TcpStream::connect(instance.address).await.expect("a connection");
        client
            .write_all(&log_in(&format!("user{n}"), PASSWORD))
            .await
            .expect("sent");
        clients.push(client);
    }
    // An attempt is counted before it is hashed. The others wait for their turn.
    let first_counted = async {
        while database
            .count("people.attempt WHERE cardinality(in_flight) > 0")
            .await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, first_counted).await.expect("one has been counted");
    drop(clients);

    for _ in 0..3 {
        assert_eq!(
            answer(instance.address, log_in("alice", PASSWORD)).await.status,
            200
        );
    }
    assert_eq!(answer(instance.address, me(&token)).await.status, 200);
    assert_serving(instance.address).await;
    instance.assert_memory_is_bounded(before);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_however_it_is_sent() {
    let address = serve(&Database::migrated().await).await;
    let body = json!({ "userid": "alice", "password": PASSWORD }).to_string();
    let large = |bytes: usize| body.clone() + &" ".repeat(bytes - body.len());
    let chunked = |bytes: usize| {
        let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
        chunk.repeat(bytes / 0x400) + "0\r\n\r\n"
    };
    for path in ["/auth/login", "/user/register"] {
        for bytes in [16 * 1024 + 1, 100_000, 4_000_000] {
            let headers = format!("content-length: {bytes}\r\n");
            let reply = answer(address, post(path, &headers, large(bytes))).await;
            reply.assert_error(41301);
            let request = post(path, "transfer-encoding: chunked\r\n", chunked(bytes + 0x400));
            let reply = answer(address, request).await;
            reply.assert_error(41301);
        }
        // More than is worth reading to its end: whoever goes on sending may not get to read the answer.
        for request in [
            post(path, "content-length: 20000000\r\n", large(20_000_000)),
            post(path, "transfer-encoding: chunked\r\n", chunked(20_000_000)),
        ] {
            if let Some(reply) = exchange(address, request, false).await {
                reply.assert_error(41301);
            }
        }
        assert_serving(address).await;
    }
    // The largest that is read.
    let headers = format!("content-length: {}\r\n", 16 * 1024);
    let reply = answer(address, post("/user/register", &headers, large(16 * 1024))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn a_body_that_ends_early_is_refused() {
    let address = serve(&Database::migrated().await).await;
    for (headers, body) in [
        ("content-length: 100\r\n", "{\"userid\":"),
        ("content-length: 100\r\n", ""),
        ("content-length: 10000000000\r\n", "{}"),
        ("transfer-encoding: chunked\r\n", "a\r\n{\"use"),
        ("transfer-encoding: chunked\r\n", "2\r\n{}\r\n"),
        ("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n"),
        ("transfer-encoding: chunked\r\n", "ffffffffffffffff\r\n{}"),
    ] {
        for path in ["/auth/login", "/user/register", "/auth/logout"] {
            if let Some(reply) = exchange(address, post(path, headers, body), true).await {
                reply.assert_error(40001);
            }
        }
    }
    assert_serving(address).await;
}

#[tokio::test]
async fn a_body_that_is_nested_ten_thousand_deep_is_malformed() {
    let address = serve(&Database::migrated().await).await;
    for body in [
        "[".repeat(10_000),
        format!("{{\"a\":{}", "[".repeat(10_000)),
        format!("{{\"a\":{}{}}}", "[".repeat(8_000), "]".repeat(8_000)),
        format!("{}1{}", "{\"a\":".repeat(2_700), "}".repeat(2_700)),
    ] {
        for path in ["/auth/login", "/user/register"] {
            let reply = answer(
                address,
                post(path, &format!("content-length: {}\r\n", body.len()), &body),
            )
            .await;
            reply.assert_error(40001);
        }
    }
    let deep = "{\"a\":".repeat(10_000);
    let reply = answer(
        address,
        post(
            "/auth/login",
            &format!("content-length: {}\r\n", deep.len()),
            deep,
        ),
    )
    .await;
    reply.assert_error(41301);
    assert_serving(address).await;
}

#[tokio::test]
async fn huge_or_contradictory_headers_are_refused() {
    let address = serve(&Database::migrated().await).await;
    let reply = answer(address, me(&"a".repeat(60_000))).await;
    reply.assert_error(40103);
    let reply = answer(
        address,
        get("/auth/me", &format!("x: {}\r\n", "a".repeat(60_000))),
    )
    .await;
    reply.assert_error(40102);
    // Invalid requests are rejected by the HTTP library itself.
    for request in [
        get("/health", &format!("x: {}\r\n", "a".repeat(10_000_000))),
        get("/health", &"x: y\r\n".repeat(10_000)),
        get(&format!("/{}", "a".repeat(100_000)), ""),
        post("/auth/login", "content-length: 2\r\ncontent-length: 3\r\n", "{}"),
        post("/auth/login", "content-length: -1\r\n", "{}"),
        post("/auth/login", "content-length: 99999999999999999999\r\n", "{}"),
        get("/health", "x : y\r\n"),
        get("/health", "x\0: y\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        vec![0; 1_000_000],
        b"\r\n".repeat(500_000),
    ] {
        if let Some(reply) = exchange(address, request, true).await {
            assert!([400, 414, 431].contains(&reply.status.as_u16()), "{reply:?}");
        }
        assert_serving(address).await;
    }
}

#[tokio::test]
async fn a_body_that_takes_ten_seconds_is_refused_without_delaying_others() {
    let database = Database::migrated().await;
    let address = serve(&database).await;
    create_users(address, &database, 0).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let begun = post("/auth/login", "content-length: 16000\r\n", "{\"userid\":");
        client.write_all(&begun).await.expect("sent");
        clients.push(client);
    }
    assert_eq!(answer(address, log_in("alice", PASSWORD)).await.status, 200);
    assert_serving(address).await;

    // From here on, a second passes as soon as there is nothing else to do.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let mut waiting = JoinSet::new();
    for mut client in clients {
        waiting.spawn(async move {
            let mut answer = Vec::new();
            let mut buffer = [0; 1024];
            loop {
                tokio::select! {
                    read = client.read(&mut buffer) => match read {
                        Ok(length @ 1..) => answer.extend_from_slice(&buffer[..length]),
                        _ => break String::from_utf8(answer).expect("UTF-8"),
                    },
                    () = tokio::time::sleep(Duration::from_secs(1)) => {
                        let _ = client.write_all(b"x").await;
                    }
                }
            }
        });
    }
    while let Some(answer) = waiting.join_next().await {
        let answer = answer.expect("an answer");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 ") && answer.contains("40001"),
            "{answer}"
        );
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "after {took:?}");
    tokio::time::resume();
    assert_serving(address).await;
}
