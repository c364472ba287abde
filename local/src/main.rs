//! `cargo run -p local`: the account service with its own database on <http://127.0.0.1:3000>.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use functions::outbox::Outbox;
use local::arguments::{Arguments, HELP};
use local::containers::{self, Gateway};
use local::postgres::{Error as PostgresError, Server};
use local::settings::{self, Settings};
use local::{Failure, admin, mail, migration, request_log, server};
use shared::app::{App, State as _};
use shared::aws;
use shared::config::{Config, Environment};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Maximum connections to the database: enough for a developer, few enough for a shared server.
const CONNECTIONS: usize = 8;

/// How often to check whether the embedded database has died and must be restarted.
const SUPERVISION_INTERVAL: Duration = Duration::from_millis(500);

/// How long running requests may take after a signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    if io::stderr().is_terminal() {
        request_log::init();
    } else {
        shared::telemetry::init(io::stderr);
    }
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("local: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode, Failure> {
    let arguments = Arguments::parse(std::env::args_os().skip(1))?;
    if arguments.help {
        io::stdout().write_all(HELP.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(event) = arguments.admin {
        return admin::run(event).await;
    }
    serve_all(arguments).await?;
    Ok(ExitCode::SUCCESS)
}

async fn serve_all(arguments: Arguments) -> Result<(), Failure> {
    // From the beginning, so that a signal during startup stops the database as well.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let directory = settings::project_directory()?;
    let mut environment = settings::environment(&directory)?;
    let settings = Settings::from_environment(&environment)?;
    let listener = listen(settings.address).await?;
    let here = here(listener.local_addr()?);
    settings::set_mail_defaults(&mut environment, here);

    let state = directory.join(".local");
    let gateway = arguments.sam.then(Gateway::find).transpose()?;
    if environment.text("SECRET_KEY").is_none() && environment.text("SECRET_KEY_ARN").is_none() {
        let key = settings::kept_secret_key(&state)
            .map_err(|error| format!("{}: {error}", state.join("secret_key").display()))?;
        environment.set_default("SECRET_KEY", key);
    }
    let embedded = embedded_database(&mut environment, &state, gateway).await?;
    let outcome = async {
        let environment = aws::with_secret_keys(&environment).await?;
        let mut config = Config::from_environment(&environment)?;
        config.origins = settings.origins;
        let place = migration::place(&config.database);
        let sam = embedded
            .as_ref()
            .and_then(|embedded| embedded.containers_url.as_deref());
        let sam = sam
            .map(|url| write_sam_settings(&state, url, &environment))
            .transpose()?;
        let mut stop = Box::pin(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // A migration may wait for a lock.
        let app = tokio::select! {
            app = app(config, &place, arguments.adopt || settings.adopt) => app?,
            () = &mut stop => return Ok(()),
        };
        let data = embedded.as_ref().map(|embedded| embedded.data.as_path());
        announce(listener.local_addr()?, here, &place, data, sam.as_deref());
        let outbox = Outbox::part_of(&app);
        tokio::select! {
            outcome = serve(listener, server::router(Arc::new(app)), stop) => outcome?,
            () = mail::print_outgoing(&outbox) => {}
        }
        Ok(())
    }
    .await;
    if let Some(embedded) = embedded {
        tokio::task::spawn_blocking(|| embedded.stop()).await??;
    }
    outcome
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                let port = address.port();
                format!("port {port} is in use; stop the program that uses it, or set PORT").into()
            }
            _ => format!("cannot listen on {address}: {error}; check HOST and PORT").into(),
        })
}

/// The embedded database, supervised by its own thread, since every operation blocks.
struct Embedded {
    data: PathBuf,
    /// Its URL for containers.
    containers_url: Option<String>,
    /// Ends the supervision when dropped.
    stop: mpsc::Sender<()>,
    supervisor: JoinHandle<Result<(), PostgresError>>,
}

