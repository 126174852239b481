//! The certificates of a run: an authority, one for each hop of the rivals, and the one that every path shows at the edge.
//! ECDSA P-256, as Weft's own.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;

use crate::client::HOST;
use crate::rivals::{CLIENT_NAME, SERVER_NAME};

/// Writes them as `NAME.crt`, `NAME.key` and both as `NAME.pem`; gives what a client trusts.
pub(crate) fn write(dir: &Path) -> Result<Arc<RootCertStore>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(dir.join("ca.crt"), ca.pem())?;
    for (file, name) in [("server", SERVER_NAME), ("client", CLIENT_NAME), ("edge", HOST)] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        // Issuer and subject of one name would be taken for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &ca)?.pem();
        std::fs::write(dir.join(format!("{file}.crt")), &certificate)?;
        std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
        std::fs::write(dir.join(format!("{file}.pem")), certificate + &key.serialize_pem())?;
    }
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    Ok(Arc::new(roots))
}
