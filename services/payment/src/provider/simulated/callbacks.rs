//! The simulated provider's callbacks: it decides charges that it left open, and tells of them over HTTP until it is
//! heard, always under the same id. What it has to tell survives in its table.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use shop_kit::{clock, errors::chain};
use sqlx::{FromRow, PgConnection, PgPool, query, query_as};
use tokio::time::{sleep, timeout};
use tracing::warn;
use uuid::Uuid;

use crate::signature::{HEADER, Key};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_ATTEMPTS: i32 = 20;

/// Calls back.
pub struct Callbacks {
    pool: PgPool,
    key: Key,
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(FromRow)]
struct Due {
    id: Uuid,
    amount: i64,
    currency: String,
    method: String,
    status: String,
    callback_id: String,
}

/// Plans the callback of a charge.
pub async fn plan(tx: &mut PgConnection, charge: Uuid, delay: Duration) -> sqlx::Result<()> {
    let sql = "UPDATE provider.charges SET callback_id = $2, callback_due = now() + $3 WHERE id = $1";
    let id = format!("evt_{}", Uuid::new_v4().simple());
    query(sql).bind(charge).bind(id).bind(delay).execute(tx).await.map(|_| ())
}

impl Callbacks {
    /// Callbacks to that URL, signed with that key.
    pub fn new(pool: PgPool, key: Key, url: String) -> Self {
        Self { pool, key, url, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Calls back until dropped.
    pub async fn run(self) {
        loop {
            match self.next().await {
                Ok(Some(due)) => self.tell(&due).await,
                Ok(None) => sleep(LOOK_EVERY).await,
                Err(error) => {
                    warn!(error = chain(&error), "the provider cannot see which callbacks are due");
                    sleep(PATIENCE).await;
                }
            }
        }
    }

    /// Decides the next charge whose callback is due, and leases it to this instance.
    async fn next(&self) -> sqlx::Result<Option<Due>> {
        let mut tx = self.pool.begin().await?;
        let sql = "UPDATE provider.charges SET callback_attempts = callback_attempts + 1, \
                   callback_due = now() + least(callback_attempts + 1, 30) * interval '1 s' WHERE id = \
                   (SELECT id FROM provider.charges WHERE callback_due <= now() AND callback_attempts < $1 \
                   ORDER BY callback_due LIMIT 1 FOR UPDATE SKIP LOCKED) \
                   RETURNING id, amount, currency, method, status, callback_id";
        let due: Option<Due> = query_as(sql).bind(MOST_ATTEMPTS).fetch_optional(&mut *tx).await?;
        let Some(mut due) = due else { return Ok(None) };
        if due.status == "pending" {
            let says_no = due.method == "tok_callback_declined";
            due.status = if says_no { "declined" } else { "captured" }.into();
            let sql = "UPDATE provider.charges SET status = $2, reason = $3 WHERE id = $1";
            let reason = if says_no { "card_declined" } else { "" };
            query(sql).bind(due.id).bind(&due.status).bind(reason).execute(&mut *tx).await?;
            if !says_no {
                let sql = "INSERT INTO provider.movements (charge, amount, currency) VALUES ($1, $2, $3)";
                query(sql).bind(due.id).bind(due.amount).bind(&due.currency).execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        Ok(Some(due))
    }

    async fn tell(&self, due: &Due) {
        // A charge that was taken back meanwhile has nothing to tell.
        let told = !matches!(due.status.as_str(), "captured" | "declined") || self.post(due).await;
        if !told {
            return;
        }
        let sql = "UPDATE provider.charges SET callback_due = NULL WHERE id = $1";
        if let Err(error) = query(sql).bind(due.id).execute(&self.pool).await {
            warn!(error = chain(&error), "a callback will be made again");
        }
    }

    async fn post(&self, due: &Due) -> bool {
        let body = json!({
            "id": due.callback_id,
            "type": format!("charge.{}", due.status),
            "payment": due.id,
            "amount": due.amount,
            "currency": due.currency,
            "reason": if due.status == "declined" { "card_declined" } else { "" },
        })
        .to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(HEADER, self.key.sign(body.as_bytes(), clock::now()));
        let Ok(request) = request.body(Full::new(Bytes::from(body))) else { return false };
        let mut why = String::new();
        match timeout(PATIENCE, self.client.request(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => return true,
            Ok(Ok(answer)) => why.push_str(answer.status().as_str()),
            Ok(Err(error)) => why.push_str(&chain(&error)),
            // Writing to a string cannot fail.
            Err(_) => write!(why, "no answer within {PATIENCE:?}").unwrap_or_default(),
        }
        warn!(why, callback = due.callback_id, "a callback was not heard");
        false
    }
}
