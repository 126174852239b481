//! Vectors of RFC 7515 and of OpenSSL, attacks, sources, claims in headers, the cache. Tokens of the attacks are signed
//! here, each with the one thing wrong that it is about.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::fixture;

const ISSUER: &str = "https://user.shop.example";
const NOW: i64 = 1_800_000_000;

/// An issuer with one ES256 key, `kid` "main".
struct Issuer {
    pair: rcgen::KeyPair,
    key: EncodingKey,
}

impl Issuer {
    fn new() -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { pair, key }
    }

    fn jwks(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = "main".into();
        json!({"keys": [jwk]})
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&json!({"alg": "ES256", "kid": "main"}), claims)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        sign(header, claims, &self.key, Algorithm::ES256)
    }
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn sign(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "shop", "sub": "42", "role": "customer", "exp": NOW + 60})
}

/// The usual claims with one changed; `null` takes it away.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn provider() -> v1::JwtProvider {
    let header = |claim: &str, header: &str| v1::ClaimHeader { claim: claim.into(), header: header.into() };
    v1::JwtProvider {
        issuer: ISSUER.into(),
        audiences: vec!["shop".into()],
        keys: "keys".into(),
        claim_headers: vec![header("sub", "x-user-id"), header("role", "x-user-role")],
        ..Default::default()
    }
}

fn authentication(provider: v1::JwtProvider) -> v1::Authentication {
    v1::Authentication { providers: vec![provider], required: true, exempt: vec![] }
}

fn policy(config: &v1::Authentication, jwks: &Value) -> Policy {
    let keys = v1::Keys { jwks: jwks.to_string(), ..Default::default() };
    let keys = Arc::new(KeySet::parse(&keys).unwrap());
    Policy::new(config, &|_| Some(Arc::clone(&keys))).unwrap()
}

/// One request through a policy.
struct Seen {
    result: Result<Option<String>, Reject>,
    cx: RequestCx,
    headers: HeaderMap,
}

impl Seen {
    fn reason(&self) -> Option<Reason> {
        self.result.as_ref().err().map(|reject| reject.reason)
    }
}

fn send(policy: &Policy, headers: &[(&str, &str)], query: Option<&str>, now: i64) -> Seen {
    let mut cx = fixture::request("GET", "order", "/orders");
    let mut headers = fixture::headers(headers);
    let result = policy.verify(&mut cx, &mut headers, query, now);
    Seen { result, cx, headers }
}

fn bearer(policy: &Policy, token: &str) -> Seen {
    send(policy, &[("authorization", &format!("Bearer {token}"))], None, NOW)
}

/// Why a token is refused by the usual policy; none if it is not.
fn refusal(issuer: &Issuer, token: &str) -> Option<Reason> {
    let policy = policy(&authentication(provider()), &issuer.jwks());
    let reason = bearer(&policy, token).reason();
    assert_eq!(bearer(&policy, token).reason(), reason, "the second time is as the first");
    reason
}

#[test]
fn vectors_of_the_rfc_and_of_openssl_verify_and_a_changed_bit_does_not() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("tests/vectors.json")).unwrap();
    assert_eq!(vectors.len(), 15);
    for vector in vectors {
        let token = vector["token"].as_str().unwrap();
        let issuer = if vector["name"].as_str().unwrap().contains("RFC") { "joe" } else { ISSUER };
        let config = authentication(v1::JwtProvider { issuer: issuer.into(), ..v1::JwtProvider::default() });
        let policy = policy(&config, &json!({"keys": [vector["jwk"]]}));
        let at = 1_300_819_379;
        let seen = |token: &str| send(&policy, &[("authorization", &format!("Bearer {token}"))], None, at);
        assert_eq!(seen(token).reason(), None, "{}", vector["name"]);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let changed = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(seen(&changed).reason(), Some(Reason::JwtSignature), "{}", vector["name"]);
    }
}

