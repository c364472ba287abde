//! Generates `functions/docs/openapi.json` from the descriptions of the handlers, and adds what all responses have in
//! common from its source (`shared::error`, `shared::http`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::{fs, io};

use serde_json::{Map, Value, json};
use shared::error::{Error, FieldError};
use shared::http::{HEADERS, RefusedFields, Reply, RetryAfter, Served};
use utoipa::openapi::example::Example;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{
    Flow, HttpAuthScheme, HttpBuilder, OAuth2, Password, Scopes, SecurityScheme,
};
use utoipa::openapi::{
    Content, ContentBuilder, ObjectBuilder, OneOfBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{OpenApi as _, PartialSchema as _};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

/// In the description of a handler, this media type stands for `data` of the envelope.
const JSON: &str = "application/json";
/// In the description of a handler, this media type stands for a JSON response without the envelope.
const FORM: &str = "application/x-www-form-urlencoded";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "People: the account service",
        version = "1.0.0",
    ),
    servers((url = "/")),
    tags(
        (name = "account", description = "Accounts"),
        (name = "session", description = "Sessions: each log-in opens one, whose token is live until it expires or is logged out"),
        (name = "service", description = "The service itself"),
    ),
    components(schemas(FieldError)),
)]
struct Document;

fn main() -> io::Result<()> {
    fs::write(FILE, text())
}

/// The document as text.
fn text() -> String {
    let text = document().to_pretty_json();
    text.expect("strings and numbers only") + "\n"
}

fn document() -> OpenApi {
    let mut document = Document::openapi();
    let functions = functions::all();
    for description in functions.iter().filter_map(|function| function.description) {
        document.merge(description());
    }
    document.info.description = Some(description());
    // By default the crate's, but the service is not published.
    document.info.license = None;
    let mut components = document.components.take().unwrap_or_default();
    components.security_schemes = security_schemes();
    for error in Error::each() {
        let data = match error {
            Error::Refused(_) => RefusedFields::schema(),
            Error::TooManyAttempts { .. } => RetryAfter::schema(),
            _ => null(),
        };
        components
            .schemas
            .insert(name(&error), envelope(error.code(), error.message(), data));
    }
    let schemas = json!(components.schemas);
    document.components = Some(components);

    let mut used = BTreeSet::new();
    for route in functions.iter().flat_map(|function| &function.routes) {
        let operation = document
            .paths
            .paths
            .get_mut(route.path())
            .and_then(|item| match route.method() {
                "GET" => item.get.as_mut(),
                "POST" => item.post.as_mut(),
                "PATCH" => item.patch.as_mut(),
                "DELETE" => item.delete.as_mut(),
                _ => None,
            });
        let Some(operation) = operation else {
            panic!("{} has no description", route.key());
        };
        used.extend(complete(operation, *route, &schemas));
    }
    if let Some(components) = &mut document.components {
        for error in Error::each().filter(|error| !used.contains(&error.code())) {
            components.schemas.remove(&name(&error));
        }
    }
    document
}

/// The errors that an operation may return: those that follow from its input, and those that it lists in `x-codes`.
fn errors(operation: &Operation) -> Vec<Error> {
    let listed = operation
        .extensions
        .as_ref()
        .and_then(|extensions| extensions.get("x-codes"))
        .map_or(json!([]), Clone::clone);
    let listed: Vec<u32> = serde_json::from_value(listed).expect("x-codes: an array of numbers");
    let takes_body = operation.request_body.is_some();
    let takes_json = json!(operation.request_body)["content"][JSON].is_object();
    let takes_token = operation
        .security
        .as_ref()
        .is_some_and(|security| !security.is_empty());
    Error::each()
        .filter(|error| match error {
            Error::MalformedBody | Error::Refused(_) => takes_json,
            Error::UnsupportedMediaType => takes_body,
            Error::NoCredentials | Error::TokenNotLive { .. } => takes_token,
            Error::BodyTooLarge | Error::Defect(_) | Error::Unavailable(_) => true,
            error => listed.contains(&error.code()),
        })
        .collect()
}

