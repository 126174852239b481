//! Accounts and signing keys in PostgreSQL. Knows tables, not rules.

use shop_kit::cx::Role;
use sqlx::{FromRow, PgPool, Postgres, Transaction, query, query_as};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{
    keys::StoredKey,
    user::{Email, User},
};

/// Any number; all instances use the same.
const KEYS_LOCK: i64 = 0x7368_6f70_6b65_7973;

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another account has the e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The database failed.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(sqlx::error::DatabaseError::constraint) {
            Some("users_email_key") => StoreError::EmailTaken,
            _ => StoreError::Database(error),
        }
    }
}

/// Where accounts are kept.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    email: String,
    name: String,
    role: String,
    password_hash: String,
    created: OffsetDateTime,
}

impl Row {
    fn user(self) -> Result<(User, String), StoreError> {
        let bad = |message: &'static str| StoreError::Database(sqlx::Error::Decode(message.into()));
        let email = Email::parse(&self.email).map_err(bad)?;
        let role = Role::parse(&self.role);
        let user = User { id: self.id, email, name: self.name, role, created: self.created };
        Ok((user, self.password_hash))
    }
}

impl Store {
    /// The store in that database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Keeps a new account.
    pub async fn insert(&self, user: &User, password_hash: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO users (id, email, name, role, password_hash, created) VALUES ($1, $2, $3, $4, $5, $6)";
        query(sql)
            .bind(user.id)
            .bind(user.email.as_str())
            .bind(&user.name)
            .bind(user.role.as_str())
            .bind(password_hash)
            .bind(user.created)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The account of that id.
    pub async fn find(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        let row: Option<Row> =
            query_as("SELECT * FROM users WHERE id = $1").bind(id).fetch_optional(&self.pool).await?;
        row.map(|row| row.user().map(|(user, _)| user)).transpose()
    }

    /// The account of that e-mail address, and its password's hash.
    pub async fn find_by_email(&self, email: &Email) -> Result<Option<(User, String)>, StoreError> {
        let found = query_as("SELECT * FROM users WHERE email = $1").bind(email.as_str());
        let row: Option<Row> = found.fetch_optional(&self.pool).await?;
        row.map(Row::user).transpose()
    }

    /// Changes what is given.
    pub async fn update(
        &self,
        id: Uuid,
        email: Option<&Email>,
        name: Option<&str>,
        password_hash: Option<&str>,
    ) -> Result<Option<User>, StoreError> {
        let sql = "UPDATE users SET email = coalesce($2, email), name = coalesce($3, name), \
                   password_hash = coalesce($4, password_hash) WHERE id = $1 RETURNING *";
        let changed = query_as(sql).bind(id).bind(email.map(Email::as_str)).bind(name).bind(password_hash);
        let row: Option<Row> = changed.fetch_optional(&self.pool).await?;
        row.map(|row| row.user().map(|(user, _)| user)).transpose()
    }

    /// Deletes an account; false when there is none.
    pub async fn delete(&self, id: Uuid) -> Result<bool, StoreError> {
        let done = query("DELETE FROM users WHERE id = $1").bind(id).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Begins work on the signing keys that no other instance does at the same time.
    pub async fn lock_keys(&self) -> sqlx::Result<KeyTransaction> {
        let mut tx = self.pool.begin().await?;
        query("SELECT pg_advisory_xact_lock($1)").bind(KEYS_LOCK).execute(&mut *tx).await?;
        Ok(KeyTransaction(tx))
    }
}

/// Work on the signing keys.
pub struct KeyTransaction(Transaction<'static, Postgres>);

impl KeyTransaction {
    /// All keys, oldest first.
    pub async fn all(&mut self) -> sqlx::Result<Vec<StoredKey>> {
        query_as("SELECT kid, private_key, created FROM signing_keys ORDER BY created")
            .fetch_all(&mut *self.0)
            .await
    }

    /// Keeps a new key.
    pub async fn insert(&mut self, key: &StoredKey) -> sqlx::Result<()> {
        let sql = "INSERT INTO signing_keys (kid, private_key, created) VALUES ($1, $2, $3)";
        query(sql)
            .bind(&key.kid)
            .bind(key.private_key.as_str())
            .bind(key.created)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Deletes a key.
    pub async fn delete(&mut self, kid: &str) -> sqlx::Result<()> {
        query("DELETE FROM signing_keys WHERE kid = $1").bind(kid).execute(&mut *self.0).await?;
        Ok(())
    }

    /// Ends the work.
    pub async fn commit(self) -> sqlx::Result<()> {
        self.0.commit().await
    }
}
