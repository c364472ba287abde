//! `GET /`: the example client in `local/example`.

use shared::http::pages::{Content, Page};

/// Only its own files, and requests to its own server.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of the example client.
pub static PAGES: [Page; 3] = [
    Page {
        path: "/",
        content_type: "text/html; charset=utf-8",
        content_security_policy: CONTENT_SECURITY_POLICY,
        content: Content::Text(include_str!("../example/index.html")),
    },
    Page {
        path: "/example.js",
        content_type: "text/javascript; charset=utf-8",
        content_security_policy: CONTENT_SECURITY_POLICY,
        content: Content::Text(include_str!("../example/example.js")),
    },
    Page {
        path: "/example.css",
        content_type: "text/css; charset=utf-8",
        content_security_policy: CONTENT_SECURITY_POLICY,
        content: Content::Text(include_str!("../example/example.css")),
    },
];
