//! `POST /auth/forgot`: asks for a mail with a link that sets a new password.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use shared::app::App;
use shared::attempts::Count;
use shared::error::Error;
use shared::http::body::Members;
use shared::http::{self, Reply};
use shared::outbox::{self, Asked};
use shared::telemetry::SecurityEvent;
use shared::users::UserId;
use shared::validation::ValidationError;
use utoipa::ToSchema;

/// Maximum code points of what is typed: those of an address.
const MAX_LENGTH: usize = 254;

/// The members of the body, for the OpenAPI description.
#[derive(ToSchema)]
#[schema(description = "Other members are ignored.")]
#[expect(dead_code, reason = "describes")]
struct ForgottenPassword {
    /// The userid or the e-mail address of the account.
    #[schema(min_length = 1, max_length = 254, example = "alice")]
    account: String,
}

/// Answers 200 without data, whatever the account is. Nobody is looked up.
///
/// # Errors
/// 40001, 40401, 41501, 42201, 42901, 50301.
#[utoipa::path(
    post,
    path = "/auth/forgot",
    operation_id = "forgotPassword",
    tag = "account",
    extensions(("x-codes" = json!([42901]))),
    summary = "I forgot my password",
    description = "Sends a mail with a link to the stored address of the account, if there is one. The response is the same \
        for every account. The link is valid for one hour.",
    request_body = ForgottenPassword,
    responses((status = 200, description = "If the account exists and has an address, a mail is sent.")),
)]
pub async fn handle(app: &App, request: &Request, _now: DateTime<Utc>) -> Result<Reply, Error> {
    super::require_mail(app)?;
    let account = parse(request)?;
    let source = Count::of_mail_requests(
        http::source_address(request),
        app.limits.mails_per_address_per_hour,
    );
    let asked = app
        .database
        .write(&(source, account), |connection, (source, account)| {
            Box::pin(outbox::ask_reset(connection, source.as_ref(), account))
        })
        .await?;
    match asked {
        Asked::Counted => Reply::success(()),
        Asked::TooMany { retry_after } => Err(Error::TooManyAttempts {
            retry_after,
            event: SecurityEvent::TooManyMailRequests,
        }),
    }
}

fn parse(request: &Request) -> Result<UserId, Error> {
    let mut members = Members::of_json(request)?;
    let account = members.required("account", |typed| {
        let typed = typed.trim();
        if typed.contains('\0') {
            return Err(ValidationError::Nul);
        }
        if typed.is_empty() || typed.chars().count() > MAX_LENGTH {
            return Err(ValidationError::Length(1, MAX_LENGTH));
        }
        Ok(UserId::canonical(typed))
    });
    members.finish_with(account)
}
