//! The users in an event of the action `import`: every one is checked by the rules of registration, and all that is
//! wrong with one is said at once.

use std::collections::HashSet;

use chrono::{DateTime, Datelike as _, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::password;
use shared::users;
use shared::users::operators::Imported;
use shared::validation::ValidationError;

use super::event::{self, Members};

/// Maximum users of one event: their JSON is far below Lambda's limit of 6 MB, and writing them below the statement
/// timeout.
const MAX_USERS: usize = 5_000;

/// Users to be imported.
pub(super) struct Users {
    pub valid: Vec<Imported>,
    pub refused: Vec<Refused>,
    pub dry_run: bool,
}

/// A user that cannot be imported.
#[derive(Serialize)]
pub(super) struct Refused {
    /// Its place among those that were given.
    pub index: usize,
    /// What is wrong with it; names members, and quotes no value.
    pub message: String,
}

/// Takes the members of the action. Two users with one userid or one key are refused, but for the first.
pub(super) fn users(members: &mut Members) -> Result<Users, String> {
    let dry_run = members.flag("dry_run")?;
    let values = match members.take("users")? {
        Value::Array(values) if (1..=MAX_USERS).contains(&values.len()) => values,
        _ => return Err(format!("users must be an array of 1 to {MAX_USERS} objects")),
    };
    let (mut valid, mut refused) = (Vec::new(), Vec::new());
    let (mut userids, mut user_ids) = (HashSet::new(), HashSet::new());
    for (index, value) in values.into_iter().enumerate() {
        let user = user(index, value).and_then(|user| {
            if !userids.insert(user.userid.clone()) {
                Err("userid is that of another user before".to_owned())
            } else if user.user_id.is_some_and(|user_id| !user_ids.insert(user_id)) {
                Err("user_id is that of another user before".to_owned())
            } else {
                Ok(user)
            }
        });
        match user {
            Ok(user) => valid.push(user),
            Err(message) => refused.push(Refused { index, message }),
        }
    }
    Ok(Users {
        valid,
        refused,
        dry_run,
    })
}

fn user(index: usize, value: Value) -> Result<Imported, String> {
    let Value::Object(members) = value else {
        return Err("must be an object".to_owned());
    };
    let mut members = Members(members);
    let mut problems = Vec::new();
    let userid = members.valid("userid", event::userid_and_name);
    let user_id = optional(&mut members, "user_id", event::uuid, &mut problems);
    let user_name = optional(&mut members, "user_name", users::user_name, &mut problems);
    let country = optional_text(&mut members, "country", users::country_or_job, &mut problems);
    let job = optional_text(&mut members, "job", users::country_or_job, &mut problems);
    let phone = optional_text(&mut members, "phone", users::phone, &mut problems);
    let email = optional(&mut members, "email", users::email, &mut problems);
    let init_cn_level = optional_text(&mut members, "init_cn_level", users::init_cn_level, &mut problems);
    let email_verified_at = optional(&mut members, "email_verified_at", time, &mut problems);
    let reg_time = optional(&mut members, "reg_time", time, &mut problems);
    let disabled_at = optional(&mut members, "disabled_at", time, &mut problems);
    let password_hash = optional(&mut members, "password_hash", hash, &mut problems);
    let roles = match members.0.remove("roles") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(roles) => event::roles(roles).map_err(|problem| format!("roles {problem}")),
    };
    if email_verified_at.is_some() && email.is_none() {
        problems.push("email_verified_at needs an email".to_owned());
    }
    let finished = members.finish();
    match (userid, roles, finished) {
        (Ok((userid, as_typed)), Ok(roles), Ok(())) if problems.is_empty() => Ok(Imported {
            index,
            user_id,
            userid: userid.as_str().to_owned(),
            user_name: user_name.unwrap_or(as_typed),
            country,
            job,
            phone,
            email,
            email_verified_at,
            init_cn_level,
            roles,
            reg_time,
            disabled_at,
            password_hash,
        }),
        (userid, roles, finished) => {
            problems.extend([userid.err(), roles.err(), finished.err()].into_iter().flatten());
            Err(problems.join("; "))
        }
    }
}

/// Takes an optional member: null and the empty string count as absent.
fn optional<T, E: std::fmt::Display>(
    members: &mut Members,
    name: &str,
    check: impl FnOnce(&str) -> Result<T, E>,
    problems: &mut Vec<String>,
) -> Option<T> {
    match members.0.get(name) {
        None => return None,
        Some(Value::Null) => {
            members.0.remove(name);
            return None;
        }
        Some(Value::String(text)) if text.is_empty() => {
            members.0.remove(name);
            return None;
        }
        Some(_) => {}
    }
    members
        .valid(name, check)
        .map_err(|problem| problems.push(problem))
        .ok()
}

/// Takes an optional text: null and a blank text count as absent.
fn optional_text(
    members: &mut Members,
    name: &str,
    check: impl FnOnce(&str) -> Result<String, ValidationError>,
    problems: &mut Vec<String>,
) -> Option<String> {
    optional(members, name, check, problems).filter(|text| !text.is_empty())
}

/// A time with its zone (RFC 3339), in the years that both PostgreSQL and RFC 3339 have.
fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    DateTime::parse_from_rfc3339(text)
        .map(DateTime::<Utc>::from)
        .ok()
        .filter(|time| (1..=9999).contains(&time.year()))
        .ok_or("must be a time like 2026-11-25T08:30:00Z")
}

fn hash(text: &str) -> Result<String, &'static str> {
    if password::is_usable_hash(text) {
        Ok(text.to_owned())
    } else {
        Err("must be a hash of Argon2id or bcrypt within the limits")
    }
}
