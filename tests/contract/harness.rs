//! The environment of every test: a new database, and the service on it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Once};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use functions::authorizer;
use functions::outbox::{Mail, Outbox, Outgoing};
use http_body_util::BodyExt as _;
use lambda_http::{Context, LambdaEvent};
use local::postgres::Server;
use serde_json::{Value, json};
use shared::app::{App, State as _};
use shared::auth::Authenticator;
use shared::config::{Config, Environment, Timeouts};
use shared::http::event::Event;
use shared::http::{Served, now};
use shared::telemetry;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;
use tower::ServiceExt as _;
use uuid::Uuid;

/// The route with this path, of any function.
pub fn route(path: &str) -> &'static dyn Served {
    let mut routes = functions::routes().into_iter();
    routes.find(|route| route.path() == path).expect(path)
}

/// A signing key for tests.
pub const SECRET_KEY: &str = "a key for tests of at least 32 bytes";
/// A password that the policy accepts.
pub const PASSWORD: &str = "correct horse battery staple";
/// Default source address of requests (RFC 5737).
pub const SOURCE: &str = "203.0.113.7:40000";

/// Settings for cheap hashes, for tests that are not about their parameters: the database is busy, not the processor.
pub const FAST: [(&str, &str); 2] = [("ARGON2_MEMORY_KIB", "64"), ("ARGON2_ITERATIONS", "1")];

/// Longer than anything takes that is not stuck, so that responses do not depend on how busy the machine is.
pub const PATIENT: Timeouts = Timeouts {
    request: Duration::from_mins(2),
    readiness: Duration::from_mins(2),
    statement: Duration::from_mins(1),
    answer: Duration::from_mins(1),
    connect_ahead: Duration::from_mins(1),
    ping: Duration::from_mins(1),
    trusted: Duration::from_mins(10),
};

/// The server for this run: that of `DATABASE_URL`, or else a throw-away one.
static SERVER_URL: LazyLock<String> = LazyLock::new(|| {
    std::env::var("DATABASE_URL").unwrap_or_else(|_| {
        let server = Server::throwaway().unwrap_or_else(|error| stop_the_run(&error));
        let url = server.url().to_owned();
        // It ends with this process, for whatever reason.
        std::mem::forget(server);
        url
    })
});

/// Without a server no test can pass: reports one line instead of a failure for each test.
fn stop_the_run(error: &dyn std::error::Error) -> ! {
    // Not with a macro, whose output is captured until the end of the test.
    let _ = writeln!(std::io::stderr(), "\n{error}");
    std::process::exit(1)
}

/// A database for one test. It is not dropped, since the throw-away server is deleted as a whole.
#[derive(Clone)]
pub struct Database {
    pub url: String,
}

impl Database {
    /// An empty database.
    pub async fn empty() -> Self {
        Self::create("").await
    }

    /// A migrated database: a copy of a template, which is much faster than migrating.
    pub async fn migrated() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE
            .get_or_init(|| async {
                let template = Self::empty().await;
                shared::database::migrate(&template.options())
                    .await
                    .expect("migrations run");
                template.name().to_owned()
            })
            .await;
        Self::create(&format!("TEMPLATE {template}")).await
    }

    async fn create(suffix: &str) -> Self {
        let name = format!("people_test_{}", Uuid::new_v4().simple());
        let server: PgConnectOptions = SERVER_URL.parse().expect("DATABASE_URL");
        let mut connection = server.connect().await.expect("the server of the tests answers");
        connection
            .execute(format!("CREATE DATABASE {name} {suffix}").as_str())
            .await
            .expect("CREATE DATABASE");
        connection.close().await.expect("close");
        let (start, query) = SERVER_URL.split_once('?').unwrap_or((&SERVER_URL, ""));
        let (address, _) = start.rsplit_once('/').expect("a URL with a database");
        Self {
            url: format!("{address}/{name}?{query}"),
        }
    }

    pub fn name(&self) -> &str {
        self.url
            .rsplit_once('/')
            .map_or("", |(_, name)| name.split('?').next().unwrap_or_default())
    }

    pub fn options(&self) -> PgConnectOptions {
        self.url.parse().expect("our own URL")
    }

    /// A connection for reading and changing the tables.
    pub async fn connect(&self) -> PgConnection {
        self.options().connect().await.expect("connect")
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        self.connect().await.execute(sql).await.expect(sql);
    }

    /// The single value of a query, as text.
    pub async fn text(&self, sql: &str) -> Option<String> {
        sqlx::query_scalar(&format!("SELECT ({sql})::text"))
            .fetch_one(&mut self.connect().await)
            .await
            .expect(sql)
    }

    /// Sets every count as if there had been many failures, the last one just now.
    pub async fn lock_out(&self) {
        self.execute(
            "UPDATE people.attempt
             SET forgotten_at = now() + interval '1000 days', failed_at = now(), in_flight = '{}'",
        )
        .await;
    }

    /// The number of deadlocks resolved by the server.
    pub async fn deadlocks(&self) -> i64 {
        let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        self.text(sql).await.expect("a count").parse().expect("a number")
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.text(&format!("SELECT count(*) FROM {sql}"))
            .await
            .expect("a count")
            .parse()
            .expect("a number")
    }
}

