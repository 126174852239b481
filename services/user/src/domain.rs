//! What can be done with accounts: register, log in, read, change, delete, and check a token.
//! Both APIs call these; who may do what to whom is decided here, how it is said in `api`.

pub mod keys;
pub mod password;
pub mod token;
pub mod user;

use shop_kit::{
    clock,
    cx::Role,
    errors::{Kind, Problem},
};
use time::OffsetDateTime;
use tracing::info;
use uuid::Uuid;

use crate::{
    domain::{
        keys::KeysError,
        password::{PasswordError, Passwords},
        token::{Claims, InvalidToken, Issued, Tokens},
        user::{Change, Email, Invalid, Registration, User},
    },
    store::{Store, StoreError},
};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some fields cannot be accepted.
    #[error("invalid input")]
    Invalid(#[from] Invalid),
    /// Another account has the e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// No such account, or a wrong password: the same to the caller.
    #[error("wrong e-mail address or password")]
    WrongCredentials,
    /// No such account.
    #[error("no such user")]
    NotFound,
    /// A password could not be hashed or compared.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A token could not be signed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The database failed.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => Error::EmailTaken,
            StoreError::Database(error) => Error::Database(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(Invalid(fields)) => Problem::invalid(fields),
            Error::EmailTaken => Problem::new(
                Kind::Exists,
                "email-taken",
                "there is an account with this e-mail address already",
            ),
            Error::WrongCredentials => Problem::new(
                Kind::Unauthenticated,
                "wrong-credentials",
                "the e-mail address or the password is wrong",
            ),
            Error::NotFound => Problem::new(Kind::NotFound, "not-found", "there is no such user"),
            Error::Password(PasswordError::Busy) => {
                Problem::new(Kind::Unavailable, "busy", "too many passwords are being checked; try again")
            }
            Error::Database(error) => error.into(),
            other => Problem::internal(&other),
        }
    }
}

/// The accounts.
pub struct Users {
    /// Where they are kept.
    pub store: Store,
    /// How passwords are hashed.
    pub passwords: Passwords,
    /// How tokens are made.
    pub tokens: Tokens,
}

impl Users {
    /// Makes an account for a customer.
    pub async fn register(&self, input: Registration) -> Result<User, Error> {
        let new = input.validate()?;
        let hash = self.passwords.hash(new.password).await?;
        let user = User {
            id: Uuid::now_v7(),
            email: new.email,
            name: new.name,
            role: Role::Customer,
            created: clock::now(),
        };
        self.store.insert(&user, &hash).await?;
        Ok(user)
    }

    /// Checks a password and issues a token. Takes as long for an unknown e-mail address as for a known one.
    pub async fn log_in(&self, email: &str, password: String) -> Result<Issued, Error> {
        let email = Email::parse(email).ok();
        let found = match &email {
            Some(email) => self.store.find_by_email(email).await?,
            None => None,
        };
        let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), Some(hash)));
        let matches = self.passwords.matches(password, hash).await?;
        let user = user.filter(|_| matches).ok_or(Error::WrongCredentials)?;
        Ok(self.tokens.issue(&user, clock::now())?)
    }

    /// An account.
    pub async fn get(&self, id: Uuid) -> Result<User, Error> {
        self.store.find(id).await?.ok_or(Error::NotFound)
    }

    /// Changes what is given and leaves the rest.
    pub async fn change(&self, id: Uuid, change: Change) -> Result<User, Error> {
        let change = change.validate()?;
        let hash = match change.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let changed =
            self.store.update(id, change.email.as_ref(), change.name.as_deref(), hash.as_deref()).await?;
        changed.ok_or(Error::NotFound)
    }

    /// Deletes an account.
    pub async fn delete(&self, id: Uuid) -> Result<(), Error> {
        if self.store.delete(id).await? { Ok(()) } else { Err(Error::NotFound) }
    }

    /// Checks a token: its signature, its claims, and that its user is still there.
    pub async fn validate(&self, token: &str) -> Result<Result<Claims, InvalidToken>, Error> {
        let claims = match self.tokens.verify(token) {
            Ok(claims) => claims,
            Err(reason) => return Ok(Err(reason)),
        };
        let known = self.store.find(claims.sub).await?.is_some();
        Ok(if known { Ok(claims) } else { Err(InvalidToken::UserGone) })
    }

    /// Makes the admin account, unless it is there.
    pub async fn ensure_admin(&self, admin: Option<(&str, &str)>, now: OffsetDateTime) -> Result<(), Error> {
        let Some((email, password)) = admin else { return Ok(()) };
        let input = Registration { email: email.into(), password: password.into(), name: "Admin".into() };
        let new = input.validate()?;
        if self.store.find_by_email(&new.email).await?.is_some() {
            return Ok(());
        }
        let hash = self.passwords.hash(new.password).await?;
        let user =
            User { id: Uuid::now_v7(), email: new.email, name: new.name, role: Role::Admin, created: now };
        match self.store.insert(&user, &hash).await {
            // Another instance was faster.
            Err(StoreError::EmailTaken) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => {
                info!(id = %user.id, "admin account made");
                Ok(())
            }
        }
    }
}
