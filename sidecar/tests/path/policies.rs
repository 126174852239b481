//! Tokens, authorization and rate limits on the inbound path.

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use weft_api::v1::{self, resource};
use weft_sidecar::telemetry::clock::unix_now;

use crate::support::{CLIENT_ID, Client, Pair, echo, inbound, pair_with, read, resource};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const ISSUER: &str = "https://user.shop.example";

pub(crate) fn keys() -> v1::Resource {
    use base64::Engine;
    let k = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(SECRET);
    let jwks = json!({"keys": [{"kty": "oct", "k": k, "alg": "HS256", "kid": "1"}]}).to_string();
    resource("user", resource::Body::Keys(v1::Keys { jwks, ..Default::default() }))
}

pub(crate) fn token(role: &str, expires_in: i64) -> String {
    let claims = json!({"iss": ISSUER, "sub": "u1", "role": role, "exp": unix_now() + expires_in});
    let header = Header { kid: Some("1".into()), ..Header::default() };
    encode(&header, &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

pub(crate) fn authentication() -> v1::Authentication {
    v1::Authentication {
        providers: vec![v1::JwtProvider {
            issuer: ISSUER.into(),
            keys: "user".into(),
            claim_headers: vec![v1::ClaimHeader { claim: "sub".into(), header: "x-user-id".into() }],
            ..Default::default()
        }],
        required: true,
        ..Default::default()
    }
}

/// A pair whose server asks for tokens.
async fn with_tokens(edit: impl FnOnce(&mut v1::Inbound)) -> Pair {
    let app = echo().await;
    let pair = pair_with(app, |_, _| {});
    let mut inbound = inbound(app);
    // The listener must stay where the client expects it.
    inbound.ports[0].listen = pair.server.address("inbound/http").unwrap().to_string();
    inbound.authentication = Some(authentication());
    edit(&mut inbound);
    let proxy = v1::Proxy { access_log: v1::AccessLog::Off.into(), ..Default::default() };
    let mut published = pair.server.shared.published();
    let all = vec![
        resource("self", resource::Body::Proxy(proxy)),
        resource("self", resource::Body::Inbound(inbound)),
        keys(),
    ];
    published.mark_unchanged();
    pair.server.replace(all).unwrap();
    pair
}

async fn ask(pair: &Pair, token: Option<&str>, spoofed: bool) -> (Response<()>, String) {
    let mut request = Request::get("/").header("host", "product");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if spoofed {
        request = request.header("x-user-id", "admin");
    }
    let mut client = Client::connect(pair.to).await;
    read(client.send(request.body(Full::default()).unwrap()).await).await
}

#[tokio::test]
async fn a_token_is_asked_for_checked_and_turned_into_headers() {
    let pair = with_tokens(|_| {}).await;
    let (answer, _) = ask(&pair, None, true).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["x-weft-reason"], "jwt-missing");
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let (answer, _) = ask(&pair, Some(&token("customer", -10)), false).await;
    assert_eq!(answer.headers()["x-weft-reason"], "jwt-expired");
    let (answer, body) = ask(&pair, Some(&token("customer", 60)), true).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(body.contains("x-user-id: u1\n"), "{body}");
    assert!(!body.contains("admin") && !body.contains("authorization"), "{body}");
}

#[tokio::test]
async fn claims_decide_who_may() {
    let pair = with_tokens(|inbound| {
        inbound.authorization = Some(v1::Authorization {
            rules: vec![v1::Rule {
                name: "admins".into(),
                from: vec![v1::PeerMatch { peer: Some(v1::peer_match::Peer::Identity(CLIENT_ID.into())) }],
                claims: vec![v1::ClaimMatch { claim: "role".into(), values: vec!["admin".into()] }],
                ..Default::default()
            }],
            ..Default::default()
        });
    })
    .await;
    let (answer, _) = ask(&pair, Some(&token("customer", 60)), false).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let (answer, _) = ask(&pair, Some(&token("admin", 60)), false).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn requests_beyond_the_rate_are_refused_with_429() {
    let pair = pair_with(echo().await, |inbound, _| {
        inbound.rate_limits = vec![v1::RateLimit {
            requests: 2,
            per_ms: 60_000,
            burst: 2,
            key: Some(v1::RateLimitKey { key: Some(v1::rate_limit_key::Key::Identity(true)) }),
            name: "two".into(),
            ..Default::default()
        }];
    });
    let mut client = Client::connect(pair.to).await;
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
    let (answer, _) = client.get("/").await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(answer.headers().contains_key("retry-after"));
}
