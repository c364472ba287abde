//! Clients that note what the service has acknowledged while its database fails, and check that it holds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use shared::config::Timeouts;
use tokio::task::JoinSet;

use crate::harness::{Database, FAST, PASSWORD, Reply, Service, request};

/// How many clients there are.
pub const CLIENTS: usize = 16;

/// How long anything may take that only a defect or a stuck machine delays.
const LONG: Duration = Duration::from_mins(5);

/// The requests of a client, in turns.
const TURNS: [Action; 8] = [
    Action::LogIn,
    Action::Me,
    Action::LogIn,
    Action::LogOut,
    Action::MeOfEnded,
    Action::Me,
    Action::ChangePassword,
    Action::MeOfEnded,
];

#[derive(Clone, Copy)]
enum Action {
    LogIn,
    LogOut,
    Me,
    MeOfEnded,
    ChangePassword,
}

/// The functions, of each of which every client has an instance of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    Login,
    Logout,
    Me,
    Credentials,
}

impl Function {
    const ALL: [Self; 4] = [Self::Login, Self::Logout, Self::Me, Self::Credentials];
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub client: usize,
    pub function: Function,
    /// When the request was sent, since the clients started.
    pub sent: Duration,
    pub took: Duration,
    pub status: u16,
}

impl Answer {
    /// The service could tell, whatever it said.
    pub fn served(&self) -> bool {
        self.status != 503
    }
}

/// Clients at work. Each sends one request after the other, as a user who is logged in on several devices.
pub struct Clients {
    record: Arc<Record>,
    running: JoinSet<Client>,
}

/// What all clients have seen.
struct Record {
    started: Instant,
    stop: AtomicBool,
    /// Between two requests of a client.
    pause: Duration,
    answers: Mutex<Vec<Answer>>,
    /// Answers that contradict what was acknowledged before, or the contract.
    wrong: Mutex<Vec<String>>,
}

/// What the clients have seen, when all is over.
pub struct Seen {
    pub answers: Vec<Answer>,
    /// Answers that contradict what was acknowledged before, or the contract.
    pub wrong: Vec<String>,
    /// How many sessions, live or ended, were found as they had been acknowledged.
    pub sessions: usize,
    /// How many acknowledged changes of a password.
    pub changes: usize,
}

impl Clients {
    /// Registers the users, and lets the clients start on the service with this database, as deployed.
    pub async fn start(database: &Database, pause: Duration) -> Self {
        let record = Arc::new(Record {
            started: Instant::now(),
            stop: AtomicBool::new(false),
            pause,
            answers: Mutex::default(),
            wrong: Mutex::default(),
        });
        let mut running = JoinSet::new();
        for number in 0..CLIENTS {
            let mut client = Client::new(number, database, record.clone()).await;
            running.spawn(async move {
                client.work().await;
                client
            });
        }
        Self { record, running }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.record.started.elapsed()
    }

    /// Waits until every client has been answered by each function, other than with 503, a request sent from now on.
    pub async fn all_served(&self) {
        self.until(CLIENTS * Function::ALL.len(), "served", |answer| {
            answer.served().then_some((answer.client, answer.function))
        })
        .await;
    }

    /// Waits until `clients` clients have been answered with 503 since now.
    pub async fn unavailable(&self, clients: usize) {
        self.until(clients, "unavailable", |answer| {
            (!answer.served()).then_some((answer.client, Function::Me))
        })
        .await;
    }

    /// Waits until `of` has named this many things in the answers to requests sent from now on.
    async fn until(&self, many: usize, what: &str, of: impl Fn(&Answer) -> Option<(usize, Function)>) {
        let since = self.now();
        let mut next = self.record.answers().len();
        let mut named = BTreeSet::new();
        while named.len() < many {
            assert!(
                self.now() < since + LONG,
                "only {named:?}, fewer than {many}, were {what}: {:?}",
                self.record.wrong()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
            let answers = self.record.answers();
            named.extend(
                answers[next..]
                    .iter()
                    .filter(|answer| answer.sent >= since)
                    .filter_map(&of),
            );
            next = answers.len();
        }
    }

    /// Stops the clients and checks, on `database`, which serves again, that all that was acknowledged holds.
    pub async fn finish(self, database: &Database) -> Seen {
        self.record.stop.store(true, Ordering::SeqCst);
        let mut clients = self.running.join_all().await;
        // A request that was answered with 503 may still be under way there.
        let busy = "pg_stat_activity WHERE application_name = 'people' AND state = 'active'";
        while database.count(busy).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let answers = std::mem::take(&mut *self.record.answers());
        let service = Service::on(database.clone(), &FAST);
        let (mut sessions, mut changes) = (0, 0);
        for client in &mut clients {
            sessions += client.check(&service).await;
            changes += client.changes;
        }
        Seen {
            answers,
            wrong: std::mem::take(&mut self.record.wrong()),
            sessions,
            changes,
        }
    }
}

impl Record {
    fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().expect("no panic")
    }

