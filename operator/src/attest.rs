//! Who asks for a certificate? Standalone ([`Attest::Static`]) each instance has a join token, given to its proxy by
//! whoever started it; only the token's hash is known here. In a cluster ([`Attest::Review`]) the API server says whose a
//! ServiceAccount token is.

pub(crate) mod review;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use self::review::Review;

/// A token that has just been handed out may not have been read yet: how long to wait for it.
const TOKEN_ARRIVES_WITHIN: Duration = Duration::from_millis(500);

/// The way to prove who asks.
#[derive(Clone, Debug)]
pub(crate) enum Attest {
    /// By join tokens.
    Static(watch::Receiver<JoinTokens>),
    /// By tokens of service accounts, which the API server looks at.
    Review(Box<Review>),
}

/// All join tokens in force.
pub(crate) type JoinTokens = Arc<[JoinToken]>;

/// The hash of a join token, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinToken {
    sha256: [u8; 32],
    workload: Workload,
}

/// Who asks: what an identity is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) account: String,
    /// The pod that asks, for people; empty where it is not known.
    pub(crate) pod: String,
}

/// Why a certificate is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttestError {
    /// No such token.
    #[error("the token is not valid")]
    Token,
    /// The API server does not take the token.
    #[error("the token is not valid: {0}")]
    NotAuthenticated(String),
    /// Nobody can say whose the token is now; asking again later may help.
    #[error("the API server cannot say whose the token is: {0}")]
    Unavailable(String),
    /// The token is another workload's.
    #[error("the token is not one of {asked}")]
    Workload {
        /// The workload asked for.
        asked: String,
    },
}

impl JoinToken {
    /// A token by its hash in lower-case hex; none when the text is not such a hash.
    pub(crate) fn from_hex(sha256: &str, namespace: &str, account: &str) -> Option<Self> {
        let pod = String::new();
        let workload = Workload { namespace: namespace.to_owned(), account: account.to_owned(), pod };
        Some(Self { sha256: unhex(sha256)?, workload })
    }
}

impl Attest {
    /// Who holds this token, when that is who it says it is (`<namespace>/<service account>`).
    pub(crate) async fn check(&self, token: &str, asked: &str) -> Result<Workload, AttestError> {
        match self {
            Self::Static(tokens) => {
                let sha256: [u8; 32] = Sha256::digest(token).into();
                let workload = holder(tokens.clone(), &sha256).await.ok_or(AttestError::Token)?;
                let is_asked = asked.split_once('/') == Some((&*workload.namespace, &*workload.account));
                if is_asked { Ok(workload) } else { Err(AttestError::Workload { asked: asked.to_owned() }) }
            }
            Self::Review(review) => review.check(token, asked).await,
        }
    }
}

async fn holder(mut tokens: watch::Receiver<JoinTokens>, sha256: &[u8; 32]) -> Option<Workload> {
    let arrives = tokens.wait_for(|tokens| find(tokens, sha256).is_some());
    let tokens = tokio::time::timeout(TOKEN_ARRIVES_WITHIN, arrives).await.ok()?.ok()?;
    find(&tokens, sha256)
}

/// Compares with every token, and every byte of each, so that the time taken says nothing.
fn find(tokens: &[JoinToken], sha256: &[u8; 32]) -> Option<Workload> {
    let mut found = None;
    for token in tokens {
        let difference = token.sha256.iter().zip(sha256).fold(0, |all, (ours, theirs)| all | (ours ^ theirs));
        if std::hint::black_box(difference) == 0 {
            found = Some(&token.workload);
        }
    }
    found.cloned()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != bytes.len() * 2 {
        return None;
    }
    let digit = |at: usize| text.as_bytes().get(at).and_then(|c| char::from(*c).to_digit(16));
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(digit(at * 2)? * 16 + digit(at * 2 + 1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(token: &str) -> String {
        let digits = Sha256::digest(token).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
    }

    fn tokens(all: &[(&str, &str, &str)]) -> JoinTokens {
        let token = |(token, ns, account): &(&str, &str, &str)| JoinToken::from_hex(&hex(token), ns, account);
        all.iter().filter_map(token).collect()
    }

    #[tokio::test]
    async fn a_token_opens_its_own_workload_only() {
        let (_keep, known) = watch::channel(tokens(&[("t1", "shop", "order"), ("t2", "shop", "user")]));
        let attest = Attest::Static(known);
        assert_eq!(attest.check("t2", "shop/user").await.unwrap().account, "user");
        assert_eq!(
            attest.check("t2", "shop/order").await,
            Err(AttestError::Workload { asked: "shop/order".into() })
        );
        for token in ["", "t3", &hex("t1")] {
            assert_eq!(attest.check(token, "shop/order").await, Err(AttestError::Token));
        }
    }

    #[tokio::test]
    async fn a_token_that_arrives_a_moment_later_is_good() {
        let (say, known) = watch::channel(tokens(&[]));
        let attest = Attest::Static(known);
        let (checked, ()) = tokio::join!(attest.check("t1", "shop/order"), async {
            tokio::task::yield_now().await;
            say.send_replace(tokens(&[("t1", "shop", "order")]));
        });
        assert_eq!(checked.unwrap().account, "order");
    }

    #[test]
    fn what_is_not_a_hash_is_no_token() {
        for text in ["", "12", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(JoinToken::from_hex(text, "shop", "order"), None, "{text}");
        }
    }
}
