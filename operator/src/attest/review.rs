//! Whose a ServiceAccount token is, by the word of the API server (`TokenReview`). The token must be made for Weft alone
//! (audience `weft`), so that no other service that is shown one can use it here, and the other way round. While the API
//! server is away nobody is refused: who asks is told to try again.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tracing::warn;
use weft_api::names::TOKEN_AUDIENCE;

use super::{AttestError, Workload};

/// No answer for this long is none. Proxies wait for ten seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Questions at once; more wait, since the API server has others to serve too.
const AT_ONCE: usize = 32;
/// What an API server says is told this long.
const TOLD: usize = 300;
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// Asks the API server.
#[derive(Clone)]
pub(crate) struct Review {
    reviews: Api<TokenReview>,
    room: Arc<Semaphore>,
}

impl Review {
    pub(crate) fn new(client: Client) -> Self {
        Self { reviews: Api::all(client), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Who holds this token, when that is who it says it is (`<namespace>/<service account>`).
    pub(super) async fn check(&self, token: &str, asked: &str) -> Result<Workload, AttestError> {
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.ask(token)).await;
        let late = |_| AttestError::Unavailable(format!("no answer within {} s", ANSWER_WITHIN.as_secs()));
        judge(&answer.map_err(late)??, asked)
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, AttestError> {
        let unavailable = |error: kube::Error| {
            warn!(error = &error as &dyn std::error::Error, "a token cannot be looked at");
            AttestError::Unavailable(brief(&error.to_string()))
        };
        let _permit = self.room.acquire().await.expect("the semaphore is never closed");
        let spec =
            TokenReviewSpec { audiences: Some(vec![TOKEN_AUDIENCE.into()]), token: Some(token.into()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        answer.status.ok_or_else(|| AttestError::Unavailable("it answers without a status".into()))
    }
}

impl std::fmt::Debug for Review {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Review").finish_non_exhaustive()
    }
}

fn judge(status: &TokenReviewStatus, asked: &str) -> Result<Workload, AttestError> {
    let refused = |why: &str| Err(AttestError::NotAuthenticated(why.to_owned()));
    if status.authenticated != Some(true) {
        let why = status.error.as_deref().filter(|why| !why.is_empty());
        return refused(&why.map_or_else(|| "the API server does not know it".to_owned(), brief));
    }
    // An API server that does not look at audiences names none: then the token may be for anyone.
    if !status.audiences.iter().flatten().any(|audience| audience == TOKEN_AUDIENCE) {
        return refused("it is not for the audience `weft`");
    }
    let user = status.user.as_ref();
    let name = user.and_then(|user| user.username.as_deref()).unwrap_or_default();
    let Some((namespace, account)) =
        name.strip_prefix(ACCOUNT_PREFIX).and_then(|account| account.split_once(':'))
    else {
        return refused("it is no service account's");
    };
    if asked.split_once('/') != Some((namespace, account)) {
        return Err(AttestError::Workload { asked: asked.to_owned() });
    }
    let extra = user.and_then(|user| user.extra.as_ref()).and_then(|extra| extra.get(POD_NAME));
    let pod = extra.and_then(|names| names.first()).cloned().unwrap_or_default();
    Ok(Workload { namespace: namespace.to_owned(), account: account.to_owned(), pod })
}

fn brief(text: &str) -> String {
    text.chars().take(TOLD).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What an API server of Kubernetes 1.34 says of the token of a pod's projected volume.
    fn of_pod() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["weft"],
            "user": {
                "username": "system:serviceaccount:shop:order",
                "uid": "3d4a5a2e-3a7e-4bb6-8d3e-9a3d1b4c8f00",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                "extra": {
                    "authentication.kubernetes.io/credential-id": ["JTI=3b1f5c43-6c26-4f5c-9f3c-0b1c6e1a2f10"],
                    "authentication.kubernetes.io/node-name": ["weft-worker"],
                    "authentication.kubernetes.io/pod-name": ["order-6d9f7c5b4-x2x8q"],
                    "authentication.kubernetes.io/pod-uid": ["b7f1f0f8-3a52-4f59-9d0a-1f0f6a6c2d11"],
                },
            },
        })
    }

    fn judged(status: Value, asked: &str) -> Result<Workload, AttestError> {
        judge(&serde_json::from_value(status).unwrap(), asked)
    }

    #[test]
    fn a_pods_token_opens_its_service_account_and_names_the_pod() {
        let workload = judged(of_pod(), "shop/order").unwrap();
        assert_eq!((workload.namespace.as_str(), workload.account.as_str()), ("shop", "order"));
        assert_eq!(workload.pod, "order-6d9f7c5b4-x2x8q");
        let mut of_no_pod = of_pod();
        of_no_pod["user"]["extra"] = Value::Null;
        assert_eq!(judged(of_no_pod, "shop/order").unwrap().pod, "");
    }

    #[test]
    fn another_account_is_another_workload() {
        for asked in ["shop/user", "other/order", "order", "shop/order/", "", "shop:order"] {
            let refused = Err(AttestError::Workload { asked: asked.into() });
            assert_eq!(judged(of_pod(), asked), refused, "{asked}");
        }
    }

    #[test]
    fn what_the_api_server_does_not_take_is_refused_in_its_words() {
        let words = "[invalid bearer token, token audiences [\"other\"] is invalid for the target audiences [\"weft\"]]";
        let refused = judged(json!({"user": {}, "error": words}), "shop/order").unwrap_err();
        assert!(refused.to_string().contains("target audiences"), "{refused}");
        let refused = judged(json!({"authenticated": false}), "shop/order").unwrap_err();
        assert!(refused.to_string().contains("does not know it"), "{refused}");
    }

    #[test]
    fn a_token_for_others_is_refused_even_if_it_is_authentic() {
        for audiences in [Value::Null, json!([]), json!(["https://kubernetes.default.svc"])] {
            let mut status = of_pod();
            status["audiences"] = audiences;
            assert!(matches!(judged(status, "shop/order"), Err(AttestError::NotAuthenticated(_))));
        }
    }

    #[test]
    fn who_is_no_service_account_is_refused() {
        for name in ["", "admin", "system:node:weft-worker", "system:serviceaccount:shop"] {
            let mut status = of_pod();
            status["user"]["username"] = json!(name);
            assert!(matches!(judged(status, "shop/order"), Err(AttestError::NotAuthenticated(_))), "{name}");
        }
    }
}
