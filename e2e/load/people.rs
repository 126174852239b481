//! Who asks: customers with accounts, and the admin. Where the database of the user service is known they are put there,
//! and their tokens signed with its key, since thousands cannot register through a rate limit. Else they register and log
//! in, a few at a time. Past the proxies no token is looked at, and headers say who asks.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::site::{Site, Way};
use crate::web::Web;

/// At once, since each password takes a core for a while.
const REGISTER_AT_ONCE: usize = 4;
const TOKEN_LIFETIME: Duration = Duration::hours(2);
/// A new key is served for a while before it may sign.
const KEY_SETTLES: Duration = Duration::minutes(15);

/// How the shop's tokens are made.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Identity {
    /// Who issues tokens, where they are signed here
    #[arg(long, default_value = "https://user.shop.example", value_name = "URL", global = true)]
    issuer: String,
    /// Whom they are for
    #[arg(long, default_value = "shop", global = true)]
    audience: String,
    /// The admin's account, where nobody can be put into the database
    #[arg(long, default_value = "admin@shop.example", value_name = "ADDRESS", global = true)]
    admin_email: String,
    /// Its password
    #[arg(long, default_value = "the-demo-password", value_name = "PASSWORD", global = true)]
    admin_password: String,
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: Uuid,
    /// What every request of theirs carries.
    pub(crate) headers: HeaderMap,
}

/// All who ask.
pub(crate) struct People {
    pub(crate) customers: Vec<Arc<Person>>,
    pub(crate) admin: Arc<Person>,
}

impl People {
    /// So many customers, and the admin.
    pub(crate) async fn gather(site: &Site, way: Way, count: usize, identity: &Identity) -> Result<Self> {
        if let Some(database) = site.database("users") {
            return put(database, count, identity).await;
        }
        if way == Way::Direct {
            let direct = |role| Arc::new(Person::new(Uuid::new_v4(), role, None));
            return Ok(Self {
                customers: (0..count).map(|_| direct("customer")).collect(),
                admin: direct("admin"),
            });
        }
        let base = site.bases("user", way)?.remove(0);
        let web = Web::new();
        let run = Uuid::new_v4().simple().to_string();
        let customers = stream::iter(0..count)
            .map(|number| register(&web, &base, format!("load-{run}-{number}@shop.example")))
            .buffer_unordered(REGISTER_AT_ONCE)
            .try_collect()
            .await?;
        let admin = log_in(&web, &base, &identity.admin_email, &identity.admin_password).await;
        Ok(Self { customers, admin: Arc::new(admin.context("logging the admin in")?) })
    }
}

impl Person {
    /// What proxies look at, and what services past them do.
    fn new(id: Uuid, role: &str, token: Option<&str>) -> Self {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("x-user-id", &id.to_string());
        set("x-user-role", role);
        set("x-user-name", "Load");
        if let Some(token) = token {
            set("authorization", &format!("Bearer {token}"));
        }
        Self { id, headers }
    }
}

/// Puts accounts into the database that nobody can log in to, and signs their tokens.
async fn put(database: &str, count: usize, identity: &Identity) -> Result<People> {
    let mut users = PgConnection::connect(database).await.context("connecting to the database of users")?;
    let key = signing_key(&mut users).await?;
    let run = Uuid::new_v4().simple().to_string();
    let ids: Vec<Uuid> = (0..=count).map(|_| Uuid::new_v4()).collect();
    let emails: Vec<String> = (0..=count).map(|number| format!("load-{run}-{number}@shop.example")).collect();
    let roles: Vec<String> =
        (0..=count).map(|number| if number == count { "admin" } else { "customer" }.to_owned()).collect();
    let insert = "INSERT INTO users (id, email, name, role, password_hash, created) \
        SELECT id, email, 'Load', role, '!', now() FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (id, email, role)";
    sqlx::query(insert)
        .bind(&ids)
        .bind(&emails)
        .bind(&roles)
        .execute(&mut users)
        .await
        .context("adding accounts")?;
    let now = OffsetDateTime::now_utc();
    let person = |(id, role): (&Uuid, &String)| {
        let token = key.sign(*id, role, identity, now)?;
        Ok(Arc::new(Person::new(*id, role, Some(&token))))
    };
    let mut people: Vec<Arc<Person>> = ids.iter().zip(&roles).map(person).collect::<Result<_>>()?;
    let admin = people.pop().context("there is an admin")?;
    Ok(People { customers: people, admin })
}

struct Key {
    kid: String,
    key: EncodingKey,
}

/// The key that signs now.
async fn signing_key(users: &mut PgConnection) -> Result<Key> {
    let keys: Vec<(String, String, OffsetDateTime)> =
        sqlx::query_as("SELECT kid, private_key, created FROM signing_keys ORDER BY created")
            .fetch_all(users)
            .await?;
    let settled = OffsetDateTime::now_utc() - KEY_SETTLES;
    let signing = keys.iter().rev().find(|(_, _, created)| *created < settled).or(keys.first());
    let (kid, pem, _) = signing.context("the user service has no key yet")?;
    Ok(Key {
        kid: kid.clone(),
        key: EncodingKey::from_ec_pem(pem.as_bytes()).context("reading the signing key")?,
    })
}

impl Key {
    fn sign(&self, user: Uuid, role: &str, identity: &Identity, now: OffsetDateTime) -> Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        let (from, until) = (now.unix_timestamp(), (now + TOKEN_LIFETIME).unix_timestamp());
        let claims = json!({"iss": identity.issuer, "aud": identity.audience, "sub": user, "role": role, "name": "Load",
            "iat": from, "nbf": from, "exp": until, "jti": Uuid::new_v4()});
        jsonwebtoken::encode(&header, &claims, &self.key).context("signing a token")
    }
}

async fn register(web: &Web, base: &str, email: String) -> Result<Arc<Person>> {
    let body = json!({"email": email, "password": "correct horse battery", "name": "Load"});
    web.ask(Method::POST, &format!("{base}/users"), &HeaderMap::new(), Some(&body)).await?;
    log_in(web, base, &email, "correct horse battery").await.map(Arc::new)
}

async fn log_in(web: &Web, base: &str, email: &str, password: &str) -> Result<Person> {
    let body = json!({"email": email, "password": password});
    let answer =
        web.ask(Method::POST, &format!("{base}/users/login"), &HeaderMap::new(), Some(&body)).await?;
    let token = answer["access_token"].as_str().context("no token in the answer")?;
    let mut person = Person::new(Uuid::nil(), "customer", Some(token));
    let me = web.ask(Method::GET, &format!("{base}/users/me"), &person.headers, None).await?;
    person.id = me["id"].as_str().and_then(|id| id.parse().ok()).context("no id in the answer")?;
    ensure!(!person.id.is_nil(), "the account has no id");
    Ok(person)
}