impl Embedded {
    fn start(state: &Path, gateway: Option<&Gateway>) -> Result<(Self, String), PostgresError> {
        let server = Server::start(state, gateway.and_then(|gateway| gateway.address))?;
        let url = server.url().to_owned();
        let (stop, stopped) = mpsc::channel();
        let embedded = Self {
            data: server.data_directory().to_owned(),
            containers_url: gateway.map(|gateway| url.replace("@127.0.0.1:", &format!("@{}:", gateway.host))),
            stop,
            supervisor: thread::spawn(move || supervise(server, &stopped)),
        };
        Ok((embedded, url))
    }

    fn stop(self) -> Result<(), PostgresError> {
        drop(self.stop);
        self.supervisor.join().unwrap_or(Ok(()))
    }
}

/// Restarts the database whenever it has died, until the sender of `stopped` is dropped; then stops it.
fn supervise(mut server: Server, stopped: &mpsc::Receiver<()>) -> Result<(), PostgresError> {
    let mut reported = String::new();
    while stopped.recv_timeout(SUPERVISION_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let message = match server.restart_if_down() {
            Ok(true) => "the database was down and has been restarted".to_owned(),
            Ok(false) => continue,
            Err(error) => format!("the database is down: {error}"),
        };
        // A persistent error is reported once.
        if message != reported {
            eprintln!("local: {message}");
            reported = message;
        }
    }
    server.stop()
}

/// Starts the embedded database and sets `DATABASE_URL` to it, unless another database is configured.
async fn embedded_database(
    environment: &mut Environment,
    state: &Path,
    gateway: Option<Gateway>,
) -> Result<Option<Embedded>, Failure> {
    if environment.text("DATABASE_URL").is_some() || environment.text("DATABASE_SECRET_ARN").is_some() {
        return match gateway {
            Some(_) => Err(
                "--sam needs the database that `local` starts: unset DATABASE_URL and DATABASE_SECRET_ARN"
                    .into(),
            ),
            None => Ok(None),
        };
    }
    let state = state.to_owned();
    let start = move || Embedded::start(&state, gateway.as_ref());
    let (embedded, url) = tokio::task::spawn_blocking(start).await??;
    environment.set_default("DATABASE_URL", url);
    Ok(Some(embedded))
}

/// Writes the settings for `sam local`. Returns the file.
fn write_sam_settings(state: &Path, url: &str, environment: &Environment) -> Result<PathBuf, Failure> {
    let file = state.join("sam.json");
    let secret_key = environment.text("SECRET_KEY").unwrap_or_default();
    containers::write_settings(&file, url, secret_key)
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

async fn app(mut config: Config, place: &str, adopt: bool) -> Result<App, Failure> {
    config.database.connections = CONNECTIONS;
    let app = App::new(config);
    migration::migrate(&app.database, place, adopt).await?;
    Ok(app)
}

/// The address of `listening` for programs on this machine.
fn here(listening: SocketAddr) -> SocketAddr {
    match listening {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        address => address,
    }
}

fn announce(address: SocketAddr, here: SocketAddr, place: &str, data: Option<&Path>, sam: Option<&Path>) {
    let database = match data {
        Some(data) => format!(
            "embedded PostgreSQL at {place}\nData directory: {} (kept between runs)",
            data.display()
        ),
        None => format!("DATABASE_URL at {place}"),
    };
    let sam = sam.map_or_else(String::new, |file| {
        format!(
            "For containers: sam local start-api --env-vars '{}'\n",
            file.display()
        )
    });
    let banner = format!(
        "Listening on http://{address}\n\
         Database: {database}\n\
         {sam}\
         In a browser: http://{here} (example client), http://{here}/docs (API documentation)\n\
         Try: curl -s -w '\\n' http://{here}/user/register -H 'content-type: application/json' \
         -d '{{\"userid\":\"alice\",\"password\":\"correct horse battery staple\"}}'\n"
    );
    // Nobody may be reading it.
    let _ = io::stdout().write_all(banner.as_bytes());
}

async fn serve(
    listener: TcpListener,
    router: axum::Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let stop = async move {
        stop.await;
        let _ = stopping.send(());
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop);
    tokio::select! {
        outcome = serving.into_future() => outcome,
        // A client that neither completes its request nor disconnects must not delay us further.
        () = async { let _ = stopped.await; tokio::time::sleep(SHUTDOWN_GRACE).await } => Ok(()),
    }
}
