//! Logs: one JSON object per line. Values are escaped by the JSON writer, so client input cannot start a new line or
//! add a member; besides, none of it is logged except the source address.

mod json;

use std::io;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use uuid::Uuid;

use self::json::JsonLog;

/// Sends logs, including panics, to `writer`. Call once, first.
pub fn init(writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static) {
    // Fails only if a subscriber is already set; then that one logs.
    let _ = tracing::subscriber::set_global_default(subscriber(writer));
    report_panics();
}

/// Sends panics to the log instead of standard error.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // Only the location: the message of a panic may contain anything.
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let span = tracing::Span::current();
        if span.is_none() {
            tracing::error!(location, "panic");
        } else {
            // Within a request, it is part of its line.
            span.record("panic", location);
        }
    }));
}

/// Writes each event to `writer` as one line of JSON.
pub fn subscriber(
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> impl tracing::Subscriber + Send + Sync {
    Registry::default()
        .with(JsonLog(writer))
        .with(filter_fn(is_logged).with_max_level_hint(LevelFilter::INFO))
}

/// The driver logs notices of the server, which may quote any value; the runtime logs a failed invocation. Errors are
/// logged by us, once.
fn is_logged(metadata: &Metadata) -> bool {
    *metadata.level() <= LevelFilter::INFO
        && !["sqlx", "lambda_runtime::layers::panic"]
            .iter()
            .any(|target| metadata.target().starts_with(target))
}

/// Where a deployed function logs to: the Lambda service collects standard output.
#[must_use]
pub fn standard_output() -> io::Stdout {
    io::stdout()
}

/// How a user logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginWay {
    /// With JSON.
    Json,
    /// With a form, as OAuth2 clients do.
    Form,
}

impl LoginWay {
    fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Form => "form",
        }
    }
}

/// Security events, named after OWASP's logging vocabulary. Request id and source address are in the span of the
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityEvent {
    /// `authn_login_success`
    LoginSuccess {
        /// Who logged in.
        user_id: Uuid,
        /// How.
        way: LoginWay,
    },
    /// `authn_login_fail`
    LoginFail {
        /// The account, if there is one.
        user_id: Option<Uuid>,
        /// How; `None` if a logged-in user had to confirm the password.
        way: Option<LoginWay>,
    },
    /// `authn_login_successafterfail`, besides `authn_login_success`
    LoginSuccessAfterFail {
        /// Who logged in.
        user_id: Uuid,
        /// How.
        way: LoginWay,
        /// Number of failures before.
        failures: u32,
    },
    /// `authn_login_fail_max`: rejected without verification, since too many have failed.
    LoginFailMax {
        /// The account, if there is one.
        user_id: Option<Uuid>,
        /// How; `None` if a logged-in user had to confirm the password.
        way: Option<LoginWay>,
    },
    /// `excess_rate_limit_exceeded`: too many attempts to log in at once.
    TooManyLogins {
        /// The account, if there is one.
        user_id: Option<Uuid>,
        /// How; `None` if a logged-in user had to confirm the password.
        way: Option<LoginWay>,
    },
    /// `excess_rate_limit_exceeded`: too many registrations.
    TooManyRegistrations,
    /// `excess_rate_limit_exceeded`: too many requests for mails.
    TooManyMailRequests,
    /// `authn_token_revoked`: one session was ended, or all others.
    TokenRevoked {
        /// Its user.
        user_id: Uuid,
    },
    /// `authn_password_change`
    PasswordChange {
        /// Its user.
        user_id: Uuid,
    },
    /// `authn_password_change_fail`: the current password was wrong, or the link was not valid.
    PasswordChangeFail {
        /// Its user, if there is one.
        user_id: Option<Uuid>,
    },
    /// `user_updated`
    UserUpdated {
        /// The account.
        user_id: Uuid,
    },
    /// `user_deleted`
    UserDeleted {
        /// The former account.
        user_id: Uuid,
    },
    /// `authz_fail`: a link that does not confirm an address.
    LinkRefused {
        /// Its user, if there is one.
        user_id: Option<Uuid>,
    },
    /// `authz_fail`: a token that is not live.
    TokenRefused {
        /// Its user, if it is one of ours.
        user_id: Option<Uuid>,
    },
    /// `authz_change`: other roles than before.
    RolesChange {
        /// Whose.
        user_id: Uuid,
    },
    /// `user_created`
    UserCreated {
        /// The new account.
        user_id: Uuid,
    },
    /// `input_validation_fail`
    InputValidationFail,
}

