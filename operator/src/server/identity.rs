//! `Identity.Sign`: proves who asks, then has the authority sign. Needs no client certificate, since it is where
//! proxies get theirs. What is asked for is never taken from the certificate request itself.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tracing::{info, warn};
use weft_api::spiffe::SpiffeId;
use weft_api::v1::identity_server::Identity;
use weft_api::v1::{SignRequest, SignResponse};

use crate::attest::{Attest, AttestError};
use crate::authority::{Authority, AuthorityError};
use crate::clock::unix_now;
use crate::metrics::Metrics;

/// A P-256 request is about 300 bytes.
const MAX_CSR: usize = 16 << 10;
/// A ServiceAccount token is about 1 KiB.
const MAX_TOKEN: usize = 16 << 10;

/// The identity service.
#[derive(Clone, Debug)]
pub(crate) struct IdentityService {
    pub(crate) attest: Attest,
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let SignRequest { csr, workload, token } = request.into_inner();
        if csr.len() > MAX_CSR || token.len() > MAX_TOKEN {
            return Err(self.refused("too-large", Status::invalid_argument("request or token is too large")));
        }
        let workload =
            self.attest.check(&token, &workload).await.map_err(|error| self.not_attested(&error))?;
        let id = SpiffeId::new(&self.authority.trust_domain(), &workload.namespace, &workload.account)
            .map_err(|error| self.refused("workload", Status::invalid_argument(error.to_string())))?;
        let (signed, roots) =
            self.authority.sign(&csr, &id, unix_now()).map_err(|error| self.not_signed(&id, &error))?;
        self.metrics.certificates_issued.inc();
        info!(%id, not_after = signed.not_after, "certificate issued");
        Ok(Response::new(SignResponse {
            chain: signed.chain.iter().map(|certificate| certificate.to_vec()).collect(),
            roots: roots.iter().map(|root| root.to_vec()).collect(),
            not_after: signed.not_after,
            not_before: signed.not_before,
            renew_at: signed.renew_at,
        }))
    }
}

impl IdentityService {
    fn not_attested(&self, error: &AttestError) -> Status {
        match error {
            AttestError::Token => self.refused("token", Status::unauthenticated(error.to_string())),
            AttestError::Workload { .. } => {
                self.refused("workload", Status::permission_denied(error.to_string()))
            }
        }
    }

    fn not_signed(&self, id: &SpiffeId, error: &AuthorityError) -> Status {
        match error {
            AuthorityError::Ca(cause) if cause.is_request() => {
                self.refused("request", Status::invalid_argument(cause.to_string()))
            }
            _ => {
                tracing::error!(%id, error = error as &dyn std::error::Error, "certificate not signed");
                Status::internal("the authority cannot sign; see the operator's log")
            }
        }
    }

    fn refused(&self, reason: &str, status: Status) -> Status {
        self.metrics.sign_refused.with_label_values(&[reason]).inc();
        warn!(reason, message = status.message(), "certificate refused");
        status
    }
}