#[test]
fn a_good_token_brings_claims_and_headers_and_stays_behind() {
    let issuer = Issuer::new();
    let policy = policy(&authentication(provider()), &issuer.jwks());
    for _ in 0..2 {
        let seen = bearer(&policy, &issuer.token(&claims()));
        assert_eq!(seen.result, Ok(None));
        assert_eq!(seen.cx.claims.unwrap().get("sub"), Some(&json!("42")));
        assert_eq!(seen.headers, fixture::headers(&[("x-user-id", "42"), ("x-user-role", "customer")]));
    }
}

#[test]
fn algorithms_that_do_not_fit_the_key_are_refused() {
    let issuer = Issuer::new();
    let unsigned = |alg: &str| format!("{}.{}.", part(&json!({"alg": alg, "kid": "main"})), part(&claims()));
    for alg in ["none", "None", "NONE", "nOnE", "", "ES512", "ES256K", "dir"] {
        assert_eq!(refusal(&issuer, &unsigned(alg)), Some(Reason::JwtMalformed), "{alg}");
    }
    // The public key in every form an implementation could take for a secret.
    let pem = issuer.pair.public_key_pem();
    let der = rcgen::PublicKeyData::subject_public_key_info(&issuer.pair);
    let x = issuer.jwks()["keys"][0]["x"].as_str().unwrap().to_owned();
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), &der, x.as_bytes()] {
        let key = EncodingKey::from_secret(secret);
        for header in [json!({"alg": "HS256", "kid": "main"}), json!({"alg": "HS256"})] {
            let token = sign(&header, &claims(), &key, Algorithm::HS256);
            assert_eq!(refusal(&issuer, &token), Some(Reason::JwtSignature));
        }
    }
    let other = Issuer::new();
    assert_eq!(refusal(&issuer, &other.token(&claims())), Some(Reason::JwtSignature));
}

#[test]
fn rsa_keys_are_no_secrets_either() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("tests/vectors.json")).unwrap();
    let jwk = vectors.iter().map(|v| &v["jwk"]).find(|jwk| jwk["kty"] == "RSA").unwrap();
    let policy = policy(&authentication(provider()), &json!({"keys": [jwk]}));
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    for secret in [&modulus[..], jwk["n"].as_str().unwrap().as_bytes()] {
        let header = json!({"alg": "HS256", "kid": jwk["kid"]});
        let token = sign(&header, &claims(), &EncodingKey::from_secret(secret), Algorithm::HS256);
        assert_eq!(bearer(&policy, &token).reason(), Some(Reason::JwtSignature));
    }
}

#[test]
fn each_claim_that_is_wrong_has_its_reason() {
    let issuer = Issuer::new();
    let check = |name: &str, value: Value| refusal(&issuer, &issuer.token(&with(name, value)));
    assert_eq!(check("exp", json!(NOW)), Some(Reason::JwtExpired));
    assert_eq!(check("exp", json!(NOW + 1)), None);
    assert_eq!(check("exp", json!(1e300)), None);
    assert_eq!(check("exp", json!(-1.5)), Some(Reason::JwtExpired));
    assert_eq!(check("exp", Value::Null), Some(Reason::JwtMalformed));
    assert_eq!(check("exp", json!("4102444800")), Some(Reason::JwtMalformed));
    assert_eq!(check("nbf", json!(NOW)), None);
    assert_eq!(check("nbf", json!(NOW + 1)), Some(Reason::JwtNotYetValid));
    assert_eq!(check("aud", json!("other")), Some(Reason::JwtAudience));
    assert_eq!(check("aud", json!(["other", "shop"])), None);
    assert_eq!(check("aud", json!(["other"])), Some(Reason::JwtAudience));
    assert_eq!(check("aud", Value::Null), Some(Reason::JwtAudience));
    assert_eq!(check("iss", json!("https://evil.example")), Some(Reason::JwtIssuer));
    assert_eq!(check("iss", Value::Null), Some(Reason::JwtIssuer));
    assert_eq!(check("iss", json!([ISSUER])), Some(Reason::JwtIssuer));
}