impl SecurityEvent {
    /// Logs the event.
    pub fn log(self) {
        let (event, user_id, way) = match self {
            Self::LoginSuccess { user_id, way } => ("authn_login_success", Some(user_id), Some(way)),
            Self::LoginFail { user_id, way } => ("authn_login_fail", user_id, way),
            Self::LoginSuccessAfterFail { user_id, way, .. } => {
                ("authn_login_successafterfail", Some(user_id), Some(way))
            }
            Self::LoginFailMax { user_id, way } => ("authn_login_fail_max", user_id, way),
            Self::TooManyLogins { user_id, way } => ("excess_rate_limit_exceeded", user_id, way),
            Self::TooManyRegistrations | Self::TooManyMailRequests => {
                ("excess_rate_limit_exceeded", None, None)
            }
            Self::TokenRevoked { user_id } => ("authn_token_revoked", Some(user_id), None),
            Self::TokenRefused { user_id } | Self::LinkRefused { user_id } => ("authz_fail", user_id, None),
            Self::RolesChange { user_id } => ("authz_change", Some(user_id), None),
            Self::UserCreated { user_id } => ("user_created", Some(user_id), None),
            Self::PasswordChange { user_id } => ("authn_password_change", Some(user_id), None),
            Self::PasswordChangeFail { user_id } => ("authn_password_change_fail", user_id, None),
            Self::UserUpdated { user_id } => ("user_updated", Some(user_id), None),
            Self::UserDeleted { user_id } => ("user_deleted", Some(user_id), None),
            Self::InputValidationFail => ("input_validation_fail", None, None),
        };
        let failures = match self {
            Self::LoginSuccessAfterFail { failures, .. } => Some(failures),
            _ => None,
        };
        let user_id = user_id.map(tracing::field::display);
        let way = way.map(LoginWay::as_str);
        match self {
            Self::LoginSuccess { .. }
            | Self::TokenRevoked { .. }
            | Self::RolesChange { .. }
            | Self::UserCreated { .. }
            | Self::PasswordChange { .. }
            | Self::UserUpdated { .. }
            | Self::UserDeleted { .. } => {
                tracing::info!(event, user_id, way, "security");
            }
            _ => tracing::warn!(event, user_id, way, failures, "security"),
        }
    }
}

/// The security event `authz_admin`: what an operator did or tried to do.
#[derive(Clone, Copy, Debug)]
pub struct OperatorAction<'a> {
    /// Who, as stated; absent if that was unusable.
    pub by: Option<&'a str>,
    /// Why, as stated; absent if that was unusable.
    pub reason: Option<&'a str>,
    /// What; absent if there is no such action.
    pub action: Option<&'a str>,
    /// `done`, `dry_run`, `not_found`, `refused` or `failed`.
    pub outcome: &'a str,
    /// The user whom it was to be done to.
    pub user_id: Option<Uuid>,
    /// The number of users that were found or written, for actions on several.
    pub users: Option<usize>,
}

impl OperatorAction<'_> {
    /// Logs the event.
    pub fn log(self) {
        let Self {
            by,
            reason,
            action,
            outcome,
            users,
            ..
        } = self;
        let user_id = self.user_id.map(tracing::field::display);
        tracing::info!(
            event = "authz_admin",
            action,
            by,
            reason,
            outcome,
            user_id,
            users,
            "security"
        );
    }
}
