//! Takes what is to be sent out of the database, and makes mails and events of it. Invoked by a schedule with any
//! event; the Lambda service hands the answer to the function `courier`, which can reach the mail service and not the
//! database.

mod texts;

use std::sync::Arc;

use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::{Value, json};
use shared::app::{App, Need, StartError, State};
use shared::aws;
use shared::config::{Environment, LinkPages, LinkScheme, TokenConfig};
use shared::database::{Database, DatabaseError};
use shared::http::Instance;
use shared::links::LinkKeys;
use shared::outbox::{self, Kind, Message, Taken};

/// What is to be sent.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub struct Outgoing {
    /// Oldest first.
    pub mails: Vec<Mail>,
    /// For other services.
    pub events: Vec<Event>,
}

/// A mail in plain text.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Mail {
    /// The address.
    pub to: String,
    /// One line in ASCII.
    pub subject: &'static str,
    /// Lines.
    pub text: String,
}

/// An event for other services.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Event {
    /// `user_deleted`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `{"user_id": "…"}`
    pub detail: Value,
}

/// The state of the function.
pub struct Outbox {
    database: Arc<Database>,
    links: Arc<LinkKeys>,
    /// Where links lead; none if no mails are sent.
    pages: Option<LinkPages>,
}

impl State for Outbox {
    const NEEDS: &'static [Need] = &[Need::Database, Need::Keys];

    async fn load(environment: &Environment) -> Result<Self, StartError> {
        Ok(Self {
            database: Arc::load(environment).await?,
            pages: LinkPages::from_environment(environment, LinkScheme::Https)?,
            links: Arc::new(LinkKeys::new(&TokenConfig::from_environment(
                &aws::with_secret_keys(environment).await?,
            )?)),
        })
    }

    fn part_of(app: &App) -> Self {
        Self {
            database: app.database.clone(),
            links: app.links.clone(),
            pages: app.mail.clone(),
        }
    }

    fn database(&self) -> &Database {
        &self.database
    }
}

/// Runs the function until the instance is shut down.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run() -> Result<(), lambda_runtime::Error> {
    let instance = &Instance::<Outbox>::start().await;
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| {
        handle(instance)
            .await
            .inspect_err(|error| tracing::error!(error, "outbox"))
    }))
    .await
}

/// Takes what is due, and logs one line.
async fn handle(instance: &Instance<Outbox>) -> Result<Outgoing, String> {
    let outbox = instance.state().await.map_err(|error| error.to_string())?;
    let taken = outbox.take().await.map_err(|error| error.to_string())?;
    let (oldest_seconds, left) = (taken.oldest_seconds, taken.left);
    let outgoing = outbox.outgoing(taken);
    let (mails, events) = (outgoing.mails.len(), outgoing.events.len());
    tracing::info!(mails, events, oldest_seconds, left, "outbox");
    Ok(outgoing)
}

impl Outbox {
    /// Takes what is due out of the database.
    ///
    /// # Errors
    /// The database cannot be reached or is too slow. Whether something was taken is then unknown.
    pub async fn take(&self) -> Result<Taken, DatabaseError> {
        self.database
            .write(&(), |connection, ()| Box::pin(outbox::take(connection)))
            .await
    }

    /// What to send about `taken`.
    #[must_use]
    pub fn outgoing(&self, taken: Taken) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for message in taken.messages {
            outgoing.events.extend(event(&message));
            let pages = self.pages.as_ref();
            outgoing
                .mails
                .extend(pages.and_then(|pages| texts::mail(&message, &self.links, pages)));
        }
        outgoing
    }
}

fn event(message: &Message) -> Option<Event> {
    let user_id = message.user_id.filter(|_| message.kind == Kind::UserDeleted)?;
    Some(Event {
        kind: "user_deleted",
        detail: json!({ "user_id": user_id }),
    })
}
