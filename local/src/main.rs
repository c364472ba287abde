//! `cargo run -p local`: the account service with a database of its own on <http://127.0.0.1:3000>.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use local::postgres::Server;
use local::{server, settings};
use shared::app::App;
use shared::aws;
use shared::config::{Config, Credentials, DatabaseConfig, Environment};
use shared::database::Migration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Connections to the database at most: enough for a developer, few enough for a shared server.
const CONNECTIONS: usize = 8;

/// How often a dead embedded database is started again.
const SUPERVISION_INTERVAL: Duration = Duration::from_secs(5);

/// How long requests may go on after a signal to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    shared::telemetry::init(io::stderr);
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("local: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn run() -> Result<(), Failure> {
    // From the first moment, so that a signal during the start stops the database as well.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let directory = settings::project_directory()?;
    let mut environment = settings::environment(&directory)?;
    let settings = settings::Settings::from_environment(&environment)?;
    let listener = listen(settings.port).await?;

    let state = directory.join(".local");
    if environment.text("SECRET_KEY").is_none() && environment.text("SECRET_KEY_ARN").is_none() {
        let key = settings::kept_secret_key(&state)
            .map_err(|error| format!("{}: {error}", state.join("secret_key").display()))?;
        environment.set_default("SECRET_KEY", key);
    }
    let embedded = embedded_database(&mut environment, &state).await?.map(Arc::new);
    let outcome = async {
        let mut config = Config::from_environment(&aws::with_secret_keys(&environment).await?)?;
        config.origins = settings.origins;
        let place = place(&config.database);
        let adopt = environment.text("ADOPT") == Some("true");
        let mut stop = Box::pin(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // To migrate may mean to wait for a lock.
        let app = tokio::select! {
            app = app(config, &place, adopt) => app?,
            () = &mut stop => return Ok(()),
        };
        announce(listener.local_addr()?, &place, embedded.is_some());
        let router = server::router(Arc::new(app));
        let (serving, supervision) = oneshot::channel();
        let serve = async {
            let outcome = serve(listener, router, stop).await;
            drop(serving);
            outcome
        };
        // Both to their end: a restart that has begun must not outlive the stop below.
        tokio::join!(serve, supervise(embedded.clone(), supervision)).0?;
        Ok(())
    }
    .await;
    if let Some(embedded) = embedded.and_then(Arc::into_inner) {
        tokio::task::spawn_blocking(|| embedded.stop()).await??;
    }
    outcome
}

async fn listen(port: u16) -> Result<TcpListener, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("port {port} is taken; stop what listens there or set PORT").into()
            }
            _ => format!("cannot listen on {address}: {error}").into(),
        })
}

/// Starts the embedded database and sets `DATABASE_URL` to it, unless that is set already.
async fn embedded_database(environment: &mut Environment, state: &Path) -> Result<Option<Server>, Failure> {
    if environment.text("DATABASE_URL").is_some() || environment.text("DATABASE_SECRET_ARN").is_some() {
        return Ok(None);
    }
    let state = state.to_owned();
    let server = tokio::task::spawn_blocking(move || Server::start(&state)).await??;
    environment.set_default("DATABASE_URL", server.url());
    Ok(Some(server))
}

async fn app(mut config: Config, place: &str, adopt: bool) -> Result<App, Failure> {
    config.database.connections = CONNECTIONS;
    let app = App::new(config);
    let migration = Migration {
        adopt,
        ..Migration::default()
    };
    let migrated = Box::pin(app.database.migrate(&migration)).await;
    let migrated =
        migrated.map_err(|error| format!("the database at {place} cannot be migrated: {error}"))?;
    for line in migrated.adopted {
        eprintln!("local: {line}");
    }
    Ok(app)
}

/// Where the database is, without credentials: a URL may have them in several places.
fn place(database: &DatabaseConfig) -> String {
    if let Credentials::Secret(arn) = &database.credentials {
        return format!("the one that {arn} names");
    }
    let options = &database.options;
    let server = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    // Without a name it is the role's.
    format!("{server}/{}", options.get_database().unwrap_or_default())
}

fn announce(address: SocketAddr, place: &str, embedded: bool) {
    let kind = if embedded {
        "embedded PostgreSQL"
    } else {
        "DATABASE_URL"
    };
    let banner = format!(
        "Listening on http://{address}\n\
         Database: {kind} at {place}\n\
         In a browser: http://{address} the example, http://{address}/docs the interface\n\
         Try: curl -s http://{address}/user/register -H 'content-type: application/json' \
         -d '{{\"userid\":\"alice\",\"password\":\"correct horse battery staple\"}}'\n"
    );
    // Nobody has to read it.
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
        // A client that neither ends its request nor goes away does not keep us.
        () = async { let _ = stopped.await; tokio::time::sleep(SHUTDOWN_GRACE).await } => Ok(()),
    }
}

/// Starts the embedded database again when it died, until `serving` is over.
async fn supervise(embedded: Option<Arc<Server>>, mut serving: oneshot::Receiver<()>) {
    let Some(embedded) = embedded else { return };
    while tokio::time::timeout(SUPERVISION_INTERVAL, &mut serving)
        .await
        .is_err()
    {
        let embedded = embedded.clone();
        match tokio::task::spawn_blocking(move || embedded.restart_if_down()).await {
            Ok(Ok(true)) => eprintln!("local: the database was down and has been started again"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => eprintln!("local: the database is down: {error}"),
            Err(_) => return,
        }
    }
}
