//! JSON Web Tokens at the sidecar: what passes, what is refused and with which reason, what the application sees.

use serde_json::json;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::client::{Answer, get, get_with_token, request, send};
use weft_e2e::mesh::Mesh;
use weft_e2e::tokens::{AUDIENCE, ISSUER, Issuer, claims, forge, now};

use crate::{PRODUCT, order_and_product};

fn spec(issuer: &Issuer, more: &str) -> String {
    format!(
        "  authentication:
    jwt:
    - issuer: {ISSUER}
      audiences: [{AUDIENCE}]
      jwks: {{inline: '{}'}}
      claimHeaders: {{sub: x-user-id, role: x-user-role}}
{more}
    exempt: [{{methods: [GET], paths: [/open, /public/*]}}]",
        issuer.jwks()
    )
}

async fn guarded() -> (Mesh, HttpApp, Issuer) {
    let issuer = Issuer::new("k1");
    let (mesh, app) = order_and_product(&spec(&issuer, "")).await;
    (mesh, app, issuer)
}

async fn call(mesh: &Mesh, token: &str) -> Answer {
    get_with_token(mesh.outbound("order-0", PRODUCT), "/x", token).await
}

#[tokio::test]
async fn claims_become_headers_and_the_token_is_taken_off() {
    let (mesh, _app, issuer) = guarded().await;
    let answer = call(&mesh, &issuer.token("u1", "customer")).await;
    assert_eq!(answer.status, 200);
    let seen = answer.seen();
    assert_eq!(seen.headers["x-user-id"], "u1");
    assert_eq!(seen.headers["x-user-role"], "customer");
    assert!(!seen.headers.contains_key("authorization"), "{:?}", seen.headers);
}

#[tokio::test]
async fn bad_tokens_are_refused_with_401_and_their_reason() {
    let (mesh, app, issuer) = guarded().await;
    let with = |key: &str, value: serde_json::Value| {
        let mut all = claims("u1", "customer");
        all[key] = value;
        issuer.sign(&all)
    };
    let none = forge(&json!({"alg": "none", "typ": "JWT"}), &claims("u1", "admin"), b"");
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": "k1"});
    let key = jsonwebtoken::EncodingKey::from_secret(issuer.public_pem().as_bytes());
    let mut hs_header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    hs_header.kid = Some("k1".to_owned());
    let confused = jsonwebtoken::encode(&hs_header, &claims("u1", "admin"), &key).unwrap();
    let cases = [
        ("expired", with("exp", json!(now() - 60)), "jwt-expired"),
        ("not yet valid", with("nbf", json!(now() + 600)), "jwt-not-yet-valid"),
        ("wrong audience", with("aud", json!("bank")), "jwt-audience"),
        ("wrong issuer", with("iss", json!("https://evil.example")), "jwt-issuer"),
        ("unknown key", Issuer::new("k2").token("u1", "admin"), "jwt-unknown-key"),
        ("another key of the same id", Issuer::new("k1").token("u1", "admin"), "jwt-signature"),
        ("alg none", none, "jwt-malformed"),
        ("HS256 with the public key", confused, "jwt-signature"),
        ("HS256 with rubbish", forge(&header, &claims("u1", "admin"), b"rubbish"), "jwt-signature"),
        ("64 KB", "a".repeat(60 * 1024), "jwt-malformed"),
        ("no token at all", "...".to_owned(), "jwt-malformed"),
    ];
    for (name, token, reason) in cases {
        let answer = call(&mesh, &token).await;
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(answer.reason(), reason, "{name}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{name}");
    }
    assert_eq!(app.count(), 0);
    assert_eq!(call(&mesh, &issuer.token("u1", "customer")).await.status, 200);
}

#[tokio::test]
async fn a_missing_token_is_refused_unless_the_path_is_exempt() {
    let (mesh, _app, _issuer) = guarded().await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    let refused = get(outbound, "/x").await;
    assert_eq!((refused.status.as_u16(), refused.reason()), (401, "jwt-missing"));
    assert_eq!(get(outbound, "/open").await.status, 200);
    assert_eq!(get(outbound, "/public/a/b").await.status, 200);
    let post = send(outbound, request("POST", "/open").body("".into()).unwrap()).await;
    assert_eq!(post.status, 401);
    // Policies look at the normalised path, so dots do not lead out of what is exempt.
    assert_eq!(get(outbound, "/public/../x").await.status, 401);
}

#[tokio::test]
async fn claim_headers_from_outside_are_removed() {
    let (mesh, _app, issuer) = guarded().await;
    let forged = request("GET", "/open").header("x-user-id", "admin").header("X-User-Role", "admin");
    let seen = send(mesh.outbound("order-0", PRODUCT), forged.body("".into()).unwrap()).await.seen();
    assert!(!seen.headers.contains_key("x-user-id") && !seen.headers.contains_key("x-user-role"), "{seen:?}");
    let token = issuer.token("u1", "customer");
    let forged =
        request("GET", "/x").header("x-user-id", "admin").header("authorization", format!("Bearer {token}"));
    let seen = send(mesh.outbound("order-0", PRODUCT), forged.body("".into()).unwrap()).await.seen();
    assert_eq!(seen.headers["x-user-id"], "u1");
}

#[tokio::test]
async fn a_bad_token_is_refused_where_none_is_required_and_none_passes() {
    let issuer = Issuer::new("k1");
    let (mesh, _app) = order_and_product(&spec(&issuer, "    required: false")).await;
    assert_eq!(get(mesh.outbound("order-0", PRODUCT), "/x").await.status, 200);
    assert_eq!(call(&mesh, "rubbish").await.status, 401);
    assert_eq!(call(&mesh, &issuer.token("u1", "customer")).await.status, 200);
}

#[tokio::test]
async fn a_rotated_key_set_takes_effect_without_restart() {
    let (mut mesh, _app, old) = guarded().await;
    assert_eq!(call(&mesh, &old.token("u1", "customer")).await.status, 200);
    let new = Issuer::new("k2");
    mesh.apply(&crate::product(&spec(&new, "")));
    assert_eq!(call(&mesh, &new.token("u1", "customer")).await.status, 200);
    assert_eq!(call(&mesh, &old.token("u1", "customer")).await.reason(), "jwt-unknown-key");
}

#[tokio::test]
async fn keys_that_were_never_fetched_give_503_with_the_reason() {
    let issuer = Issuer::new("k1");
    let spec =
        spec(&issuer, "").replace(&format!("inline: '{}'", issuer.jwks()), "uri: http://user.shop.svc/jwks");
    let (mesh, app) = order_and_product(&spec).await;
    let answer = call(&mesh, &issuer.token("u1", "customer")).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, "jwks-unavailable"));
    assert_eq!(get(mesh.outbound("order-0", PRODUCT), "/open").await.status, 200);
    assert_eq!(app.count(), 1);
}
