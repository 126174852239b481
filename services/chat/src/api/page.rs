//! The page to chat in: three files that are part of the program. They load nothing from elsewhere, and the browser is
//! told to let them load nothing else.

use axum::{Router, response::IntoResponse, routing::get};
use http::{HeaderName, header};

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                                       base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// The routes.
pub fn router() -> Router {
    Router::new()
        .route("/chat", get(async || file("text/html; charset=utf-8", include_str!("../../page/index.html"))))
        .route(
            "/chat/style.css",
            get(async || file("text/css; charset=utf-8", include_str!("../../page/style.css"))),
        )
        .route(
            "/chat/app.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../../page/app.js"))),
        )
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    (HEADERS, [(header::CONTENT_TYPE, content_type)], text)
}
