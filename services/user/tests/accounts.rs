//! Accounts and tokens over both APIs, against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::{sync::Arc, time::Duration};

use clap::Parser as _;
use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Value, json};
use shop_kit::{
    clock,
    pb::user::{
        CreateUserRequest, GetUserRequest, LoginRequest, UpdateUserRequest, ValidateTokenRequest,
        user_service_client::UserServiceClient,
    },
    store::pool,
    testing::{Http, Running, database, documented},
};
use shop_user::{
    domain::keys::{Keys, Policy},
    settings::Settings,
    store::Store,
};
use tonic::Code;
use uuid::Uuid;

fn settings(database: &str, more: &[&str]) -> Settings {
    Settings::parse_from([&["shop-user", "--database-url", database], more].concat())
}

async fn start(database: &str, more: &[&str]) -> Running {
    let settings = settings(database, more);
    Running::start(|listeners, shutdown| shop_user::serve(settings, listeners, shutdown)).await
}

async fn register(http: &Http, email: &str) -> Uuid {
    let reply =
        http.post("/users", json!({"email": email, "password": "correct horse", "name": "Ann"})).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
    reply.body["id"].as_str().unwrap().parse().unwrap()
}

async fn log_in(http: &Http, email: &str, password: &str) -> (StatusCode, Value) {
    let reply = http.post("/users/login", json!({"email": email, "password": password})).await;
    (reply.status, reply.body)
}

async fn token(http: &Http, email: &str) -> String {
    let (status, body) = log_in(http, email, "correct horse").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["access_token"].as_str().unwrap().to_owned()
}

/// What a sidecar does with a token and the served keys.
fn verify(keys: &JwkSet, token: &str) -> Option<Value> {
    let jwk = keys.find(&decode_header(token).unwrap().kid.unwrap())?;
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_issuer(&["https://user.shop.example"]);
    rules.set_audience(&["shop"]);
    decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &rules).ok().map(|data| data.claims)
}

#[tokio::test]
async fn the_api_is_described() {
    let service = start(&database().await, &[]).await;
    documented(&service.http, &[include_str!("../src/api/http.rs")]).await;
    assert!(service.reflected().await.contains(&"shop.user.v1.UserService".to_owned()));
}

