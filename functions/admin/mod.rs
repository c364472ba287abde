//! What operators do with accounts. Invoked with an event by whoever IAM lets; has no route. Writes one line
//! `authz_admin` an invocation, whatever becomes of it.

mod event;
mod import;

use std::collections::HashMap;

use chrono::TimeDelta;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use shared::config::{self, ConfigError, DatabaseConfig, Environment};
use shared::database::{Database, DatabaseError, one_request};
use shared::http::cannot_start;
use shared::http::event::Event;
use shared::telemetry::{self, OperatorAction, SecurityEvent};
use shared::users::operators::{self, Account, Asked, Invited, Wanted};
use tracing::Instrument as _;
use uuid::Uuid;

use self::event::{Action, Invocation, Request};
use self::import::{Refused, Users};

/// What the function needs.
pub struct Admin {
    /// The connection to PostgreSQL.
    pub database: Database,
    /// How long a live session may be idle; `None`: as long as it lives.
    pub max_idle: Option<TimeDelta>,
    /// Somebody sends the mails in the outbox.
    pub sends_mail: bool,
}

impl Admin {
    /// As the settings in `environment` say. Opens no connection yet.
    ///
    /// # Errors
    /// Names the first setting that is missing or invalid.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            database: Database::new(DatabaseConfig::from_environment(environment)?),
            max_idle: config::max_idle(environment)?,
            sends_mail: config::mail_is_set_up(environment),
        })
    }
}

/// Runs the function until the instance is shut down. A missing or invalid setting stops startup.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run() -> Result<(), lambda_runtime::Error> {
    telemetry::init(telemetry::standard_output);
    let admin = Admin::from_environment(&Environment::of_process());
    let admin = &admin.unwrap_or_else(|error| cannot_start(&error));
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Event>| {
        let span = tracing::info_span!("invocation", request_id = event.context.request_id);
        let answer = handle(admin, event.payload.json()).instrument(span.clone()).await;
        answer.map_err(|error| {
            span.in_scope(|| tracing::error!(%error, "failed"));
            error.to_string()
        })
    }))
    .await
}

/// Does what an event asks for, and logs it. Answers with `users` (for `missing` and `import`: their own members), or
/// with `error`, one sentence, if nothing was done.
///
/// # Errors
/// When the database fails. Repeating an event is harmless.
pub async fn handle(admin: &Admin, event: &str) -> Result<Value, DatabaseError> {
    let Invocation {
        by,
        reason,
        action,
        request,
    } = event::read(event);
    let mut done = Done::default();
    let outcome = match request {
        // Boxed like a handler: its future is large.
        Ok(request) => Box::pin(one_request(admin.carry_out(request, &mut done))).await,
        Err(message) => Err(Stop::Refused(message)),
    };
    OperatorAction {
        by: by.as_deref(),
        reason: reason.as_deref(),
        action,
        outcome: match &outcome {
            Ok(_) => done.outcome.unwrap_or("done"),
            Err(Stop::NotFound) => "not_found",
            Err(Stop::Refused(_)) => "refused",
            Err(Stop::Database(_)) => "failed",
        },
        user_id: done.user_id,
        users: done.users,
    }
    .log();
    for event in done.events {
        event.log();
    }
    match outcome {
        Ok(answer) => Ok(answer),
        Err(Stop::NotFound) => Ok(json!({ "error": "there is no such user" })),
        Err(Stop::Refused(message)) => Ok(json!({ "error": message })),
        Err(Stop::Database(error)) => Err(error),
    }
}

/// What there is to log.
#[derive(Default)]
struct Done {
    /// The user whom it was done to.
    user_id: Option<Uuid>,
    /// The number of users that were found or written, where that may be another than one.
    users: Option<usize>,
    /// If it is another than `done`.
    outcome: Option<&'static str>,
    events: Vec<SecurityEvent>,
}

/// Why an action ended early.
enum Stop {
    NotFound,
    Refused(String),
    Database(DatabaseError),
}

impl From<DatabaseError> for Stop {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

/// What a statement about one user means if it found none.
fn found(changed: bool) -> Result<(), Stop> {
    if changed { Ok(()) } else { Err(Stop::NotFound) }
}

impl Admin {
    async fn carry_out(&self, request: Request, done: &mut Done) -> Result<Value, Stop> {
        match request {
            Request::OfUser(wanted, Action::Find) => {
                let users = self.find(&wanted).await?;
                done.users = Some(users.len());
                if let [user] = &users[..] {
                    done.user_id = Some(user.user.user_id);
                }
                Ok(json!({ "users": users }))
            }
            Request::OfUser(wanted, action) => self.change(&wanted, action, done).await,
            Request::Missing(user_ids) => {
                let missing = self.database.read(&user_ids, |connection, user_ids| {
                    Box::pin(operators::missing(connection, user_ids))
                });
                Ok(json!({ "missing": missing.await? }))
            }
            Request::Invite(invited) => self.invite(&invited, done).await,
            Request::Import(users) => self.import(users, done).await,
        }
    }

    async fn find(&self, wanted: &Wanted) -> Result<Vec<Account>, DatabaseError> {
        self.database
            .read(&(wanted, self.max_idle), |connection, (wanted, max_idle)| {
                Box::pin(operators::find(connection, wanted, *max_idle))
            })
            .await
    }