#[test]
fn leeway_moves_both_ends() {
    let issuer = Issuer::new();
    let policy = policy(&authentication(v1::JwtProvider { leeway_ms: 30_000, ..provider() }), &issuer.jwks());
    let token = issuer.token(&with("nbf", json!(NOW)));
    let at = |now| send(&policy, &[("authorization", &format!("Bearer {token}"))], None, now).reason();
    assert_eq!(at(NOW - 31), Some(Reason::JwtNotYetValid));
    assert_eq!(at(NOW - 30), None);
    assert_eq!(at(NOW + 89), None);
    assert_eq!(at(NOW + 90), Some(Reason::JwtExpired), "also when it is remembered");
}

#[test]
fn keys_are_found_by_kid_or_tried_by_type() {
    let issuer = Issuer::new();
    let check = |header: Value| refusal(&issuer, &issuer.signed(&header, &claims()));
    assert_eq!(check(json!({"alg": "ES256", "kid": "main"})), None);
    assert_eq!(check(json!({"alg": "ES256"})), None);
    assert_eq!(check(json!({"alg": "ES256", "kid": "other"})), Some(Reason::JwtUnknownKey));
    assert_eq!(check(json!({"alg": "ES256", "kid": "main", "crit": ["exp"]})), Some(Reason::JwtMalformed));
    assert_eq!(check(json!({"alg": "ES256", "kid": 7})), Some(Reason::JwtMalformed));
    // A key or address that the token brings along is not looked at.
    let jwk = Issuer::new().jwks()["keys"][0].clone();
    assert_eq!(check(json!({"alg": "ES256", "jwk": jwk, "jku": "http://evil.example"})), None);
    let other = Issuer::new();
    let forged = other.signed(&json!({"alg": "ES256", "jwk": other.jwks()["keys"][0]}), &claims());
    assert_eq!(refusal(&issuer, &forged), Some(Reason::JwtSignature));
}

#[test]
fn what_is_no_token_is_refused() {
    let issuer = Issuer::new();
    let good = issuer.token(&claims());
    let (header, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    for token in [
        "",
        "x",
        "..",
        "...",
        header,
        &format!("{header}.{payload}"),
        &format!("{good}.x"),
        &format!("{header}..{payload}.{signature}"),
        &format!("{header}=.{payload}.{signature}"),
        &format!("{header}.{payload}+/.{signature}"),
        &format!("bm8.{payload}.{signature}"),
        &format!("{header}.bm8.{signature}"),
        &format!("{header}.{}.{signature}", part(&json!([1]))),
        &format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("[".repeat(1000))),
        &"a".repeat(64 * 1024),
        &format!("{header}.{}.{signature}", "A".repeat(64 * 1024)),
    ] {
        let reason = refusal(&issuer, token);
        assert_eq!(reason, Some(Reason::JwtMalformed), "{}", token.get(..80).unwrap_or(token));
    }
    for signature in ["", "AA", "not base64!", signature.get(..20).unwrap()] {
        let reason = refusal(&issuer, &format!("{header}.{payload}.{signature}"));
        assert_eq!(reason, Some(Reason::JwtSignature), "{signature}");
    }
}

#[test]
fn without_a_token_it_depends_on_required() {
    let issuer = Issuer::new();
    let mut config = authentication(provider());
    let required = policy(&config, &issuer.jwks());
    config.required = false;
    let optional = policy(&config, &issuer.jwks());
    for headers in [&[][..], &[("authorization", "Basic dTpw")], &[("authorization", "Bear")]] {
        assert_eq!(send(&required, headers, None, NOW).reason(), Some(Reason::JwtMissing));
        let seen = send(&optional, headers, None, NOW);
        assert_eq!(seen.result, Ok(None));
        assert_eq!(seen.headers, fixture::headers(headers), "other credentials pass");
    }
    let expired = issuer.token(&with("exp", json!(NOW - 1)));
    assert_eq!(
        bearer(&optional, &expired).reason(),
        Some(Reason::JwtExpired),
        "a bad token is worse than none"
    );
}

