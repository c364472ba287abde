//! Outages of a database under load: what fails, and what brings it back. The tests run each as quickly as the clients
//! see it; the bench `failover` as long as in reality.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use local::postgres::Server;
use tokio::task::block_in_place;

use crate::harness::Database;
use crate::journal::{CLIENTS, Clients, Seen};
use crate::proxy::{Link, Proxy};

/// Reads as much as there is, so that any write would show.
const CONTENTS: &str = r#"
    SELECT (SELECT md5(string_agg(u::text, ',' ORDER BY user_id)) FROM people."user" u)
        || (SELECT md5(string_agg(s::text, ',' ORDER BY session_id)) FROM people.user_session s)
        || (SELECT coalesce(md5(string_agg(a::text, ',' ORDER BY key)), '-') FROM people.attempt a)"#;

/// Commits that survive the end of the server, which those of a throw-away one do not, and that of the machine.
const SYNCHRONOUS: &str = "synchronous_commit = on";
const DURABLE: [&str; 2] = ["fsync = on", "full_page_writes = on"];

/// Size of a disk that fills up.
const DISK: &str = "size=256m";

/// An outage with the time that its parts take. A part ends no sooner than the clients have seen what it is for.
#[derive(Clone, Copy)]
pub struct Outage {
    /// Between two requests of a client.
    pub pause: Duration,
    /// How long the service works before the outage and after it.
    pub normal: Duration,
    /// How long the outage takes.
    pub broken: Duration,
    /// Whether the server writes through to its disk. Nothing here ends the machine.
    pub durable: bool,
}

/// What became of the clients.
pub struct Report {
    pub seen: Seen,
    /// What was done to the database, and when.
    pub marks: Vec<(Duration, &'static str)>,
}

/// Clients at work during an outage.
struct Run {
    clients: Clients,
    marks: Vec<(Duration, &'static str)>,
}

impl Run {
    async fn start(database: &Database, outage: Outage) -> Self {
        let clients = Clients::start(database, outage.pause).await;
        clients.all_served().await;
        let run = Self {
            clients,
            marks: Vec::new(),
        };
        tokio::time::sleep(outage.normal).await;
        run
    }

    fn mark(&mut self, what: &'static str) {
        self.marks.push((self.clients.now(), what));
    }

    /// At least until every client has been served by each function, and for `time`.
    async fn served_for(&self, time: Duration) {
        tokio::join!(self.clients.all_served(), tokio::time::sleep(time));
    }

    /// At least until so many clients have been told that the service is unavailable, and for `time`.
    async fn unavailable_for(&self, clients: usize, time: Duration) {
        tokio::join!(self.clients.unavailable(clients), tokio::time::sleep(time));
    }