/// The service on a database, called with HTTP requests.
#[derive(Clone)]
pub struct Service {
    pub database: Database,
    app: Arc<App>,
    router: axum::Router,
}

impl Service {
    /// With default settings on a migrated database.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With `settings`, and defaults for the rest.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::on(Database::migrated().await, settings)
    }

    /// Another instance on the same database.
    pub fn on(database: Database, settings: &[(&str, &str)]) -> Self {
        // The benchmarks, which share this module, measure the product as it is.
        let timeouts = if cfg!(test) { PATIENT } else { Timeouts::default() };
        Self::with_timeouts(database, settings, timeouts)
    }

    /// With timeouts of its own: `Timeouts::default()` are the product's.
    pub fn with_timeouts(database: Database, settings: &[(&str, &str)], timeouts: Timeouts) -> Self {
        // Without a subscriber, an event first logged in a test that ignores the log would be cached as disabled, also
        // for tests that read the log.
        static LOG: Once = Once::new();
        LOG.call_once(|| {
            let _ = tracing::subscriber::set_global_default(telemetry::subscriber(std::io::sink));
        });
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("DATABASE_URL", &*database.url);
        environment.set_default("SECRET_KEY", SECRET_KEY);
        environment.set_default("CORS_ALLOWED_ORIGINS", "http://localhost:5173");
        // Set to nothing by a test in which no mails are sent.
        if !settings.iter().any(|(name, _)| *name == "MAIL_FROM") {
            environment.set_default("MAIL_FROM", "people@example.com");
            environment.set_default("APP_RESET_URL", "https://app.example.com/reset");
            environment.set_default("APP_EMAIL_URL", "https://app.example.com/email");
        }
        let mut config = Config::from_environment(&environment).expect("usable settings");
        config.database.connections = 8;
        config.database.timeouts = timeouts;
        let app = Arc::new(App::new(config));
        Self {
            router: local::server::router(app.clone()),
            database,
            app,
        }
    }

    /// Connects in advance, as a deployed instance does before its first poll.
    pub async fn connect_ahead(&self) {
        self.app.database.connect_ahead().await.expect("a usable secret");
    }

    /// Sends any request, of which the answer is text.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let (status, headers, body) = self.exchange(request).await;
        Reply {
            status,
            headers,
            text: String::from_utf8(body).expect("UTF-8"),
        }
    }

    /// Sends any request.
    pub async fn exchange(&self, mut request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        if request.extensions().get::<ConnectInfo<SocketAddr>>().is_none() {
            let source: SocketAddr = SOURCE.parse().expect("an address");
            request.extensions_mut().insert(ConnectInfo(source));
        }
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (parts.status, parts.headers, body.into())
    }

    /// Calls a function directly, without the router.
    pub async fn invoke(&self, route: &dyn Served, request: lambda_http::Request) -> Reply {
        route.serve(&self.app, request).await.into()
    }

    /// Asks the authorizer about an event, as a gateway does.
    pub async fn authorize(&self, event: &str) -> Result<Value, &'static str> {
        let authenticator = Authenticator::part_of(&self.app);
        authorizer::decide(&invocation(event), async { Ok(&authenticator) }, now()).await
    }

    /// Posts bytes with a content type.
    pub async fn post_bytes(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
        self.send(request(
            Method::POST,
            path,
            &[("content-type", content_type)],
            body,
        ))
        .await
    }

    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.send(request(
            Method::GET,
            path,
            &[("authorization", &format!("Bearer {token}"))],
            "",
        ))
        .await
    }

    /// Sends an authenticated request; without a body if that is null.
    pub async fn call_as(&self, method: Method, path: &str, token: &str, body: &Value) -> Reply {
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("authorization", &*authorization)];
        let mut text = String::new();
        if !body.is_null() {
            headers.push(("content-type", "application/json"));
            text = body.to_string();
        }
        self.send(request(method, path, &headers, text)).await
    }

    pub async fn change_password(&self, token: &str, current: &str, new: &str) -> Reply {
        let body = json!({ "current_password": current, "new_password": new });
        self.call_as(Method::POST, "/auth/password", token, &body).await
    }

    pub async fn delete_user(&self, token: &str, password: &str) -> Reply {
        let body = json!({ "password": password });
        self.call_as(Method::POST, "/user/delete", token, &body).await
    }

    pub async fn sessions(&self, token: &str) -> Reply {
        self.get("/auth/sessions", token).await
    }

    pub async fn end_session(&self, token: &str, session_id: &str) -> Reply {
        let path = format!("/auth/sessions/{session_id}");
        self.call_as(Method::DELETE, &path, token, &Value::Null).await
    }

    pub async fn end_other_sessions(&self, token: &str) -> Reply {
        self.call_as(Method::DELETE, "/auth/sessions", token, &Value::Null)
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(request(
            Method::POST,
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        ))
        .await
    }

    pub async fn forgot(&self, account: &str) -> Reply {
        self.post("/auth/forgot", &json!({ "account": account })).await
    }

    pub async fn reset(&self, token: &str, new_password: &str) -> Reply {
        let body = json!({ "token": token, "new_password": new_password });
        self.post("/auth/reset", &body).await
    }

    pub async fn change_email(&self, token: &str, email: &str, current_password: &str) -> Reply {
        let body = json!({ "email": email, "current_password": current_password });
        self.call_as(Method::POST, "/auth/email", token, &body).await
    }

    pub async fn confirm_email(&self, token: &str) -> Reply {
        self.post("/auth/email/confirm", &json!({ "token": token })).await
    }

    /// What the function `outbox` hands over.
    pub async fn outgoing(&self) -> Outgoing {
        let outbox = Outbox::part_of(&self.app);
        outbox.outgoing(outbox.take().await.expect("a database"))
    }

    /// The mails that are due.
    pub async fn mails(&self) -> Vec<Mail> {
        self.outgoing().await.mails
    }

    /// The token of the link in the only mail that is due.
    pub async fn mailed_token(&self) -> String {
        let mails = self.mails().await;
        let [mail] = &mails[..] else { panic!("{mails:?}") };
        token_of(mail)
    }

    /// Sends a form to login, as an OAuth2 client does.
    pub async fn post_form(&self, form: &str) -> Reply {
        let content_type = ("content-type", "application/x-www-form-urlencoded");
        self.send(request(
            Method::POST,
            "/auth/token",
            &[content_type],
            form.to_owned(),
        ))
        .await
    }

    pub async fn register(&self, userid: &str) -> Reply {
        self.register_with(json!({ "userid": userid })).await
    }

    /// Registers alice with [`PASSWORD`], with these members overridden.
    pub async fn register_with(&self, members: Value) -> Reply {
        let mut body = json!({ "userid": "alice", "password": PASSWORD });
        let Value::Object(members) = members else {
            panic!("an object")
        };
        body.as_object_mut().expect("an object").extend(members);
        self.post("/user/register", &body).await
    }

    pub async fn log_in(&self, userid: &str, password: &str) -> Reply {
        self.post("/auth/login", &json!({ "userid": userid, "password": password }))
            .await
    }

    pub async fn log_out(&self, token: &str) -> Reply {
        let authorization = ("authorization", &*format!("Bearer {token}"));
        self.send(request(Method::POST, "/auth/logout", &[authorization], ""))
            .await
    }

    /// Registers a user and logs in. Returns the token.
    pub async fn token_of_new_user(&self, userid: &str) -> String {
        assert_eq!(self.register(userid).await.status, StatusCode::OK);
        self.log_in(userid, PASSWORD).await.access_token()
    }
}

