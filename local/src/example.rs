//! `GET /`: the example client in `local/example`, with the pages that links in mails open.

use shared::http::pages::{Content, Page};

/// The files of the example client.
pub static PAGES: [Page; 12] = [
    html("/", include_str!("../example/index.html")),
    html("/reset-password", include_str!("../example/reset-password.html")),
    html("/confirm-email", include_str!("../example/confirm-email.html")),
    file(
        "/example/example.css",
        "text/css; charset=utf-8",
        include_str!("../example/example.css"),
    ),
    script("/example/account.js", include_str!("../example/account.js")),
    script("/example/api.js", include_str!("../example/api.js")),
    script(
        "/example/confirm-email.js",
        include_str!("../example/confirm-email.js"),
    ),
    script("/example/link.js", include_str!("../example/link.js")),
    script("/example/page.js", include_str!("../example/page.js")),
    script(
        "/example/reset-password.js",
        include_str!("../example/reset-password.js"),
    ),
    script("/example/sessions.js", include_str!("../example/sessions.js")),
    script("/example/words.js", include_str!("../example/words.js")),
];

const fn html(path: &'static str, text: &'static str) -> Page {
    file(path, "text/html; charset=utf-8", text)
}

const fn script(path: &'static str, text: &'static str) -> Page {
    file(path, "text/javascript; charset=utf-8", text)
}

const fn file(path: &'static str, content_type: &'static str, text: &'static str) -> Page {
    Page {
        path,
        content_type,
        // Only its own files, and requests to its own server.
        content_security_policy: "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
            connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        content: Content::Text(text),
    }
}