#[tokio::test]
async fn a_new_user_logs_in_and_sees_their_profile() {
    let service = start(&database().await, &[]).await;
    let body = json!({"email": "Ann@Example.com", "password": "correct horse", "name": " Ann "});
    let made = service.http.post("/users", body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.body["email"], "ann@example.com");
    assert_eq!(made.body["role"], "customer");
    assert_eq!(made.body["name"], "Ann");
    assert!(!made.body.to_string().contains("argon2"), "{}", made.body);
    let id: Uuid = made.body["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(made.headers["location"], format!("users/{id}"));

    let (status, body) = log_in(&service.http, "ANN@example.com", "correct horse").await;
    assert_eq!(
        (status, &body["token_type"], &body["expires_in"]),
        (StatusCode::OK, &json!("Bearer"), &json!(900))
    );

    let mine = service.http.user(id, "customer").get("/users/me").await;
    assert_eq!((mine.status, &mine.body), (StatusCode::OK, &made.body));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_email_address_is_a_conflict_in_any_spelling() {
    let service = start(&database().await, &[]).await;
    let ann = register(&service.http, "ann@example.com").await;
    let body = json!({"email": "ANN@example.com", "password": "other horse", "name": "Ann"});
    let reply = service.http.post("/users", body).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert_eq!(reply.body["type"], "urn:problem:shop:email-taken");

    register(&service.http, "bob@example.com").await;
    let change = json!({"email": "bob@example.com"});
    let reply = service.http.user(ann, "customer").put("/users/me", change).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn bad_input_is_named_field_by_field() {
    let service = start(&database().await, &[]).await;
    let reply = service.http.post("/users", json!({"email": "x", "password": "short", "name": ""})).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.body["errors"].as_array().unwrap().len(), 3, "{}", reply.body);
    for (body, expect) in [
        (json!({"email": "a@b.de"}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!("text"), StatusCode::UNPROCESSABLE_ENTITY),
        (
            json!({"email": "a@b.de", "password": "x".repeat(100_000), "name": "A"}),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let reply = service.http.post("/users", body).await;
        assert_eq!(reply.status, expect, "{reply:?}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_the_same() {
    let service = start(&database().await, &[]).await;
    register(&service.http, "ann@example.com").await;
    let wrong = log_in(&service.http, "ann@example.com", "wrong horse").await;
    let unknown = log_in(&service.http, "bob@example.com", "correct horse").await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong, unknown);
}

#[tokio::test]
async fn a_profile_is_for_its_owner_and_for_admins() {
    let service = start(&database().await, &[]).await;
    let (ann, bob) =
        (register(&service.http, "ann@example.com").await, register(&service.http, "bob@example.com").await);
    let path = format!("/users/{ann}");
    assert_eq!(service.http.get(&path).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(service.http.user(bob, "customer").get(&path).await.status, StatusCode::FORBIDDEN);
    assert_eq!(service.http.user(bob, "admin").get(&path).await.status, StatusCode::OK);
    assert_eq!(service.http.user(bob, "admin").get("/users/nobody").await.status, StatusCode::NOT_FOUND);

    let me = service.http.user(ann, "customer");
    let changed = me.put("/users/me", json!({"name": "Anna", "password": "new horse!"})).await;
    assert_eq!((changed.status, &changed.body["name"]), (StatusCode::OK, &json!("Anna")));
    assert_eq!(log_in(&service.http, "ann@example.com", "correct horse").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(log_in(&service.http, "ann@example.com", "new horse!").await.0, StatusCode::OK);

    assert_eq!(me.delete("/users/me").await.status, StatusCode::NO_CONTENT);
    assert_eq!(me.get("/users/me").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tokens_verify_against_the_served_keys() {
    let service = start(&database().await, &[]).await;
    let ann = register(&service.http, "ann@example.com").await;
    let token = token(&service.http, "ann@example.com").await;
    let served = service.http.get("/.well-known/jwks.json").await;
    assert_eq!(served.headers["content-type"], "application/jwk-set+json");
    let keys: JwkSet = serde_json::from_value(served.body.clone()).unwrap();
    assert!(served.body["keys"][0]["d"].is_null(), "a private key is served");
    let claims = verify(&keys, &token).unwrap();
    assert_eq!(claims["sub"], ann.to_string());
    assert_eq!((&claims["role"], &claims["name"]), (&json!("customer"), &json!("Ann")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
}

#[tokio::test]
async fn a_rotated_key_is_served_until_its_last_token_has_ended() {
    let database = database().await;
    let service = start(&database, &[]).await;
    register(&service.http, "ann@example.com").await;
    let token = token(&service.http, "ann@example.com").await;

    let (hour, minute) = (Duration::from_hours(1), Duration::from_mins(1));
    let policy = Policy { rotate_every: 24 * hour, publish_ahead: 10 * minute, token_lifetime: 15 * minute };
    let store = Store::new(pool(&settings(&database, &[]).common));
    let keys = Arc::new(Keys::new(store, policy));
    let now = clock::now();
    let kid = |keys: &Keys, at| keys.sign(at, |kid, _| kid.to_owned()).unwrap();

    keys.refresh(now).await.unwrap();
    let first = kid(&keys, now);
    let rotated = now + 24 * hour;
    keys.refresh(rotated).await.unwrap();
    assert_eq!(keys.public().keys.len(), 2, "the new key is served at once");
    assert_eq!(kid(&keys, rotated + 9 * minute), first, "and does not sign yet");
    assert_ne!(kid(&keys, rotated + 10 * minute), first, "and then does");
    assert!(verify(&keys.public(), &token).is_some(), "tokens of the old key are still good");

    // A second instance on the same database serves the same keys.
    let other = start(&database, &[]).await;
    let served = other.http.get("/.well-known/jwks.json").await.body;
    assert_eq!(serde_json::from_value::<JwkSet>(served).unwrap(), keys.public());

    keys.refresh(rotated + 25 * minute).await.unwrap();
    assert_eq!(keys.public().keys.len(), 2, "the last token of the old key may be a second old");
    keys.refresh(rotated + 27 * minute).await.unwrap();
    assert!(verify(&keys.public(), &token).is_none(), "the old key is gone");
}

#[tokio::test]
async fn validate_token_says_why_not() {
    let service = start(&database().await, &["--token-lifetime", "1h"]).await;
    let ann = register(&service.http, "ann@example.com").await;
    let good = token(&service.http, "ann@example.com").await;
    let mut grpc = UserServiceClient::new(service.channel());
    let validate = async |grpc: &mut UserServiceClient<_>, token: &str| {
        grpc.validate_token(ValidateTokenRequest { token: token.to_owned() }).await.unwrap().into_inner()
    };
    let valid = validate(&mut grpc, &good).await;
    assert!(valid.valid);
    assert_eq!((valid.user_id, valid.role), (ann.to_string(), "customer".to_owned()));
    assert!(valid.expires.is_some());

    let parts: Vec<&str> = good.split('.').collect();
    let other_role = format!("{}.{}.{}", parts[0], parts[1].chars().rev().collect::<String>(), parts[2]);
    let none = format!("eyJhbGciOiJub25lIiwia2lkIjoieCJ9.{}.", parts[1]);
    let hmac = format!("eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.{}.{}", parts[1], parts[2]);
    for (token, expect) in [
        ("", "malformed"),
        ("a.b.c", "malformed"),
        (&none, "malformed"),
        (&hmac, "unknown key"),
        (&other_role, "wrong signature"),
        (&"x".repeat(65_000), "malformed"),
    ] {
        let invalid = validate(&mut grpc, token).await;
        assert_eq!((invalid.valid, invalid.reason.as_str()), (false, expect), "{token:.60}");
    }

    service.http.user(ann, "customer").delete("/users/me").await;
    assert_eq!(validate(&mut grpc, &good).await.reason, "the user is gone");
}

#[tokio::test]
async fn an_expired_token_is_not_valid() {
    let service = start(&database().await, &["--token-lifetime", "1ms"]).await;
    register(&service.http, "ann@example.com").await;
    let token = token(&service.http, "ann@example.com").await;
    let mut grpc = UserServiceClient::new(service.channel());
    shop_kit::testing::eventually("the token has expired", async || {
        let request = ValidateTokenRequest { token: token.clone() };
        grpc.validate_token(request).await.unwrap().into_inner().reason == "expired"
    })
    .await;
}

#[tokio::test]
async fn grpc_does_what_json_does() {
    let service = start(&database().await, &[]).await;
    let mut grpc = UserServiceClient::new(service.channel());
    let create = CreateUserRequest {
        email: "ann@example.com".into(),
        password: "correct horse".into(),
        name: "Ann".into(),
    };
    let made = grpc.create_user(create.clone()).await.unwrap().into_inner();
    assert_eq!(grpc.create_user(create).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(grpc.get_user(GetUserRequest { id: made.id.clone() }).await.unwrap().into_inner(), made);
    let unknown = GetUserRequest { id: Uuid::new_v4().to_string() };
    assert_eq!(grpc.get_user(unknown).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        grpc.get_user(GetUserRequest { id: "1".into() }).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let change = UpdateUserRequest { id: made.id, name: Some("Anna".into()), ..Default::default() };
    assert_eq!(grpc.update_user(change).await.unwrap().into_inner().name, "Anna");
    let login = LoginRequest { email: "ann@example.com".into(), password: "correct horse".into() };
    assert_eq!(grpc.login(login.clone()).await.unwrap().into_inner().expires_in, 900);
    let wrong = LoginRequest { password: "wrong horse".into(), ..login };
    assert_eq!(grpc.login(wrong).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_admin_account_is_made_once() {
    let database = database().await;
    let admin = ["--admin-email", "root@example.com", "--admin-password", "correct horse"];
    let (first, second) = tokio::join!(start(&database, &admin), start(&database, &admin));
    for service in [&first, &second] {
        let token = token(&service.http, "root@example.com").await;
        let keys = serde_json::from_value(service.http.get("/.well-known/jwks.json").await.body).unwrap();
        assert_eq!(verify(&keys, &token).unwrap()["role"], "admin");
    }
}
