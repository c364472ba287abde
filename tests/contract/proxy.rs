//! A TCP proxy between the service and its database, to simulate network faults and to count round trips.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::Database;

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// They are forwarded.
    Up,
    /// New connections are closed immediately, and existing ones are cut.
    Refusing,
    /// New connections wait to be accepted, and existing ones are cut.
    Paused,
    /// Nothing arrives in either direction, without an error, as for a frozen instance.
    Silent,
    /// Every response of the server is delayed by this.
    Slow(Duration),
    /// The n-th round trip from now on reaches the server, but the response is lost with the connection.
    LosingAnswer(usize),
    /// The n-th round trip from now on is lost with the connection before it reaches the server.
    LosingRequest(usize),
}

/// What happens to the bytes of which connections.
#[derive(Clone, Copy)]
struct State {
    link: Link,
    /// How often existing connections were frozen, and how often they were cut.
    frozen: u64,
    cut: u64,
}

pub struct Proxy {
    link: watch::Sender<State>,
    upstream: Arc<Mutex<(String, u16)>>,
    round_trips: Arc<AtomicUsize>,
    packets: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    port: u16,
}

impl Proxy {
    /// In front of the server of `database`.
    pub async fn to(database: &Database, link: Link) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Self {
            link: watch::Sender::new(State {
                link,
                frozen: 0,
                cut: 0,
            }),
            upstream: Arc::new(Mutex::new(address(database))),
            round_trips: Arc::default(),
            packets: Arc::default(),
            connections: Arc::default(),
            port,
        };
        let (links, round_trips) = (proxy.link.clone(), proxy.round_trips.clone());
        let (packets, connections) = (proxy.packets.clone(), proxy.connections.clone());
        let upstream = proxy.upstream.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Fails only when nobody can change it any more.
                let _ = links
                    .subscribe()
                    .wait_for(|state| state.link != Link::Paused)
                    .await;
                if links.borrow().link == Link::Refusing {
                    continue;
                }
                let to = upstream.lock().expect("an address").clone();
                let Ok(server) = TcpStream::connect(to).await else {
                    // A server that is down.
                    continue;
                };
                connections.fetch_add(1, Ordering::SeqCst);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let answered = Arc::new(AtomicUsize::new(1));
                let (a, b) = (links.subscribe(), links.subscribe());
                let born = *a.borrow();
                let round_trips = round_trips.clone();
                let requests = Direction {
                    answered: answered.clone(),
                    round_trips: round_trips.clone(),
                    packets: packets.clone(),
                    of_client: true,
                };
                let answers = Direction {
                    answered,
                    round_trips,
                    packets: packets.clone(),
                    of_client: false,
                };
                tokio::spawn(async move {
                    // When either direction ends, the other one is closed.
                    tokio::select! {
                        () = requests.pump(from_client, to_server, a, born) => {}
                        () = answers.pump(from_server, to_client, b, born) => {}
                    }
                });
            }
        });
        proxy
    }

    /// The database as seen through the proxy.
    pub fn of(&self, database: &Database) -> Database {
        let port = database.options().get_port();
        Database {
            url: database
                .url
                .replacen(&format!(":{port}/"), &format!(":{}/", self.port), 1),
        }
    }

    /// Changes the link of all existing and future connections.
    pub fn set(&self, link: Link) {
        self.round_trips.store(0, Ordering::SeqCst);
        self.link.send_modify(|state| {
            state.link = link;
            state.cut += u64::from(matches!(link, Link::Refusing | Link::Paused));
        });
    }

    /// Leads new connections to the server of another database. Existing ones stay where they are.
    pub fn move_to(&self, database: &Database) {
        *self.upstream.lock().expect("an address") = address(database);
    }

    /// Freezes existing connections; new ones work.
    pub fn freeze_connections(&self) {
        self.link.send_modify(|state| state.frozen += 1);
    }

    /// Cuts existing connections; new ones work.
    pub fn cut_connections(&self) {
        self.link.send_modify(|state| state.cut += 1);
    }

    /// Round trips since the last call.
    pub fn round_trips(&self) -> usize {
        self.round_trips.swap(0, Ordering::SeqCst)
    }

    /// Packets with data, in both directions, since the last call. Data that arrives together counts as one packet.
    pub fn packets(&self) -> usize {
        self.packets.swap(0, Ordering::SeqCst)
    }

    /// Connections made since the last call.
    pub fn connections(&self) -> usize {
        self.connections.swap(0, Ordering::SeqCst)
    }
}

fn address(database: &Database) -> (String, u16) {
    let options = database.options();
    (options.get_host().to_owned(), options.get_port())
}

/// Copies one direction of a connection. A round trip begins when the client sends something after the server has.
struct Direction {
    answered: Arc<AtomicUsize>,
    round_trips: Arc<AtomicUsize>,
    packets: Arc<AtomicUsize>,
    of_client: bool,
}

impl Direction {
    async fn pump(
        self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut link: watch::Receiver<State>,
        born: State,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                changed = link.changed() => {
                    let state = *link.borrow_and_update();
                    if changed.is_err() || (state.cut != born.cut && state.frozen == born.frozen) {
                        return;
                    }
                    continue;
                }
            };
            let Ok(length @ 1..) = read else { return };
            self.packets.fetch_add(1, Ordering::SeqCst);
            let state = *link.borrow();
            let silent = state.link == Link::Silent || state.frozen != born.frozen;
            if !self.of_client {
                self.answered.store(1, Ordering::SeqCst);
            } else if self.answered.swap(0, Ordering::SeqCst) == 1 {
                self.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            let round_trip = self.round_trips.load(Ordering::SeqCst);
            match state.link {
                Link::LosingAnswer(lost) if !self.of_client && round_trip >= lost => return,
                Link::LosingRequest(lost) if self.of_client && round_trip >= lost => return,
                Link::Slow(delay) if !self.of_client => tokio::time::sleep(delay).await,
                _ => {}
            }
            if !silent && to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
