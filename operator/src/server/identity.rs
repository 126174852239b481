//! `Identity.Sign`: proves who asks, then has the authority sign. Needs no client certificate, since it is where
//! proxies get theirs. What is asked for is never taken from the certificate request itself.

mod refusals;

use std::sync::Arc;

use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};
use weft_api::spiffe::SpiffeId;
use weft_api::v1::identity_server::Identity;
use weft_api::v1::{SignRequest, SignResponse};

use self::refusals::Refusals;
use crate::attest::{Attest, AttestError};
use crate::authority::{Authority, AuthorityError};
use crate::clock::unix_now;
use crate::metrics::Metrics;

/// A P-256 request is about 300 bytes.
const MAX_CSR: usize = 16 << 10;
/// A ServiceAccount token is about 1 KiB.
const MAX_TOKEN: usize = 16 << 10;
/// Not the asker's fault: an error of its own in the log, and no refusal in the metric.
const INTERNAL: &str = "internal";

/// The identity service.
#[derive(Clone, Debug)]
pub(crate) struct IdentityService {
    attest: Attest,
    authority: Arc<Authority>,
    metrics: Arc<Metrics>,
    refusals: Arc<Refusals>,
}

/// A refusal: the reason's label in the metric, and the answer.
type Refused = (&'static str, Status);

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let asked = request.into_inner();
        let signed = self.answer(&asked).await;
        signed.map(Response::new).map_err(|(reason, status)| self.refused(&asked, reason, status))
    }
}

impl IdentityService {
    pub(crate) fn new(attest: Attest, authority: Arc<Authority>, metrics: Arc<Metrics>) -> Self {
        Self { attest, authority, metrics, refusals: Arc::default() }
    }

    async fn answer(&self, asked: &SignRequest) -> Result<SignResponse, Refused> {
        let SignRequest { csr, workload, token } = asked;
        if csr.len() > MAX_CSR || token.len() > MAX_TOKEN {
            return Err(("too-large", Status::invalid_argument("request or token is too large")));
        }
        let workload = self.attest.check(token, workload).await.map_err(|error| not_attested(&error))?;
        let id = SpiffeId::new(&self.authority.trust_domain(), &workload.namespace, &workload.account)
            .map_err(|error| ("workload", Status::invalid_argument(error.to_string())))?;
        let (signed, roots) =
            self.authority.sign(csr, &id, unix_now()).map_err(|error| not_signed(&id, &error))?;
        self.metrics.certificates_issued.inc();
        info!(%id, pod = workload.pod, not_after = signed.not_after, "certificate issued");
        Ok(SignResponse {
            chain: signed.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            roots: roots.certificates.iter().map(|root| root.to_vec()).collect(),
            not_after: signed.not_after,
            not_before: signed.not_before,
            renew_at: signed.renew_at,
            roots_number: roots.number,
        })
    }

    fn refused(&self, asked: &SignRequest, reason: &str, status: Status) -> Status {
        if reason == INTERNAL {
            return status;
        }
        let message = status.message();
        self.metrics.sign_refused.with_label_values(&[reason]).inc();
        if self.refusals.warns(&asked.workload, &asked.token, Instant::now()) {
            warn!(reason, message, "certificate refused; if it is again within a minute, only debug says so");
        } else {
            debug!(reason, message, "certificate refused");
        }
        status
    }
}

fn not_attested(error: &AttestError) -> Refused {
    match error {
        AttestError::Token | AttestError::NotAuthenticated(_) => {
            ("token", Status::unauthenticated(error.to_string()))
        }
        AttestError::Unavailable(_) => ("unavailable", Status::unavailable(error.to_string())),
        AttestError::Workload { .. } => ("workload", Status::permission_denied(error.to_string())),
    }
}

fn not_signed(id: &SpiffeId, error: &AuthorityError) -> Refused {
    match error {
        AuthorityError::Ca(cause) if cause.is_request() => {
            ("request", Status::invalid_argument(cause.to_string()))
        }
        _ => {
            tracing::error!(%id, error = error as &dyn std::error::Error, "certificate not signed");
            (INTERNAL, Status::internal("the authority cannot sign; see the operator's log"))
        }
    }
}