    /// Changes the one user who is meant, and answers what became of it; of a deleted one, what it was.
    async fn change(&self, wanted: &Wanted, action: Action, done: &mut Done) -> Result<Value, Stop> {
        let users = self.find(wanted).await?;
        let user_id = match &users[..] {
            [] => return Err(Stop::NotFound),
            [user] => user.user.user_id,
            _ => {
                done.users = Some(users.len());
                return Err(Stop::Refused(
                    "there are several users with this email: name one of them by user_id".to_owned(),
                ));
            }
        };
        done.user_id = Some(user_id);
        match action {
            Action::Find => {}
            Action::Disable => self.set_disabled(user_id, true).await?,
            Action::Enable => self.set_disabled(user_id, false).await?,
            Action::EndSessions => {
                let changed = self.database.write(&user_id, |connection, user_id| {
                    Box::pin(operators::end_sessions(connection, *user_id))
                });
                found(changed.await?)?;
            }
            Action::SetRoles(roles) => {
                let changed = self
                    .database
                    .write(&(user_id, roles), |connection, (user_id, roles)| {
                        Box::pin(operators::set_roles(connection, *user_id, roles))
                    })
                    .await?;
                if changed.ok_or(Stop::NotFound)? {
                    done.events.push(SecurityEvent::RolesChange { user_id });
                }
            }
            Action::SetEmail(email) => {
                let changed = self
                    .database
                    .write(&(user_id, email), |connection, (user_id, email)| {
                        Box::pin(operators::set_email(connection, *user_id, email))
                    })
                    .await?;
                found(changed)?;
            }
            Action::AskReset => self.ask_reset(user_id).await?,
            Action::Delete => {
                let changed = self.database.write(&user_id, |connection, user_id| {
                    Box::pin(operators::delete(connection, *user_id))
                });
                found(changed.await?)?;
                done.events.push(SecurityEvent::UserDeleted { user_id });
                return Ok(json!({ "users": users }));
            }
        }
        let users = self.find(&Wanted::Key(user_id)).await?;
        Ok(json!({ "users": users }))
    }

    async fn set_disabled(&self, user_id: Uuid, disabled: bool) -> Result<(), Stop> {
        let changed = self
            .database
            .write(&(user_id, disabled), |connection, (user_id, disabled)| {
                Box::pin(operators::set_disabled(connection, *user_id, *disabled))
            })
            .await?;
        found(changed)
    }

    fn must_send_mail(&self) -> Result<(), Stop> {
        if self.sends_mail {
            Ok(())
        } else {
            Err(Stop::Refused(
                "no mail is set up: MAIL_FROM is missing".to_owned(),
            ))
        }
    }

    async fn ask_reset(&self, user_id: Uuid) -> Result<(), Stop> {
        self.must_send_mail()?;
        let asked = self.database.write(&user_id, |connection, user_id| {
            Box::pin(operators::ask_reset(connection, *user_id))
        });
        match asked.await? {
            None => Err(Stop::NotFound),
            Some(Asked::Done) => Ok(()),
            Some(Asked::Disabled) => Err(Stop::Refused("the user is disabled".to_owned())),
            Some(Asked::NoAddress) => Err(Stop::Refused("the user has no e-mail address".to_owned())),
        }
    }

    async fn invite(&self, invited: &Invited, done: &mut Done) -> Result<Value, Stop> {
        self.must_send_mail()?;
        let made = self.database.write(&invited, |connection, invited| {
            Box::pin(operators::invite(connection, invited))
        });
        let taken = || Stop::Refused("the userid is taken".to_owned());
        let user_id = made.await?.ok_or_else(taken)?;
        done.user_id = Some(user_id);
        done.events.push(SecurityEvent::UserCreated { user_id });
        let users = self.find(&Wanted::Key(user_id)).await?;
        Ok(json!({ "users": users }))
    }

    /// Writes all users who are not there yet, or none if one is refused.
    async fn import(&self, users: Users, done: &mut Done) -> Result<Value, Stop> {
        let Users {
            valid,
            mut refused,
            dry_run,
        } = users;
        done.outcome = dry_run.then_some("dry_run");
        let dry_run = dry_run || !refused.is_empty();
        let text = serde_json::to_string(&valid).map_err(|error| DatabaseError::Defect(error.to_string()))?;
        let arguments = (text, dry_run);
        let import = loop {
            // Ends, since each time somebody else has written users, or when the time of one request is over.
            let import = self.database.write(&arguments, |connection, (users, dry_run)| {
                Box::pin(operators::import(connection, users, *dry_run))
            });
            if let Some(import) = import.await? {
                break import;
            }
        };
        let taken = import.taken.iter().map(|&index| Refused {
            index,
            message: "user_id is that of another account".to_owned(),
        });
        refused.extend(taken);
        refused.sort_by_key(|user| user.index);
        if !refused.is_empty() {
            done.outcome = Some("refused");
        }
        let mut made: HashMap<String, Uuid> = HashMap::new();
        made.extend(import.made.into_iter().map(|(user_id, userid)| (userid, user_id)));
        done.users = Some(made.len());
        let present: Vec<usize> = if dry_run || !refused.is_empty() {
            import.present
        } else {
            // Those, too, whom somebody else wrote at the same time.
            let present = valid.iter().filter(|user| !made.contains_key(&user.userid));
            present.map(|user| user.index).collect()
        };
        // In the order in which they were given.
        let made: Vec<Uuid> = valid
            .iter()
            .filter_map(|user| made.get(&user.userid).copied())
            .collect();
        Ok(json!({ "made": made, "present": present, "refused": refused }))
    }
}