    fn wrong(&self) -> MutexGuard<'_, Vec<String>> {
        self.wrong.lock().expect("no panic")
    }
}

/// What is known about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was acknowledged, and nothing has been sent that might end it.
    Live,
    /// Its end was acknowledged, or seen.
    Ended,
    /// A request that ends it was answered with 503: it may end, or may have.
    Unknown,
}

struct Session {
    token: String,
    state: State,
}

struct Client {
    number: usize,
    record: Arc<Record>,
    instances: Vec<(Function, Service)>,
    userid: String,
    /// The password; more than one if a change was answered with 503, that which was tried last with success first.
    passwords: Vec<String>,
    sessions: Vec<Session>,
    /// Acknowledged changes of the password, and attempts.
    changes: usize,
    attempts: usize,
}

impl Client {
    async fn new(number: usize, database: &Database, record: Arc<Record>) -> Self {
        let instance = || Service::with_timeouts(database.clone(), &FAST, Timeouts::default());
        let userid = format!("client-{number}");
        let registered = instance().register(&userid).await;
        assert_eq!(registered.status, 200, "{}", registered.text);
        Self {
            number,
            record,
            instances: Function::ALL.map(|function| (function, instance())).into(),
            userid,
            passwords: vec![PASSWORD.to_owned()],
            sessions: Vec::new(),
            changes: 0,
            attempts: 0,
        }
    }

    async fn work(&mut self) {
        // Not all do the same at the same time.
        for turn in self.number.. {
            if self.record.stop.load(Ordering::SeqCst) {
                break;
            }
            match TURNS[turn % TURNS.len()] {
                Action::LogIn => self.log_in().await,
                Action::LogOut => self.log_out().await,
                Action::Me => self.me(turn, false).await,
                Action::MeOfEnded => self.me(turn, true).await,
                Action::ChangePassword => self.change_password().await,
            }
            tokio::time::sleep(self.record.pause).await;
        }
    }

    /// Sends a request to the client's instance of a function. The code of the answer, which is a row of the contract.
    async fn send(&self, function: Function, mut request: Request<Body>) -> (u64, Reply) {
        // A home of its own for each, or they would be counted together.
        let address = SocketAddr::from(([203, 0, 113, u8::try_from(self.number).unwrap_or(0)], 40_000));
        request.extensions_mut().insert(ConnectInfo(address));
        let (_, service) = self
            .instances
            .iter()
            .find(|(of, _)| *of == function)
            .expect("each");
        let sent = self.record.started.elapsed();
        let reply = service.send(request).await;
        self.record.answers().push(Answer {
            client: self.number,
            function,
            sent,
            took: self.record.started.elapsed().saturating_sub(sent),
            status: reply.status.as_u16(),
        });
        let body: Value = serde_json::from_str(&reply.text).unwrap_or_default();
        let code = body["code"].as_u64().unwrap_or(0);
        let row = (reply.status.as_u16(), code, reply.header("retry-after").is_some());
        let in_contract = matches!(
            row,
            (200, 1, false) | (401, 40_101 | 40_103, false) | (403, 40_301, false) | (503, 50_301, true)
        );
        if !in_contract {
            self.wrong(&format!("{function:?} answered {} {}", row.0, reply.text));
        }
        (code, reply)
    }

    fn wrong(&self, what: &str) {
        let at = self.record.started.elapsed();
        self.record
            .wrong()
            .push(format!("{at:.3?} {}: {what}", self.userid));
    }

    async fn log_in(&mut self) {
        let (code, reply) = self.try_password(&self.passwords[0]).await;
        match code {
            1 => self.sessions.push(Session {
                token: reply.access_token(),
                // A change of the password that is under way would end it.
                state: if self.passwords.len() == 1 {
                    State::Live
                } else {
                    State::Unknown
                },
            }),
            40_101 => self.wrong_password("log-in"),
            _ => {}
        }
    }

