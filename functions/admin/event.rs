//! The event: strict, since nobody is there to notice that a member was misspelt. A message names the member, and never
//! quotes a value.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use serde_json::{Map, Value};
use shared::http::body;
use shared::users::operators::{Invited, Wanted};
use shared::users::{self, UserId};
use shared::validation::ValidationError;
use uuid::Uuid;

use super::import::{self, Users};

/// What an event asks for.
pub(super) struct Invocation {
    /// Who asks for it, if that is usable.
    pub by: Option<String>,
    /// Why, if that is usable.
    pub reason: Option<String>,
    /// The name of the action, if it is one.
    pub action: Option<&'static str>,
    /// What to do, or a sentence that says what is wrong with the event.
    pub request: Result<Request, String>,
}

/// What to do.
pub(super) enum Request {
    /// To one user; to find, to several.
    OfUser(Wanted, Action),
    /// Which of these are no user's?
    Missing(Vec<Uuid>),
    Invite(Invited),
    Import(Users),
}

/// What to do to one user.
pub(super) enum Action {
    Find,
    Disable,
    Enable,
    EndSessions,
    SetRoles(Vec<String>),
    SetEmail(String),
    AskReset,
    Delete,
}

const ACTIONS: [&str; 11] = [
    "find",
    "disable",
    "enable",
    "end_sessions",
    "set_roles",
    "set_email",
    "ask_reset",
    "missing",
    "delete",
    "invite",
    "import",
];

/// Maximum code points of `by` and of `reason`.
const MAX_NOTE: usize = 200;
/// Maximum code points of a userid or an e-mail address to look for: longer ones than any that is stored.
const MAX_WANTED: usize = 1_000;
/// Maximum `user_ids` of one event.
const MAX_USER_IDS: usize = 1_000;
/// Maximum roles of a user.
const MAX_ROLES: usize = 16;

/// Reads an event.
pub(super) fn read(json: &str) -> Invocation {
    let mut invocation = Invocation {
        by: None,
        reason: None,
        action: None,
        request: Err("the event must be one JSON object without repeated members".to_owned()),
    };
    // A repeated member is refused, since parsers differ in which one they use.
    let unique = serde_json::from_str::<body::Members>(json).is_ok();
    let Some(members) = serde_json::from_str(json).ok().filter(|_| unique) else {
        return invocation;
    };
    let mut members = Members(members);
    let action = members.text("action", MAX_NOTE);
    let by = members.text("by", MAX_NOTE);
    let reason = members.text("reason", MAX_NOTE);
    invocation.by = by.as_ref().ok().cloned();
    invocation.reason = reason.as_ref().ok().cloned();
    invocation.action = action
        .as_ref()
        .ok()
        .and_then(|action| ACTIONS.into_iter().find(|known| known == action));
    invocation.request = action.and(by).and(reason).and_then(|_| {
        let request = match invocation.action {
            Some(action) => request(action, &mut members)?,
            None => return Err(format!("action must be one of {}", ACTIONS.join(", "))),
        };
        members.finish()?;
        Ok(request)
    });
    invocation
}

fn request(action: &str, members: &mut Members) -> Result<Request, String> {
    let action = match action {
        "missing" => return Ok(Request::Missing(user_ids(members.take("user_ids")?)?)),
        "invite" => return invited(members).map(Request::Invite),
        "import" => return import::users(members).map(Request::Import),
        "disable" => Action::Disable,
        "enable" => Action::Enable,
        "end_sessions" => Action::EndSessions,
        "set_roles" => Action::SetRoles(named("roles", roles(members.take("roles")?))?),
        "set_email" => Action::SetEmail(members.valid("new_email", users::email)?),
        "ask_reset" => Action::AskReset,
        "delete" => Action::Delete,
        _ => Action::Find,
    };
    Ok(Request::OfUser(wanted(members)?, action))
}

