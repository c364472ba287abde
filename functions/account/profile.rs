//! `PATCH /auth/me`: changes the user's own profile.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use serde::Serialize;
use shared::auth::{Authenticator, not_live};
use shared::error::Error;
use shared::http::Reply;
use shared::http::body::Members;
use shared::telemetry::SecurityEvent;
use shared::users::{self, ProfileChanges, User};
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
struct Updated {
    user_info: User,
}

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(
    description = "A merge patch: absent members are kept; null, an empty string and, but for `user_name`, blank ones clear \
        them. `userid`, `email`, `password` and `roles` are rejected, whatever their values. Other members are ignored."
)]
#[expect(dead_code, reason = "describes")]
struct ProfilePatch {
    /// The display name; the userid if cleared. Needs a visible character, no control characters.
    #[schema(max_length = 64, example = "Alice")]
    user_name: Option<String>,
    /// No control characters.
    #[schema(max_length = 64, example = "DE")]
    country: Option<String>,
    /// No control characters.
    #[schema(max_length = 64, example = "engineer")]
    job: Option<String>,
    /// Digits, spaces and `+ ( ) - .`, also full-width.
    #[schema(max_length = 32, example = "+49 30 123456")]
    phone: Option<String>,
    /// The level of Chinese at the start. No control characters.
    #[schema(max_length = 32, example = "HSK 2")]
    init_cn_level: Option<String>,
}

/// Answers 200 with the new `user_info`.
///
/// # Errors
/// 40001, 40102, 40103, 41501, 42201, 50301.
#[utoipa::path(
    patch,
    path = "/auth/me",
    operation_id = "updateMe",
    tag = "account",
    summary = "Change my profile",
    description = "Changes the members in the body, by the rules for registration: all of them, or none.",
    request_body = ProfilePatch,
    security(("password" = []), ("token" = [])),
    responses((status = 200, description = "The new profile.", body = Updated)),
)]
pub async fn update(state: &Authenticator, request: &Request, now: DateTime<Utc>) -> Result<Reply, Error> {
    let changes = parse(request)?;
    let token = state.verified_token(request, now)?;
    if changes == ProfileChanges::default() {
        let user_info = state.user_of(&token).await?;
        return Reply::success(Updated { user_info });
    }
    let user_info = state
        .database
        .write(&(&token, &changes), |connection, (token, changes)| {
            Box::pin(users::update_profile(connection, token, changes))
        })
        .await?
        .ok_or_else(|| not_live(&token))?;
    SecurityEvent::UserUpdated {
        user_id: user_info.user_id,
    }
    .log();
    Reply::success(Updated { user_info })
}

fn parse(request: &Request) -> Result<ProfileChanges, Error> {
    let mut members = Members::of_json(request)?;
    for field in ["userid", "email", "password", "roles"] {
        members.forbid(field);
    }
    let changes = ProfileChanges {
        user_name: members.change("user_name", users::user_name),
        country: members.change("country", users::country_or_job),
        job: members.change("job", users::country_or_job),
        phone: members.change("phone", users::phone),
        init_cn_level: members.change("init_cn_level", users::init_cn_level),
    };
    members.finish()?;
    Ok(changes)
}
