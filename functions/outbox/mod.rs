//! Takes what is to be sent out of the database, and makes mails and events of it. Invoked by a schedule with any event; the
//! Lambda service hands the answer to the function `courier`, which can reach the mail service and not the database.

mod texts;

use serde::Serialize;
use serde_json::{Value, json};
use shared::app::StartError;
use shared::aws::{self, AwsError};
use shared::config::{ConfigError, DatabaseConfig, Environment, LinkPages, LinkScheme, TokenConfig};
use shared::database::{Database, DatabaseError};
use shared::links::LinkKeys;
use shared::outbox::{self, Kind, Message, Taken};
use thiserror::Error;

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

/// Why nothing was taken. The next run takes it.
#[derive(Debug, Error)]
pub enum Failure {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret could not be read.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// The database cannot be reached or is too slow.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => Self::Config(error),
            StartError::Aws(error) => Self::Aws(error),
        }
    }
}

/// Takes what is due, with the settings in `environment`: those of the database and of tokens, and where links lead.
///
/// # Errors
/// A message for the log of the function, without secrets.
pub async fn handle(environment: &Environment) -> Result<Outgoing, Failure> {
    let pages = LinkPages::from_environment(environment, LinkScheme::Https)?;
    let database = Database::new(DatabaseConfig::from_environment(environment)?);
    let tokens = TokenConfig::from_environment(&aws::with_secret_keys(environment).await?)?;
    let taken = take(&database).await?;
    let (oldest_seconds, left) = (taken.oldest_seconds, taken.left);
    let outgoing = Outgoing::of(taken, &LinkKeys::new(&tokens), pages.as_ref());
    let (mails, events) = (outgoing.mails.len(), outgoing.events.len());
    tracing::info!(mails, events, oldest_seconds, left, "outbox");
    Ok(outgoing)
}

/// Takes what is due out of the outbox.
///
/// # Errors
/// The database cannot be reached or is too slow. Whether something was taken is then unknown.
pub async fn take(database: &Database) -> Result<Taken, DatabaseError> {
    database
        .write(&(), |connection, ()| Box::pin(outbox::take(connection)))
        .await
}

impl Outgoing {
    /// What to send about `taken`. Without `pages` no mails are sent.
    #[must_use]
    pub fn of(taken: Taken, keys: &LinkKeys, pages: Option<&LinkPages>) -> Self {
        let mut outgoing = Self::default();
        for message in taken.messages {
            outgoing.events.extend(event(&message));
            outgoing
                .mails
                .extend(pages.and_then(|pages| texts::mail(&message, keys, pages)));
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