fn wanted(members: &mut Members) -> Result<Wanted, String> {
    let given = ["user_id", "userid", "email"].map(|name| members.0.contains_key(name));
    match given {
        [true, false, false] => members.valid("user_id", |text| uuid(text).map(Wanted::Key)),
        [false, true, false] => {
            let userid = members.text("userid", MAX_WANTED)?;
            Ok(Wanted::Userid(UserId::canonical(&userid)))
        }
        [false, false, true] => members.text("email", MAX_WANTED).map(Wanted::Email),
        [false, false, false] => Err("one of user_id, userid and email is required".to_owned()),
        _ => Err("only one of user_id, userid and email may be given".to_owned()),
    }
}

fn invited(members: &mut Members) -> Result<Invited, String> {
    let (userid, user_name) = members.valid("userid", userid_and_name)?;
    Ok(Invited {
        userid,
        user_name,
        email: members.valid("email", users::email)?,
    })
}

/// The userid of a new user, and the display name if no other is given: the userid as it was typed.
pub(super) fn userid_and_name(typed: &str) -> Result<(UserId, String), ValidationError> {
    let userid = UserId::new(typed)?;
    // The typed form may be longer than the canonical one.
    let name = users::user_name(typed).unwrap_or_else(|_| userid.as_str().to_owned());
    Ok((userid, name))
}

fn user_ids(value: Value) -> Result<Vec<Uuid>, String> {
    let Value::Array(values) = value else {
        return Err("user_ids must be an array of UUIDs".to_owned());
    };
    if values.len() > MAX_USER_IDS {
        return Err(format!("user_ids must have at most {MAX_USER_IDS} elements"));
    }
    let ids = values.iter().enumerate().map(|(place, value)| {
        let id = value.as_str().and_then(|text| uuid(text).ok());
        id.ok_or_else(|| format!("user_ids[{place}] must be a UUID"))
    });
    ids.collect::<Result<Vec<_>, _>>().map(without_repetitions)
}

/// The roles in a JSON array, each once.
pub(super) fn roles(value: Value) -> Result<Vec<String>, String> {
    let role = |value: Value| match value {
        Value::String(role)
            if (1..=32).contains(&role.len())
                && role.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
                }) =>
        {
            Some(role)
        }
        _ => None,
    };
    let roles = match value {
        Value::Array(values) => values.into_iter().map(role).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    roles
        .map(without_repetitions)
        .filter(|roles| roles.len() <= MAX_ROLES)
        .ok_or_else(|| {
            format!("must be an array of at most {MAX_ROLES} texts of 1 to 32 of a-z, 0-9, _ and -")
        })
}

fn without_repetitions<T: Clone + Eq + Hash>(values: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values
        .into_iter()
        .filter(|value| seen.insert(value.clone()))
        .collect()
}

/// A UUID with hyphens, as we write them.
pub(super) fn uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::try_parse(text)
        .ok()
        .filter(|_| text.len() == 36)
        .ok_or("must be a UUID")
}

fn named<T, E: Display>(name: &str, outcome: Result<T, E>) -> Result<T, String> {
    outcome.map_err(|problem| format!("{name} {problem}"))
}

/// The members of an object, taken one by one.
pub(super) struct Members(pub Map<String, Value>);

impl Members {
    /// Takes a required member.
    pub(super) fn take(&mut self, name: &str) -> Result<Value, String> {
        let value = self.0.remove(name);
        named(name, value.ok_or(ValidationError::Missing))
    }

    /// Takes a text and checks it.
    pub(super) fn valid<T, E: Display>(
        &mut self,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, String> {
        match self.take(name)? {
            Value::String(text) => named(name, check(&text)),
            _ => named(name, Err(ValidationError::NotText)),
        }
    }

    /// Takes a text of 1 to `most` code points.
    fn text(&mut self, name: &str, most: usize) -> Result<String, String> {
        self.valid(name, |text| {
            if !(1..=most).contains(&text.chars().count()) {
                Err(ValidationError::Length(1, most))
            } else if text.contains('\0') {
                Err(ValidationError::Nul)
            } else {
                Ok(text.to_owned())
            }
        })
    }

    /// Takes a boolean, by default `false`.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.0.remove(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(format!("{name} must be true or false")),
        }
    }

    /// To be called at the end: no other members are known.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            // Escaped and cut: it may be anything.
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                Err(format!("{name:?} is not a known member"))
            }
        }
    }
}