#[test]
fn claim_headers_from_outside_are_removed_always() {
    let issuer = Issuer::new();
    let exempt = vec![v1::RequestMatch { paths: vec!["/orders".into()], ..Default::default() }];
    let config = v1::Authentication { exempt, ..authentication(provider()) };
    let policy = policy(&config, &issuer.jwks());
    let forged = ("X-User-Id", "1");
    assert!(send(&policy, &[forged, forged], None, NOW).headers.is_empty());
    let alike = [("x_user_id", "1"), ("X-User_Id", "1"), ("x_user_role", "admin")];
    assert!(send(&policy, &alike, None, NOW).headers.is_empty());
    assert_eq!(send(&policy, &[("x_user", "1")], None, NOW).headers.len(), 1);
    let token = format!("Bearer {}", issuer.token(&with("role", Value::Null)));
    let seen = send(&policy, &[forged, ("x-user-role", "admin"), ("authorization", &token)], None, NOW);
    assert_eq!(seen.headers, fixture::headers(&[("x-user-id", "42")]));
}

#[test]
fn exempt_requests_pass_even_with_a_bad_token_but_without_its_claims() {
    let issuer = Issuer::new();
    let exempt = vec![v1::RequestMatch { paths: vec!["/orders*".into()], ..Default::default() }];
    let config = v1::Authentication { exempt, ..authentication(provider()) };
    let policy = policy(&config, &issuer.jwks());
    assert_eq!(send(&policy, &[], None, NOW).result, Ok(None));
    let bad = bearer(&policy, &issuer.token(&with("exp", json!(1))));
    assert_eq!((bad.result, bad.cx.claims, bad.headers.len()), (Ok(None), None, 0));
    let good = bearer(&policy, &issuer.token(&claims()));
    assert!(good.cx.claims.is_some());
    let mut cx = fixture::request("GET", "order", "/orders/a%2Fb");
    let refused = policy.verify(&mut cx, &mut HeaderMap::new(), None, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::JwtMissing, "a path with two readings is not exempt");
}

#[test]
fn two_authorization_headers_are_refused() {
    let issuer = Issuer::new();
    let policy = policy(&authentication(provider()), &issuer.jwks());
    let good = format!("Bearer {}", issuer.token(&claims()));
    for other in ["Bearer x", "Basic dTpw", &good] {
        for pair in [[&*good, other], [other, &*good]] {
            let headers = pair.map(|value| ("authorization", value));
            assert_eq!(send(&policy, &headers, None, NOW).reason(), Some(Reason::JwtMalformed));
        }
    }
}

fn from(source: v1::token_source::Source) -> v1::TokenSource {
    v1::TokenSource { source: Some(source) }
}

#[test]
fn tokens_come_from_headers_cookies_and_queries() {
    use v1::token_source::Source as Wire;
    let issuer = Issuer::new();
    let token = issuer.token(&claims());
    let header = v1::HeaderSource { name: "x-token".into(), prefix: String::new() };
    let sources =
        vec![from(Wire::Header(header)), from(Wire::Cookie("jwt".into())), from(Wire::Query("token".into()))];
    let policy = policy(&authentication(v1::JwtProvider { from: sources, ..provider() }), &issuer.jwks());
    let user = [("x-user-id", "42"), ("x-user-role", "customer")];

    let seen = send(&policy, &[("x-token", &token)], None, NOW);
    assert_eq!((seen.result, seen.headers), (Ok(None), fixture::headers(&user)));

    let cookie = format!("a=1; jwt={token}; jwtx=2");
    let seen = send(&policy, &[("cookie", &cookie)], None, NOW);
    assert_eq!(seen.result, Ok(None));
    assert_eq!(seen.headers.get("cookie").unwrap(), "a=1; jwtx=2");

    let query = format!("a=1&token={token}&b=2");
    let seen = send(&policy, &[], Some(&query), NOW);
    assert_eq!(seen.result, Ok(Some("a=1&b=2".to_owned())));
    let alone = send(&policy, &[], Some(&format!("token={token}")), NOW);
    assert_eq!(alone.result, Ok(Some(String::new())));

    let twice = format!("token={token}&token={token}");
    assert_eq!(send(&policy, &[], Some(&twice), NOW).reason(), Some(Reason::JwtMalformed));
    let twice = format!("jwt={token}; jwt={token}");
    assert_eq!(send(&policy, &[("cookie", &twice)], None, NOW).reason(), Some(Reason::JwtMalformed));
    assert_eq!(bearer(&policy, &token).reason(), Some(Reason::JwtMissing), "not one of the places");
}

