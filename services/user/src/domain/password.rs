//! Hashing passwords with argon2id, off the threads that serve requests and only so many at once: each hash takes
//! 19 MiB and some ten milliseconds of a core, so a flood of logins must queue here, not exhaust the machine.

use std::{sync::Arc, time::Duration};

use argon2::{
    Argon2,
    password_hash::{self, PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(3);

/// Why a password could not be hashed or compared.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many others are being hashed.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The algorithm failed, or a stored hash cannot be read.
    #[error("hashing failed")]
    Hash(#[from] password_hash::Error),
    /// The thread died.
    #[error("the hashing thread ended")]
    Thread(#[from] JoinError),
}

/// Hashes passwords.
pub struct Passwords {
    permits: Arc<Semaphore>,
    patience: Duration,
    /// Compared with when there is no account, so that the answer takes as long.
    decoy: String,
}

impl Passwords {
    /// Hashes at most `at_once` passwords at once.
    pub fn new(at_once: usize) -> Result<Self, PasswordError> {
        let decoy = hash(uuid::Uuid::new_v4().as_bytes())?;
        Ok(Self { permits: Arc::new(Semaphore::new(at_once)), patience: PATIENCE, decoy })
    }

    /// The hash of a password, with its salt and parameters, as a PHC string.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        Ok(self.run(move || hash(password.as_bytes())).await??)
    }

    /// Whether the password is the one that was hashed. Without a hash it takes as long and is not.
    pub async fn matches(&self, password: String, hash: Option<String>) -> Result<bool, PasswordError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        Ok(self.run(move || matches(password.as_bytes(), &hash)).await?? && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permit = timeout(self.patience, self.permits.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or(PasswordError::Busy)?;
        let task = spawn_blocking(move || {
            // The permit goes with the work: a caller that leaves does not end it.
            let _permit = permit;
            work()
        });
        Ok(task.await?)
    }
}

fn hash(password: &[u8]) -> Result<String, password_hash::Error> {
    Ok(Argon2::default().hash_password(password)?.to_string())
}

fn matches(password: &[u8], hash: &str) -> Result<bool, password_hash::Error> {
    let hash = PasswordHash::new(hash)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_hashed_password_matches() {
        let passwords = Passwords::new(2).unwrap();
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.matches("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.matches("wrong horse".into(), Some(hash)).await.unwrap());
        assert!(!passwords.matches("correct horse".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so() {
        let passwords = Passwords { patience: Duration::from_millis(10), ..Passwords::new(1).unwrap() };
        let held = passwords.permits.clone().acquire_owned().await.unwrap();
        assert!(matches!(passwords.hash("password".into()).await, Err(PasswordError::Busy)));
        drop(held);
        assert!(passwords.hash("password".into()).await.is_ok());
    }
}