/// Wraps the handler's responses in the envelope, and adds errors and headers. Returns the codes of the errors.
fn complete(operation: &mut Operation, route: &dyn Served, schemas: &Value) -> Vec<u32> {
    let errors = errors(operation);
    let codes = errors.iter().map(Error::code).collect();
    operation.extensions = None;
    // Explicitly empty if there is none.
    operation.security.get_or_insert_default();
    let mut statuses: BTreeMap<u16, Status> = BTreeMap::new();
    for (status, response) in std::mem::take(&mut operation.responses.responses) {
        let RefOr::T(response) = response else {
            unreachable!("the handlers describe their responses inline")
        };
        let status: u16 = status.parse().expect("a status");
        statuses
            .entry(status)
            .or_default()
            .describe(status, response, schemas);
    }
    for error in errors {
        statuses.entry(error.status().as_u16()).or_default().fail(error);
    }
    operation.responses.responses = statuses
        .into_iter()
        .map(|(status, answers)| (status.to_string(), answers.response(route).into()))
        .collect();
    codes
}

/// All responses with one status.
#[derive(Default)]
struct Status {
    descriptions: Vec<String>,
    schemas: Vec<RefOr<Schema>>,
    examples: Vec<(String, RefOr<Example>)>,
    headers: BTreeMap<String, Vec<String>>,
}

impl Status {
    fn describe(&mut self, status: u16, response: Response, schemas: &Value) {
        // The code is 1 for a success; for an error response described by the handler itself, that of the error.
        let error = Error::each().find(|error| error.status().as_u16() == status);
        let (code, message) = error.map_or((1, "success"), |error| (error.code(), error.message()));
        let mut content = response.content;
        if content.is_empty() {
            content.insert(JSON.to_owned(), Content::new(Some(null())).into());
        }
        for (media_type, content) in content {
            let RefOr::T(content) = content else { continue };
            let schema = content.schema.expect("a schema");
            let title = match &schema {
                RefOr::Ref(schema) => schema
                    .ref_location
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                RefOr::T(_) => message.to_owned(),
            };
            let data = content
                .example
                .unwrap_or_else(|| example_of(&json!(schema), schemas));
            let (schema, whole) = match media_type.as_str() {
                FORM => (schema, data),
                _ => (
                    envelope(code, message, schema),
                    json!({ "code": code, "message": message, "data": data }),
                ),
            };
            self.examples.push((title, example(whole)));
            self.schemas.push(schema);
        }
        self.descriptions.push(response.description);
    }

    fn fail(&mut self, error: Error) {
        self.schemas.push(Ref::from_schema_name(name(&error)).into());
        self.descriptions
            .push(format!("{}: {}", error.code(), error.message()));
        let code = error.code().to_string();
        let reply = Reply::from(error);
        let (body, headers) = reply.body_and_headers();
        let body: Value = serde_json::from_slice(body).expect("JSON");
        self.examples.push((code, example(body)));
        for (name, value) in headers {
            let value = value.to_str().expect("text").to_owned();
            self.headers.entry(name.to_string()).or_default().push(value);
        }
    }

    fn response(mut self, route: &dyn Served) -> Response {
        let schema = if self.schemas.len() == 1 {
            self.schemas.remove(0)
        } else {
            let one_of = self
                .schemas
                .into_iter()
                .fold(OneOfBuilder::new(), OneOfBuilder::item);
            Schema::from(one_of.build()).into()
        };
        let content = ContentBuilder::new()
            .schema(Some(schema))
            .examples_from_iter(self.examples);
        let mut response = ResponseBuilder::new()
            .description(self.descriptions.join("\n\n"))
            .content(JSON, content.build());
        for (name, value) in route.headers() {
            let header = HeaderBuilder::new().schema(Some(text_of([*value])));
            response = response.header(*name, header.build());
        }
        for (name, values) in self.headers {
            let header = match name.as_str() {
                "retry-after" => HeaderBuilder::new()
                    .description(Some("Seconds to wait before the next attempt"))
                    .schema(Some(
                        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)),
                    )),
                _ => HeaderBuilder::new().schema(Some(text_of(values))),
            };
            response = response.header(name, header.build());
        }
        response.build()
    }
}