    async fn try_password(&self, password: &str) -> (u64, Reply) {
        let body = json!({ "userid": self.userid, "password": password }).to_string();
        let headers = [("content-type", "application/json")];
        self.send(
            Function::Login,
            request(Method::POST, "/auth/login", &headers, body),
        )
        .await
    }

    /// The first password was called wrong. If there are others, one of these may be right.
    fn wrong_password(&mut self, what: &str) {
        if self.passwords.len() == 1 {
            self.wrong(&format!("{what}: the acknowledged password is wrong"));
        }
        self.passwords.rotate_left(1);
    }

    /// Asks for the user of a session, one after the other.
    async fn me(&mut self, turn: usize, ended: bool) {
        let wanted = |session: &Session| (session.state == State::Ended) == ended;
        let found: Vec<_> = (0..self.sessions.len())
            .filter(|n| wanted(&self.sessions[*n]))
            .collect();
        // The newest of those that ended: most others have been asked for before.
        let recent = &found[found.len().saturating_sub(4)..];
        if !recent.is_empty() {
            self.me_of(recent[turn % recent.len()]).await;
        }
    }

    async fn me_of(&mut self, session: usize) {
        let request = bearer(Method::GET, "/auth/me", &self.sessions[session].token, "");
        let (code, _) = self.send(Function::Me, request).await;
        self.judge(session, "me", code);
    }

    /// Compares an answer with what is known about a session.
    fn judge(&mut self, session: usize, what: &str, code: u64) {
        let state = self.sessions[session].state;
        match (state, code) {
            (State::Ended, 1) => self.wrong(&format!("{what}: session {session}, which had ended, is live")),
            (State::Live, 40_103) => self.wrong(&format!("{what}: session {session} is lost")),
            (State::Unknown, 40_103) => self.sessions[session].state = State::Ended,
            _ => {}
        }
    }

    /// The first session that is not known to have ended.
    fn open_session(&self) -> Option<usize> {
        self.sessions
            .iter()
            .position(|session| session.state != State::Ended)
    }

    async fn log_out(&mut self) {
        let Some(session) = self.open_session() else {
            return;
        };
        let request = bearer(Method::POST, "/auth/logout", &self.sessions[session].token, "");
        let (code, _) = self.send(Function::Logout, request).await;
        self.judge(session, "log-out", code);
        self.sessions[session].state = match code {
            1 | 40_103 => State::Ended,
            _ => State::Unknown,
        };
    }

    async fn change_password(&mut self) {
        let Some(used) = self.open_session() else { return };
        self.attempts += 1;
        let new = format!("quiet lantern {} over harbour {}", self.attempts, self.number);
        let body = json!({ "current_password": self.passwords[0], "new_password": new }).to_string();
        let request = bearer(Method::POST, "/auth/password", &self.sessions[used].token, &body);
        let (code, _) = self.send(Function::Credentials, request).await;
        self.judge(used, "change of password", code);
        let others = self.sessions.iter_mut().enumerate().filter(|(n, _)| *n != used);
        match code {
            1 => {
                others.for_each(|(_, session)| session.state = State::Ended);
                self.passwords = vec![new];
                self.changes += 1;
            }
            40_301 => self.wrong_password("change of password"),
            50_301 => {
                let live = others.filter(|(_, session)| session.state == State::Live);
                live.for_each(|(_, session)| session.state = State::Unknown);
                self.passwords.push(new);
            }
            _ => {}
        }
    }

    /// Checks every session, and that one password is right. How many sessions there were.
    async fn check(&mut self, service: &Service) -> usize {
        self.instances = Function::ALL.map(|function| (function, service.clone())).into();
        for session in 0..self.sessions.len() {
            self.me_of(session).await;
        }
        let candidates = self.passwords.clone();
        let mut right = 0;
        for password in &candidates {
            let (code, _) = self.try_password(password).await;
            right += usize::from(code == 1);
        }
        if right != 1 {
            self.wrong(&format!("{right} of {} passwords are right", candidates.len()));
        }
        self.sessions.len()
    }
}

fn bearer(method: Method, path: &str, token: &str, body: &str) -> Request<Body> {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", &*authorization),
        ("content-type", "application/json"),
    ];
    request(method, path, &headers, body.to_owned())
}