#[test]
fn a_token_counts_only_at_the_place_its_issuer_names() {
    let (shop, staff) = (Issuer::new(), Issuer::new());
    let cookie = from(v1::token_source::Source::Cookie("staff".into()));
    let second = v1::JwtProvider {
        issuer: "https://staff.example".into(),
        keys: "staff".into(),
        from: vec![cookie],
        ..v1::JwtProvider::default()
    };
    let config = v1::Authentication { providers: vec![provider(), second], required: true, exempt: vec![] };
    let parse = |issuer: &Issuer| {
        Arc::new(KeySet::parse(&v1::Keys { jwks: issuer.jwks().to_string(), ..Default::default() }).unwrap())
    };
    let (shop_keys, staff_keys) = (parse(&shop), parse(&staff));
    let keys = |name: &str| Some(Arc::clone(if name == "staff" { &staff_keys } else { &shop_keys }));
    let policy = Policy::new(&config, &keys).unwrap();
    let staff_claims = json!({"iss": "https://staff.example", "exp": NOW + 60, "sub": "boss"});
    let token = staff.token(&staff_claims);
    let in_cookie = send(&policy, &[("cookie", &format!("staff={token}"))], None, NOW);
    assert_eq!(in_cookie.reason(), None);
    assert_eq!(bearer(&policy, &token).reason(), Some(Reason::JwtIssuer), "also when it is remembered");
    assert_eq!(bearer(&policy, &shop.token(&staff_claims)).reason(), Some(Reason::JwtIssuer));
    assert_eq!(
        bearer(&policy, &staff.token(&claims())).reason(),
        Some(Reason::JwtSignature),
        "each has its own keys"
    );
    assert_eq!(bearer(&policy, &shop.token(&claims())).reason(), None);
}

#[test]
fn a_token_is_forwarded_where_the_policy_says_so_and_at_the_edge() {
    let issuer = Issuer::new();
    let token = issuer.token(&claims());
    let forward =
        policy(&authentication(v1::JwtProvider { forward_token: true, ..provider() }), &issuer.jwks());
    let edge = policy(&authentication(provider()), &issuer.jwks()).at_edge();
    for policy in [forward, edge] {
        let seen = bearer(&policy, &token);
        assert_eq!(seen.headers.get("authorization").unwrap(), &format!("Bearer {token}"));
        assert_eq!(seen.headers.get("x-user-id").unwrap(), "42");
    }
}

#[test]
fn without_keys_the_answer_is_503_and_the_configuration_good() {
    let issuer = Issuer::new();
    let missing = Policy::new(&authentication(provider()), &|_| None).unwrap();
    let empty =
        KeySet::parse(&v1::Keys { error: "connection refused".into(), ..Default::default() }).unwrap();
    let empty = Arc::new(empty);
    let unfetched = Policy::new(&authentication(provider()), &|_| Some(Arc::clone(&empty))).unwrap();
    let token = issuer.token(&claims());
    assert_eq!(bearer(&missing, &token).reason(), Some(Reason::JwksUnavailable));
    let seen = bearer(&unfetched, &token);
    assert_eq!(seen.result.unwrap_err().detail.as_deref(), Some("connection refused"));
    assert_eq!(send(&missing, &[], None, NOW).reason(), Some(Reason::JwtMissing));
}

