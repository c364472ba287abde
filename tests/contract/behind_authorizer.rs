//! Functions behind the authorizer: who they are told is calling, and that docs/authorizer.md shows what is tested.

use serde_json::{Value, json};
use shared::auth::{Caller, caller};
use shared::http::event;

/// The function of another team that docs/authorizer.md shows.
#[path = "../../docs/snippets/lessons.rs"]
#[expect(dead_code, reason = "its main")]
mod lessons;

/// An event of a route with an authorizer, of an HTTP API and of a REST API.
const EVENTS: [&str; 2] = [
    include_str!("../events/behind-authorizer.json"),
    include_str!("../events/behind-authorizer-rest.json"),
];

/// The event with this instead of what the authorizer said.
fn with_authorizer(event: &str, authorizer: &Value) -> String {
    let mut event: Value = serde_json::from_str(event).expect("JSON");
    event["requestContext"]["authorizer"] = authorizer.clone();
    event.to_string()
}

fn caller_of(event: &str) -> Option<Caller> {
    caller(&event::request(event))
}

#[test]
fn a_function_of_this_bundle_learns_who_is_calling() {
    let expected = Caller {
        user_id: "9b2f3c1e-5d44-4f0a-8c37-2d6a1e7b9f10".parse().expect("a UUID"),
        session_id: "1f0c7a52-8e63-4b7d-9a15-c4d2e8f6a3b9".parse().expect("a UUID"),
        roles: vec!["editor".to_owned(), "teacher".to_owned()],
    };
    for event in EVENTS {
        assert_eq!(caller_of(event), Some(expected.clone()));
        // A user without roles, whether or not a gateway passes an empty string.
        let ids = json!({ "user_id": expected.user_id, "session_id": expected.session_id });
        let mut empty = ids.clone();
        empty["roles"] = json!("");
        for context in [ids, empty] {
            for authorizer in [context.clone(), json!({ "lambda": context })] {
                let caller = caller_of(&with_authorizer(event, &authorizer)).expect("a caller");
                assert_eq!((caller.user_id, caller.roles), (expected.user_id, vec![]));
            }
        }
    }
}

#[test]
fn without_the_authorizers_context_there_is_no_caller() {
    let ids = json!({ "user_id": "9b2f3c1e-5d44-4f0a-8c37-2d6a1e7b9f10", "session_id": "1f0c7a52-8e63-4b7d-9a15-c4d2e8f6a3b9" });
    for event in EVENTS {
        for authorizer in [
            json!(null),
            json!("x"),
            json!({}),
            json!({ "lambda": null }),
            // Other kinds of authorizers.
            json!({ "jwt": { "claims": ids } }),
            json!({ "iam": { "userId": "x" } }),
            json!({ "claims": ids }),
            json!({ "principalId": "user" }),
            json!({ "user_id": ids["user_id"] }),
            json!({ "user_id": 7, "session_id": ids["session_id"] }),
            json!({ "user_id": "alice", "session_id": ids["session_id"] }),
        ] {
            assert_eq!(
                caller_of(&with_authorizer(event, &authorizer)),
                None,
                "{authorizer}"
            );
        }
        // What a client sends.
        let mut odd: Value = serde_json::from_str(&with_authorizer(event, &json!(null))).expect("JSON");
        for place in [
            "headers",
            "queryStringParameters",
            "pathParameters",
            "stageVariables",
        ] {
            odd[place] =
                json!({ "user_id": ids["user_id"], "session_id": ids["session_id"], "authorizer": ids });
        }
        odd["body"] = json!(json!({ "requestContext": { "authorizer": ids } }).to_string());
        odd["authorizer"] = ids.clone();
        assert_eq!(caller_of(&odd.to_string()), None);
    }
}

#[tokio::test]
async fn a_function_with_lambda_http_learns_who_is_calling() {
    for event in EVENTS {
        let request = |event: &str| lambda_http::request::from_str(event).expect("an event");
        let response = lessons::handle(request(event)).await.expect("a response");
        let lambda_http::Body::Text(body) = response.body() else {
            panic!("no text")
        };
        assert_eq!(body, r#"{"user_id":"9b2f3c1e-5d44-4f0a-8c37-2d6a1e7b9f10"}"#);
        let mut open: Value = serde_json::from_str(event).expect("JSON");
        let context = open["requestContext"].as_object_mut().expect("an object");
        context.remove("authorizer");
        assert!(lessons::handle(request(&open.to_string())).await.is_err());
    }
}

#[test]
fn the_documentation_shows_the_files_that_are_tested() {
    let page = include_str!("../../docs/authorizer.md");
    for (language, file) in [
        ("yaml", include_str!("../../docs/snippets/http-api.yaml")),
        ("yaml", include_str!("../../docs/snippets/rest-api.yaml")),
        ("python", include_str!("../../docs/snippets/lessons.py")),
        ("ts", include_str!("../../docs/snippets/lessons.ts")),
        ("rust", include_str!("../../docs/snippets/lessons.rs")),
    ] {
        assert!(
            page.contains(&format!("```{language}\n{file}```\n")),
            "not in docs/authorizer.md:\n{file}"
        );
    }
    assert!(page.contains("`let caller = shared::auth::caller(request)`"));
}