/// A request with any method, headers and body.
pub fn request(method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

/// An event as the Lambda runtime passes it to a function.
pub fn invocation(event: &str) -> LambdaEvent<Event> {
    let mut context = Context::default();
    "of-the-invocation".clone_into(&mut context.request_id);
    LambdaEvent::new(serde_json::from_str(event).expect("JSON"), context)
}

/// Mails as text: address, subject, and what they say.
pub fn written(mails: &[Mail]) -> String {
    let mails = mails
        .iter()
        .map(|mail| format!("To: {}\nSubject: {}\n\n{}", mail.to, mail.subject, mail.text));
    mails.collect::<Vec<_>>().join("\n")
}

/// The token of the link in a mail.
pub fn token_of(mail: &Mail) -> String {
    let (_, rest) = mail.text.split_once("#token=").expect("a link");
    rest.lines().next().unwrap_or_default().to_owned()
}

/// SHA-256 in hex.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    ring::digest::digest(&ring::digest::SHA256, bytes.as_ref())
        .as_ref()
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl From<lambda_http::Response<lambda_http::Body>> for Reply {
    fn from(response: lambda_http::Response<lambda_http::Body>) -> Self {
        let (parts, lambda_http::Body::Text(text)) = response.into_parts() else {
            panic!("the body is text")
        };
        Self {
            status: parts.status,
            headers: parts.headers,
            text,
        }
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub fn access_token(&self) -> String {
        let json = self.json();
        let token = json.pointer("/data/access_token").or(json.get("access_token"));
        token
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no token in {}", self.text))
            .to_owned()
    }
}
