//! Clients in a closed loop: each sends its next request immediately after the response to the last one, on the same
//! connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// The results of some clients.
#[derive(Default)]
pub struct Seen {
    /// Milliseconds of every request with status 200.
    pub times: Vec<f64>,
    /// Number of other responses.
    pub refused: usize,
    /// From the first request to the last response.
    pub seconds: f64,
}

/// Has `clients` clients send `requests` to `port` for `duration`. No request is sent by two clients at the same time.
pub async fn run(
    port: u16,
    requests: &Arc<Vec<Vec<u8>>>,
    clients: usize,
    duration: Duration,
) -> io::Result<Seen> {
    let ready = Arc::new(Barrier::new(clients));
    let mut running = JoinSet::new();
    for first in 0..clients {
        let (requests, ready) = (requests.clone(), ready.clone());
        running.spawn(async move {
            let mine = (first..requests.len()).step_by(clients).cycle();
            let mut client = Client::connect(port).await;
            ready.wait().await;
            let mut seen = Seen::default();
            let started = Instant::now();
            for number in mine {
                let sent = Instant::now();
                let status = client
                    .as_mut()
                    .map_err(|error| error.kind())?
                    .send(&requests[number])
                    .await?;
                if status == 200 {
                    seen.times.push(sent.elapsed().as_secs_f64() * 1e3);
                } else {
                    seen.refused += 1;
                }
                if started.elapsed() >= duration {
                    break;
                }
            }
            seen.seconds = started.elapsed().as_secs_f64();
            Ok::<_, io::Error>(seen)
        });
    }
    let mut all = Seen::default();
    for seen in running.join_all().await {
        let seen = seen?;
        all.times.extend(seen.times);
        all.refused += seen.refused;
        all.seconds = all.seconds.max(seen.seconds);
    }
    Ok(all)
}

/// The status of one request on a new connection.
pub async fn once(port: u16, request: &[u8]) -> io::Result<u16> {
    Client::connect(port).await?.send(request).await
}

/// A connection. Supports only as much HTTP/1.1 as needed, to use little CPU time.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends a request and reads the whole response. Returns the status.
    async fn send(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let malformed = || io::Error::other("an answer without status or length");
            let text = str::from_utf8(&self.buffer[..head]).map_err(|_| malformed())?;
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let found = name.eq_ignore_ascii_case("content-length");
                found.then(|| value.trim().parse::<usize>().ok())?
            });
            if self.buffer.len() >= head + 4 + length.ok_or_else(malformed)? {
                let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
                return status.ok_or_else(malformed);
            }
        }
    }
}