/// The envelope of all responses, except those of the token endpoint.
fn envelope(code: u32, message: &str, data: RefOr<Schema>) -> RefOr<Schema> {
    let code = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .enum_values(Some([code]));
    ObjectBuilder::new()
        .property("code", code)
        .property("message", text_of([message]))
        .property("data", data)
        .required("code")
        .required("message")
        .required("data")
        .into()
}

fn null() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Null))
        .into()
}

/// One of these strings.
fn text_of(values: impl IntoIterator<Item = impl Into<Value>>) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(values))
        .into()
}

fn example(value: Value) -> RefOr<Example> {
    let mut example = Example::default();
    example.value = Some(value);
    example.into()
}

/// An example for `schema`, composed of the examples of its parts.
fn example_of(schema: &Value, schemas: &Value) -> Value {
    let of = |schema| example_of(schema, schemas);
    if let Some(reference) = schema["$ref"].as_str() {
        of(&schemas[reference.rsplit('/').next().unwrap_or_default()])
    } else if let Some(parts) = schema["allOf"].as_array() {
        let members = parts.iter().map(of).filter_map(|part| part.as_object().cloned());
        members.flatten().collect::<Map<_, _>>().into()
    } else if let Some(members) = schema["properties"].as_object() {
        let members = members.iter().map(|(name, member)| (name.clone(), of(member)));
        members.collect::<Map<_, _>>().into()
    } else if let Some(item) = schema.get("items").filter(|_| schema.get("example").is_none()) {
        json!([of(item)])
    } else {
        let one_of = schema["enum"].get(0);
        schema.get("example").or(one_of).cloned().unwrap_or_default()
    }
}

/// The name of the variant.
fn name(error: &Error) -> String {
    let debug = format!("{error:?}");
    let end = debug.find(|c: char| !c.is_alphanumeric());
    debug[..end.unwrap_or(debug.len())].to_owned()
}

fn security_schemes() -> BTreeMap<String, RefOr<SecurityScheme>> {
    let scopes = Scopes::new();
    let password = Flow::Password(Password::new(functions::login::ROUTES[1].path(), scopes));
    let password = OAuth2::with_description(
        [password],
        "Log in: `username` is your userid. Leave `client_id` and `client_secret` empty: clients are not registered.",
    );
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("Alternatively, the `access_token` of an earlier log-in."));
    BTreeMap::from([
        ("password".to_owned(), SecurityScheme::OAuth2(password).into()),
        ("token".to_owned(), SecurityScheme::Http(bearer.build()).into()),
    ])
}

fn description() -> String {
    let mut text =
        "Every response is a JSON object, the envelope: `code`, `message`, `data`. The exception is \
        `POST /auth/token`, which responds like an OAuth2 token endpoint (RFC 6749 §5).\n\n\
        `code` is 1 on success, and otherwise identifies the error; `message` is fixed for each code.\n\n\
        ## Codes\n\n| HTTP | code | message |\n|--|--|--|\n"
            .to_owned();
    for error in Error::each() {
        let (status, code, message) = (error.status().as_u16(), error.code(), error.message());
        writeln!(text, "| {status} | `{code}` | {message} |").expect("a String");
    }
    text += "\nIf the path or the method does not exist, the gateway responds, without an envelope.\n\n\
        ## Headers of every response\n\n| header | value |\n|--|--|\n";
    for (name, value) in &HEADERS {
        writeln!(text, "| `{name}` | `{value}` |").expect("a String");
    }
    text + "| `x-request-id` | the id of the request, also in the log |\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_current() {
        let current = fs::read_to_string(FILE).expect("the file");
        assert!(
            current == text(),
            "openapi.json is stale, run: cargo run --example openapi"
        );
    }

    #[test]
    fn every_error_is_in_the_table() {
        let document = json!(document());
        let text = document["info"]["description"].as_str().expect("text");
        for error in Error::each() {
            let (status, code, message) = (error.status().as_u16(), error.code(), error.message());
            assert!(
                text.contains(&format!("| {status} | `{code}` | {message} |\n")),
                "{code}"
            );
        }
    }

    #[test]
    fn errors_are_in_the_order_of_their_codes() {
        let codes: Vec<u32> = Error::each().map(|error| error.code()).collect();
        assert!(codes.is_sorted_by(|one, next| one < next), "{codes:?}");
        assert_eq!(codes.len(), 17);
    }
}