    async fn finish(self, database: &Database) -> Report {
        Report {
            seen: self.clients.finish(database).await,
            marks: self.marks,
        }
    }
}

/// The primary of two servers is killed and the standby takes over. Then the former primary is back at its address, as
/// a standby that follows nobody and as a primary that only reads, while the address leads there again.
pub async fn failover(outage: Outage) -> Report {
    let (mut primary, before) = server(outage).await;
    let standby = block_in_place(|| standby(&mut primary));
    let after = at(&standby);
    set(&before, &["synchronous_standby_names = '*'"]).await;
    // From now on a commit waits for the standby.
    let synchronous = "pg_stat_replication WHERE sync_state = 'sync'";
    while before.count(synchronous).await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let proxy = Proxy::to(&before, Link::Up).await;
    let mut run = Run::start(&proxy.of(&before), outage).await;

    run.mark("killed");
    block_in_place(|| primary.end("KILL")).expect("it runs");
    run.unavailable_for(CLIENTS, outage.broken / 4).await;
    run.mark("promoted");
    after.execute("SELECT pg_promote()").await;
    run.mark("moved");
    proxy.move_to(&after);
    run.served_for(outage.normal).await;

    let signal = primary.data_directory().join("standby.signal");
    fs::write(&signal, "").expect("written");
    for (setting, what) in [
        ("", "old address: a standby"),
        ("default_transaction_read_only = on", "old address: read-only"),
    ] {
        append(&primary.data_directory().join("postgresql.auto.conf"), setting);
        block_in_place(|| primary.restart_if_down()).expect("it starts again");
        let contents = contents(&before).await;
        run.mark(what);
        proxy.move_to(&before);
        proxy.cut_connections();
        run.unavailable_for(CLIENTS, outage.broken / 4).await;
        run.mark("moved");
        proxy.move_to(&after);
        run.served_for(outage.normal / 2).await;
        assert_eq!(
            contents,
            self::contents(&before).await,
            "the former primary was written to"
        );
        block_in_place(|| primary.end("QUIT")).expect("it runs");
        let _ = fs::remove_file(&signal);
    }
    let report = run.finish(&after).await;
    let copy = standby.data_directory().parent().expect("its home").to_owned();
    stop(standby);
    // Run by root, the test owns it, and the server's user cannot remove it.
    fs::remove_dir_all(copy).expect("ours");
    stop(primary);
    report
}

/// Nothing is accepted for a while, as when Aurora Serverless resumes.
pub async fn pause(outage: Outage) -> Report {
    let (server, database) = server(outage).await;
    let proxy = Proxy::to(&database, Link::Up).await;
    let mut run = Run::start(&proxy.of(&database), outage).await;
    run.mark("paused");
    proxy.set(Link::Paused);
    run.unavailable_for(CLIENTS, outage.broken).await;
    run.mark("resumed");
    proxy.set(Link::Up);
    run.served_for(outage.normal).await;
    let report = run.finish(&database).await;
    stop(server);
    report
}

/// First existing connections lose all packets, then all connections do. None of those is closed.
pub async fn lost_packets(outage: Outage) -> Report {
    let (server, database) = server(outage).await;
    let proxy = Proxy::to(&database, Link::Up).await;
    let mut run = Run::start(&proxy.of(&database), outage).await;
    run.mark("open connections");
    proxy.freeze_connections();
    run.served_for(outage.normal).await;
    run.mark("all packets");
    proxy.set(Link::Silent);
    run.unavailable_for(CLIENTS, outage.broken).await;
    run.mark("new connections work");
    proxy.freeze_connections();
    proxy.set(Link::Up);
    run.served_for(outage.normal).await;
    let report = run.finish(&database).await;
    stop(server);
    report
}

/// The server accepts fewer connections than there are instances.
pub async fn connection_limit(outage: Outage) -> Report {
    let (server, database) = server(outage).await;
    database
        .execute(
            "CREATE ROLE limited LOGIN PASSWORD 'limited';
             GRANT USAGE ON SCHEMA people TO limited;
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA people TO limited;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA people TO limited",
        )
        .await;
    let (_, place) = database.url.split_once('@').expect("a URL with a user");
    let limited = Database {
        url: format!("postgres://limited:limited@{place}"),
    };
    let mut run = Run::start(&limited, outage).await;
    run.mark("limit");
    database
        .execute(
            "ALTER ROLE limited CONNECTION LIMIT 12;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'limited'",
        )
        .await;
    run.unavailable_for(1, outage.broken).await;
    run.mark("no limit");
    database.execute("ALTER ROLE limited CONNECTION LIMIT -1").await;
    run.served_for(outage.normal).await;
    let report = run.finish(&database).await;
    stop(server);
    report
}

/// The disk of the server is full: first for tables, then for the write-ahead log, which ends the server. `None`, with
/// a message, where no disk can be mounted.
pub async fn full_disk(outage: Outage) -> Option<Report> {
    let disk = Disk::mount()?;
    let mut server = block_in_place(|| Server::start(&disk.0, None)).expect("a server");
    // As a throw-away server, since SCRAM costs an unoptimised client tens of milliseconds a connection.
    let rules = server.data_directory().join("pg_hba.conf");
    let text = fs::read_to_string(&rules).expect("rules");
    fs::write(&rules, text.replace("scram-sha-256", "password")).expect("written");
    let database = at(&server);
    set(&database, &["max_wal_size = '64MB'"]).await;
    shared::database::migrate(&database.options())
        .await
        .expect("migrated");
    let mut run = Run::start(&database, outage).await;
    run.mark("no space for tables");
    let filler = disk.0.join("filler");
    fill(&filler);
    run.unavailable_for(1, outage.broken / 2).await;
    run.mark("no space for the log");
    fill(&filler);
    // The next segment of the log cannot be made, and the server ends.
    while try_execute(&database, "SELECT pg_switch_wal()").await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run.unavailable_for(CLIENTS, outage.broken / 2).await;
    fs::remove_file(&filler).expect("removed");
    // It recovers by itself, or ends, perhaps only now.
    while !try_execute(&database, "SELECT 1").await {
        block_in_place(|| server.restart_if_down()).expect("it starts again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.mark("space");
    run.served_for(outage.normal).await;
    let report = run.finish(&database).await;
    stop(server);
    Some(report)
}

/// A hot standby of `primary`, with a copy of its data, which lies among that one's and is removed with them. Not made
/// by `pg_basebackup`, which the PostgreSQL from npm lacks.
fn standby(primary: &mut Server) -> Server {
    let data = primary.data_directory().to_owned();
    let home = data.with_file_name("standby");
    let copy = home.join(data.file_name().expect("the version's name"));
    primary.end("INT").expect("it ends");
    fs::create_dir(&home).expect("new");
    let copied = Command::new("cp").arg("-a").args([&data, &copy]).status();
    assert!(copied.expect("cp").success());
    fs::write(copy.join("standby.signal"), "").expect("written");
    let source = format!("primary_conninfo = '{}'", primary.url());
    append(&copy.join("postgresql.auto.conf"), &source);
    primary.restart_if_down().expect("it starts again");
    Server::start(&home, None).expect("a standby")
}

/// A server, and its migrated database.
async fn server(outage: Outage) -> (Server, Database) {
    let server = block_in_place(Server::throwaway).expect("a server");
    let database = at(&server);
    set(&database, &[SYNCHRONOUS]).await;
    if outage.durable {
        set(&database, &DURABLE).await;
    }
    shared::database::migrate(&database.options())
        .await
        .expect("migrated");
    (server, database)
}

/// Changes settings of a server.
async fn set(database: &Database, settings: &[&str]) {
    for setting in settings {
        database.execute(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    database.execute("SELECT pg_reload_conf()").await;
}

fn at(server: &Server) -> Database {
    Database {
        url: server.url().to_owned(),
    }
}

fn stop(server: Server) {
    block_in_place(|| server.stop()).expect("it stops");
}

async fn contents(database: &Database) -> Option<String> {
    database.text(&format!("({CONTENTS})")).await
}

/// Whether the server could be asked.
async fn try_execute(database: &Database, sql: &str) -> bool {
    use sqlx::{ConnectOptions as _, Executor as _};
    match database.options().connect().await {
        Ok(mut connection) => connection.execute(sql).await.is_ok(),
        Err(_) => false,
    }
}

fn append(path: &Path, line: &str) {
    let file = OpenOptions::new().append(true).open(path);
    writeln!(file.expect("a file"), "{line}").expect("written");
}

/// Leaves no space on the disk of `path`.
fn fill(path: &Path) {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a file");
    for size in [1 << 20, 1 << 12] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// A small disk, in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount() -> Option<Self> {
        let path = std::env::temp_dir().join(format!("people-disk-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path).expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(&path)
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        let _ = fs::remove_dir(&path);
        println!("did not run: a disk can be mounted only by root, with CAP_SYS_ADMIN");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server may just be ending.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
