//! A service's token policy, as its own proxy and the gateways before it check it.
//!
//! Issuers name their keys by resource; the keys travel beside (see `keys`).

use weft_api::v1;
use weft_api::v1::token_source::Source;
use weft_crds::microservice::{Authentication, JwtProvider, Microservice, TokenPlace, TokenSource};

use super::keys;
use crate::world::{Name, World};

/// Difference between the clocks of issuers and proxies that is borne.
const LEEWAY_MS: u64 = 30_000;

/// The token policy of a service; none where no token is looked at.
pub fn of(world: &World, workload: &Name, service: &Microservice) -> Option<v1::Authentication> {
    let authentication = service.spec.authentication.as_ref()?;
    let providers = authentication.jwt.iter().enumerate();
    Some(v1::Authentication {
        providers: providers.map(|(at, issuer)| provider(workload, at, issuer)).collect(),
        required: authentication.required,
        exempt: exempt(world, workload, authentication),
    })
}

/// What the resource says, and the key sets that the mesh reads here: whoever needs them to check tokens has none yet.
fn exempt(world: &World, workload: &Name, authentication: &Authentication) -> Vec<v1::RequestMatch> {
    let said = authentication.exempt.iter().map(|exempt| v1::RequestMatch {
        methods: exempt.methods.clone(),
        paths: exempt.paths.clone(),
        ..v1::RequestMatch::default()
    });
    said.chain(keys::request(world, workload)).collect()
}

fn provider(workload: &Name, at: usize, issuer: &JwtProvider) -> v1::JwtProvider {
    let claim_header = |(claim, header): (&String, &String)| v1::ClaimHeader {
        claim: claim.clone(),
        header: header.to_ascii_lowercase(),
    };
    v1::JwtProvider {
        issuer: issuer.issuer.clone(),
        audiences: issuer.audiences.clone(),
        keys: keys::name(workload, at, &issuer.jwks),
        from: issuer.from.iter().filter_map(TokenSource::place).map(place).collect(),
        claim_headers: issuer.claim_headers.iter().map(claim_header).collect(),
        forward_token: issuer.forward_token,
        leeway_ms: LEEWAY_MS,
    }
}

fn place(place: TokenPlace<'_>) -> v1::TokenSource {
    let source = match place {
        TokenPlace::Header { name, prefix } => {
            Source::Header(v1::HeaderSource { name: name.to_ascii_lowercase(), prefix: prefix.to_owned() })
        }
        TokenPlace::Cookie(name) => Source::Cookie(name.to_owned()),
        TokenPlace::Query(name) => Source::Query(name.to_owned()),
    };
    v1::TokenSource { source: Some(source) }
}
