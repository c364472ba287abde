//! A Lambda authorizer: tells API gateways, of this stack and of others, who is calling. It decides like `GET
//! /auth/me`. A denial is a normal response; the function fails only if it cannot decide, while the database is
//! unavailable.

use chrono::{DateTime, Utc};
use lambda_http::Request;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::AUTHORIZATION;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use shared::app::StartError;
use shared::auth::{Authenticator, Caller, verified_token};
use shared::error::Error;
use shared::http::event::{self, Event, Gateway};
use shared::http::{Instance, Reply, now, observe};

/// Runs the function until the instance is shut down.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn run() -> Result<(), lambda_runtime::Error> {
    let instance = &Instance::<Authenticator>::start().await;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Event>| {
        decide(&event, instance.state(), now()).await
    }))
    .await
}

/// Answers a gateway in the form that it expects, and logs one line.
///
/// # Errors
/// A message, if it cannot decide. The gateway then responds with 500.
pub async fn decide(
    event: &LambdaEvent<Event>,
    state: impl Future<Output = Result<&Authenticator, StartError>>,
    now: DateTime<Utc>,
) -> Result<Value, &'static str> {
    let (form, request) = read(event.payload.json());
    // A TOKEN event has none; its gateway logs the id of this invocation as `$context.authorizer.requestId`.
    let request_id = Gateway::of(&request).request_id.as_deref();
    let request_id = request_id.unwrap_or(&event.context.request_id);
    let mut caller = None;
    let reply = observe("authorizer", &request, request_id, async {
        if form.is_none() {
            return Err(Error::Defect("not an event of an API gateway".to_owned()));
        }
        // Boxed like a handler: its future is large.
        let identified = Box::pin(identify(state.await?, request.headers(), now));
        caller = Some(identified.await?);
        Reply::success(())
    })
    .await;
    match (form, caller, reply.error) {
        (Some(form), Some(caller), None) => Ok(form.allow(&caller)),
        (Some(form), None, Some(error @ (Error::NoCredentials | Error::TokenNotLive { .. }))) => {
            Ok(form.refuse(error.code()))
        }
        (_, _, error) => Err(error.as_ref().map_or("undecided", Error::message)),
    }
}

/// Identifies the caller from the headers.
async fn identify(state: &Authenticator, headers: &HeaderMap, now: DateTime<Utc>) -> Result<Caller, Error> {
    let token = verified_token(&state.keys, headers, now)?;
    let user = state.user_of(&token).await?;
    Ok(Caller {
        user_id: user.user_id,
        session_id: token.claims.jti,
        roles: user.roles,
    })
}

/// The form in which a gateway expects the response.
enum Form {
    /// An HTTP API with payload 2.0 and simple responses.
    Simple,
    /// A REST API, a WebSocket API, or an HTTP API with payload 1.0: a policy for all routes of the stage. If the
    /// gateway caches it, one for a single route would deny the others.
    Policy {
        /// `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/*`
        resource: String,
    },
}

/// The form of the response, if this is an event of a gateway, and the request to authorize.
fn read(json: &str) -> (Option<Form>, Request) {
    let members = event::members(json);
    let mut request = event::request_of(&members, false);
    let (mut version, mut kind, mut method_arn, mut token) = (None, None, None, None);
    for (name, value) in members {
        match &*name {
            b"version" => version = event::text(value),
            b"type" => kind = event::text(value),
            b"methodArn" => method_arn = event::text(value),
            b"authorizationToken" => token = Some(value),
            _ => {}
        }
    }
    let policy = || {
        Some(Form::Policy {
            resource: every_route(&method_arn?)?,
        })
    };
    let form = match (kind.as_deref(), version.as_deref()) {
        (Some(b"REQUEST"), Some(b"2.0")) => Some(Form::Simple),
        (Some(b"REQUEST"), _) => policy(),
        (Some(b"TOKEN"), _) => {
            // Only the value of this header counts.
            let mut headers = HeaderMap::new();
            if let Some(token) = token {
                event::add_header(&mut headers, AUTHORIZATION, token);
            }
            *request.headers_mut() = headers;
            policy()
        }
        _ => None,
    };
    (form, request)
}

/// The ARN of every route of a stage, from the ARN of one (`arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH`).
/// The path comes from the client and may be invalid UTF-8.
fn every_route(method_arn: &[u8]) -> Option<String> {
    let mut parts = method_arn.splitn(3, |byte| *byte == b'/');
    let (api, stage, _) = (parts.next()?, parts.next()?, parts.next()?);
    let (api, stage) = (str::from_utf8(api).ok()?, str::from_utf8(stage).ok()?);
    let is_api = api.starts_with("arn:") && api.split(':').nth(2) == Some("execute-api");
    is_api.then(|| format!("{api}/{stage}/*"))
}

impl Form {
    fn allow(&self, caller: &Caller) -> Value {
        let user_id = caller.user_id.to_string();
        // Only strings, since a REST API accepts no other values; only ASCII, since they are mapped to headers.
        let roles: Vec<&str> = caller
            .roles
            .iter()
            .map(String::as_str)
            .filter(|role| {
                !role.is_empty() && role.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
            })
            .collect();
        let context = json!({
            "user_id": user_id,
            "session_id": caller.session_id.to_string(),
            "roles": roles.join(","),
        });
        match self {
            Self::Simple => json!({ "isAuthorized": true, "context": context }),
            Self::Policy { resource } => policy("Allow", &user_id, resource, &context),
        }
    }

    fn refuse(&self, code: u32) -> Value {
        match self {
            Self::Simple => json!({ "isAuthorized": false }),
            Self::Policy { resource } => policy(
                "Deny",
                "anonymous",
                resource,
                &json!({ "code": code.to_string() }),
            ),
        }
    }
}

fn policy(effect: &str, principal: &str, resource: &str, context: &Value) -> Value {
    json!({
        "principalId": principal,
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": [resource] }],
        },
        "context": context,
    })
}
