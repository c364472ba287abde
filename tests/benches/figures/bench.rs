//! An instance of every function in this process, and the statements and hash alone, as baselines.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chrono::{DateTime, Utc};
use functions::authorizer;
use lambda_http::Request;
use lambda_http::http::StatusCode;
use shared::app::{App, State as _};
use shared::attempts::{self, Attempt, Count, LoginCounts};
use shared::auth::Authenticator;
use shared::config::{Config, Environment};
use shared::http::event::{self as gateway_event, Answer};
use shared::http::{Served, source_address};
use shared::sessions::{self, NewSession};
use shared::token::VerifiedToken;
use shared::users::{self, NewUser, User, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::harness::{Database, PASSWORD, SECRET_KEY, invocation};
use crate::instance::event;

/// The userid in `tests/events`.
pub const USERID: &str = "event-user";

/// An instance with a new database and one user, and a second connection for statements alone.
pub struct Bench {
    app: App,
    connection: PgConnection,
    user: User,
}

impl Bench {
    /// With `settings`, and defaults for the rest.
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        let database = Database::migrated().await;
        let mut environment: Environment = settings.iter().copied().collect();
        environment.set_default("DATABASE_URL", &*database.url);
        environment.set_default("SECRET_KEY", SECRET_KEY);
        environment.set_default("REGISTRATIONS_PER_ADDRESS_PER_HOUR", "1000000");
        let app = App::new(Config::from_environment(&environment).expect("usable settings"));
        answer(
            &app,
            &functions::register::ROUTES[0],
            Self::request("register", "", USERID),
        )
        .await;
        let mut connection = database.connect().await;
        let keys = LoginCounts::new(&UserId::canonical(USERID), None, 50);
        let found = attempts::reserve_login(&mut connection, &keys, &UserId::canonical(USERID), &[]).await;
        let Ok(Attempt::Reserved(_, Some(found))) = found else {
            panic!("the user that was registered")
        };
        Self {
            app,
            connection,
            user: found.user,
        }
    }

    /// A token with a live session.
    pub async fn live_token(&mut self) -> String {
        let session_id = Uuid::new_v4();
        let token = self
            .app
            .keys
            .sign(session_id, self.user.user_id, USERID, now())
            .expect("signed");
        sqlx::query(
            "INSERT INTO people.user_session (session_id, user_id, token, expires_at)
             VALUES ($1, $2, $3, now() + interval '1 hour')",
        )
        .bind(session_id)
        .bind(self.user.user_id)
        .bind(token.digest().as_str())
        .execute(&mut self.connection)
        .await
        .expect("a session");
        token.expose().to_owned()
    }

    /// A verified token.
    pub fn verified(&self, token: &str) -> VerifiedToken {
        self.app.keys.verify(token, now()).expect("our own token")
    }

    /// Creates a request in advance, so that this is not measured.
    pub fn request(name: &str, token: &str, userid: &str) -> Request {
        gateway_event::request(&event(name, token, userid))
    }

    pub async fn answer(&self, route: &dyn Served, request: Request) {
        answer(&self.app, route, request).await;
    }

    /// What an instance of `me` does with the text of an event: the text of its answer.
    pub async fn invoke_me(&self, event: &str) -> String {
        let response = functions::me::ROUTES[0].serve(&self.app, gateway_event::request(event));
        serde_json::to_string(&Answer(response.await)).expect("JSON")
    }

    /// The same of `authorizer`.
    pub async fn invoke_authorizer(&self, event: &str) -> String {
        let authenticator = Authenticator::part_of(&self.app);
        let state = async { Ok(&authenticator) };
        let decision = authorizer::decide(&invocation(event), state, now()).await;
        decision.expect("a decision").to_string()
    }

    pub async fn bare_me(&mut self, token: &VerifiedToken) {
        let session = sessions::find_live(&mut self.connection, token).await;
        let user = session.expect("it answers").map(|session| session.user);
        assert_eq!(user.as_ref(), Some(&self.user));
    }

    pub async fn bare_logout(&mut self, token: &VerifiedToken) {
        assert!(
            sessions::end(&mut self.connection, token)
                .await
                .expect("it answers")
        );
    }

    /// Both statements of a log-in.
    pub async fn bare_login(&mut self, request: &Request) {
        let userid = UserId::canonical(USERID);
        let keys = LoginCounts::new(&userid, source_address(request), 50);
        let attempt = attempts::reserve_login(&mut self.connection, &keys, &userid, &[]).await;
        let Ok(Attempt::Reserved(reservation, Some(_))) = attempt else {
            panic!("the user is there and not locked")
        };
        let session_id = Uuid::new_v4();
        let token = self.app.keys.sign(session_id, self.user.user_id, USERID, now());
        let session = NewSession {
            session_id,
            user_id: self.user.user_id,
            token: token.expect("signed").digest(),
            lifetime: self.app.keys.lifetime(),
            max_idle: None,
            password_version: 0,
            user_agent: None,
            address: source_address(request),
        };
        let opened = sessions::open(&mut self.connection, &session, &reservation, None).await;
        assert!(opened.expect("it answers"));
    }

    /// Both statements of a registration.
    pub async fn bare_register(&mut self, request: &Request, userid: &str) {
        let user = NewUser {
            userid: UserId::canonical(userid),
            user_name: userid.to_owned(),
            country: None,
            job: None,
            phone: None,
            email: None,
            init_cn_level: None,
        };
        let count = Count::of_registrations(source_address(request), 1_000_000);
        let reserved =
            attempts::reserve_registration(&mut self.connection, count.as_ref(), &user.userid).await;
        reserved.expect("it answers");
        let written = users::insert(
            &mut self.connection,
            &user,
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
        )
        .await;
        assert!(written.expect("it answers").is_some());
    }
}

async fn answer(app: &App, route: &dyn Served, request: Request) {
    let response = route.serve(app, request).await;
    assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens are verified against the clock of the boundary"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A hash with the smallest parameters.
pub fn smallest_hash() {
    let params = Params::new(8, 1, 1, None).expect("the smallest there are");
    let mut memory = vec![Block::new(); params.block_count()];
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(PASSWORD.as_bytes(), b"sixteen of bytes", &mut hash, &mut memory)
        .expect("hashed");
}

/// Argon2id with the default parameters as in the crate's documentation, which allocates for each hash.
pub fn documented_hash() {
    let mut hash = [0; 32];
    argon2id()
        .hash_password_into(PASSWORD.as_bytes(), b"sixteen of bytes", &mut hash)
        .expect("hashed");
}

/// The same in reused memory.
pub fn hash_in(memory: &mut [Block]) {
    let mut hash = [0; 32];
    argon2id()
        .hash_password_into_with_memory(PASSWORD.as_bytes(), b"sixteen of bytes", &mut hash, memory)
        .expect("hashed");
}

/// Memory for [`hash_in`].
pub fn memory() -> Vec<Block> {
    vec![Block::new(); Params::DEFAULT.block_count()]
}

fn argon2id() -> Argon2<'static> {
    // 19456 KiB, two passes, one lane: the defaults of the crate and ours.
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}