/// The header that a claim of this value becomes.
fn header_of(value: Value) -> Option<String> {
    let claims = Claims { map: [("x".to_owned(), value)].into_iter().collect() };
    claims.header_value("x").map(|v| String::from_utf8(v.as_bytes().to_vec()).unwrap())
}

#[test]
fn claims_become_headers_that_cannot_be_read_as_more() {
    assert_eq!(header_of(json!("42")).as_deref(), Some("42"));
    assert_eq!(header_of(json!(42)).as_deref(), Some("42"));
    assert_eq!(header_of(json!(true)).as_deref(), Some("true"));
    assert_eq!(header_of(json!(["a", "b", 3])).as_deref(), Some("a,b,3"));
    assert_eq!(header_of(json!("Jos\u{e9}")).as_deref(), Some("Jos\u{e9}"));
    for value in [
        json!("a\r\nx-user-role: admin"),
        json!("a\nb"),
        json!("a\u{0}b"),
        json!("a\u{7f}"),
        json!("a\u{85}b"),
        json!(" admin"),
        json!("admin\u{a0}"),
        json!(""),
        json!(null),
        json!({"a": 1}),
        json!(["a,admin"]),
        json!(["a", ""]),
        json!(["a", ["b"]]),
        json!([]),
        json!("a".repeat(5000)),
    ] {
        assert_eq!(header_of(value.clone()), None, "{value}");
    }
}

#[test]
fn a_token_with_such_a_claim_passes_without_the_header() {
    let issuer = Issuer::new();
    let policy = policy(&authentication(provider()), &issuer.jwks());
    let seen = bearer(&policy, &issuer.token(&with("sub", json!("42\r\nx-user-role: admin"))));
    assert_eq!(seen.result, Ok(None));
    assert_eq!(seen.headers, fixture::headers(&[("x-user-role", "customer")]));
}

#[test]
fn a_remembered_token_expires_all_the_same() {
    let issuer = Issuer::new();
    let policy = policy(&authentication(provider()), &issuer.jwks());
    let token = issuer.token(&claims());
    let at = |now| send(&policy, &[("authorization", &format!("bearer {token}"))], None, now).reason();
    assert_eq!(at(NOW), None);
    assert!(policy.cache.get(&token, NOW).is_some());
    assert_eq!(at(NOW + 60), Some(Reason::JwtExpired));
}

#[test]
fn the_cache_is_bounded_and_keeps_what_was_put_last() {
    let cache = Cache::new();
    let verified = Arc::new(Verified {
        provider: 0,
        claims: Arc::default(),
        headers: Box::default(),
        expires: NOW + 60,
        begins: NOW,
    });
    let kept = |users: u32| (0..users).filter(|n| cache.get(&n.to_string(), NOW).is_some()).count();
    let mut users = 0..100_000;
    users.by_ref().take(5_000).for_each(|n| cache.put(&n.to_string(), &verified, NOW));
    assert!(kept(5_000) > 4_900, "a rush of users is not verified anew each time: {}", kept(5_000));
    users.for_each(|n| cache.put(&n.to_string(), &verified, NOW));
    assert!(cache.get("99999", NOW).is_some());
    assert!((16_000..=16_384).contains(&kept(100_000)), "{}", kept(100_000));
    cache.put(&"x".repeat(5000), &verified, NOW);
    assert!(cache.get(&"x".repeat(5000), NOW).is_none());
}

#[test]
fn keys_that_cannot_be_used_are_passed_over_with_the_reason() {
    let short_rsa = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255u8; 128]), "e": "AQAB"});
    let secret =
        |alg: &str, size| json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(vec![1u8; size]), "alg": alg});
    let good = Issuer::new().jwks()["keys"][0].clone();
    let changed = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    for (jwk, usable) in [
        (good.clone(), true),
        (changed("use", json!("enc")), false),
        (changed("use", json!("sig")), true),
        (changed("key_ops", json!(["sign"])), false),
        (changed("alg", json!("ES384")), false),
        (changed("alg", json!("HS256")), false),
        (changed("crv", json!("P-521")), false),
        (changed("x", json!("AAAA")), false),
        (short_rsa, false),
        (secret("HS256", 31), false),
        (secret("HS256", 32), true),
        (secret("HS512", 63), false),
        (json!({"kty": "OKP", "crv": "X25519", "x": ""}), false),
        (json!({"kty": "none"}), false),
        (json!({}), false),
        (json!("text"), false),
    ] {
        let keys = v1::Keys { jwks: json!({"keys": [jwk]}).to_string(), ..Default::default() };
        let set = KeySet::parse(&keys).unwrap();
        assert_eq!(
            (set.len(), set.passed_over().len()),
            (usize::from(usable), usize::from(!usable)),
            "{jwk}"
        );
    }
    for jwks in ["no json", "{}", "[]", "{\"keys\": 1}"] {
        assert!(KeySet::parse(&v1::Keys { jwks: jwks.into(), ..Default::default() }).is_err(), "{jwks}");
    }
}

#[test]
fn a_configuration_that_cannot_be_safe_is_refused() {
    let refused = |change: fn(&mut v1::JwtProvider)| {
        let mut provider = provider();
        change(&mut provider);
        Policy::new(&authentication(provider), &|_| None).is_err()
    };
    assert!(refused(|p| p.issuer = String::new()));
    assert!(refused(|p| p.claim_headers[0].header = "authorization".into()));
    assert!(refused(|p| p.claim_headers[0].header = "Transfer-Encoding".into()));
    assert!(refused(|p| p.claim_headers[0].header = "x-weft-reason".into()));
    assert!(refused(|p| p.claim_headers[0].header = "no header".into()));
    assert!(refused(|p| p.from = vec![v1::TokenSource { source: None }]));
}

proptest! {
    #[test]
    fn no_token_panics(token in "[ -~]{0,200}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,60}", 0..5)) {
        let jwks = json!({"keys": [{"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}]});
        let policy = policy(&authentication(provider()), &jwks);
        for token in [token, parts.join(".")] {
            prop_assert!(bearer(&policy, &token).result.is_err());
        }
    }

    #[test]
    fn no_decoded_token_panics(header in ".{0,60}", payload in ".{0,60}", signature in ".{0,60}") {
        let parts = [header, payload, signature].map(|text| URL_SAFE_NO_PAD.encode(text));
        prop_assert!(Token::parse(&parts.join(".")).is_err());
    }

    #[test]
    fn no_key_set_panics(jwks in ".{0,80}", kty in "RSA|EC|OKP|oct", part in "[A-Za-z0-9_-]{0,400}") {
        drop(KeySet::parse(&v1::Keys { jwks, ..Default::default() }));
        let jwk = json!({"kty": kty, "crv": "P-256", "n": part, "e": part, "x": part, "y": part, "k": part});
        let keys = v1::Keys { jwks: json!({"keys": [jwk]}).to_string(), ..Default::default() };
        let set = KeySet::parse(&keys).unwrap();
        let token = sign(&json!({"alg": "HS256"}), &claims(), &EncodingKey::from_secret(b"x"), Algorithm::HS256);
        prop_assert!(set.check(&Token::parse(&token).unwrap()).is_err());
    }

    #[test]
    fn a_claim_in_a_header_is_one_value_as_written(value in ".{0,40}") {
        if let Some(header) = header_of(json!(value)) {
            prop_assert_eq!(&header, &value);
            prop_assert_eq!(header.trim(), &header);
            prop_assert!(!header.contains(['\r', '\n', '\0']));
        }
    }
}
