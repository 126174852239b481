//! Certificates for TLS listeners of gateways, made here where weft.yaml says `selfSigned`: a Secret as a manifest in
//! the state folder, which the operator reads beside those of the directory, and the certificate alone for
//! `curl --cacert`. The key is in that Secret only, readable by its owner only.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use time::{Duration, OffsetDateTime};
use weft_api::names::GENERATED_FOLDER;

use crate::state::{State, write_whole};

/// A certificate is valid for this long.
const LIFE: Duration = Duration::days(365);
/// One that ends sooner than this is made anew.
const SPARE: Duration = Duration::days(30);

/// Makes the Secret `namespace/name` for these hosts, unless a fitting one is there. Returns the certificate's file.
pub(crate) fn ensure(state: &State, secret: (&str, &str), hosts: &[String], now: i64) -> Result<PathBuf> {
    let (namespace, name) = secret;
    let manifest = state.path(GENERATED_FOLDER).join(format!("{namespace}.{name}.yaml"));
    let certificate = manifest.with_extension("crt");
    let now = OffsetDateTime::from_unix_timestamp(now).context("the clock is off")?;
    if fits(&manifest, hosts, now) && certificate.is_file() {
        return Ok(certificate);
    }
    let until = now + LIFE;
    let (chain, key) = make(hosts, now, until)?;
    let encode = |pem: &str| STANDARD.encode(pem);
    let text = format!(
        "{}apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         data:\n  tls.crt: {}\n  tls.key: {}\n",
        header(hosts, until),
        encode(&chain),
        encode(&key)
    );
    write_whole(&certificate, chain.as_bytes(), 0o644)?;
    write_whole(&manifest, text.as_bytes(), 0o600)?;
    Ok(certificate)
}

/// A Secret as [`ensure`] will make it, to check manifests that name it before it is there.
pub(crate) fn sample((namespace, name): (&str, &str), hosts: &[String]) -> Result<Secret> {
    let (chain, key) = make(hosts, OffsetDateTime::UNIX_EPOCH + LIFE, OffsetDateTime::UNIX_EPOCH + LIFE * 2)?;
    let data = [("tls.crt", chain), ("tls.key", key)];
    let data = data.map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes())));
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    Ok(Secret {
        metadata,
        data: Some(data.into()),
        type_: Some("kubernetes.io/tls".into()),
        ..Secret::default()
    })
}

/// First line of the manifest: what it is for and until when, so that it is made anew in time.
fn header(hosts: &[String], until: OffsetDateTime) -> String {
    format!("# Made by `weft run` for {} until {}\n", hosts.join(" "), until.unix_timestamp())
}

fn fits(manifest: &std::path::Path, hosts: &[String], now: OffsetDateTime) -> bool {
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let until = first.rsplit(' ').next().and_then(|end| end.parse::<i64>().ok());
    let until = until.and_then(|end| OffsetDateTime::from_unix_timestamp(end).ok());
    until.is_some_and(|until| until > now + SPARE && header(hosts, until).trim_end() == first)
}

fn make(hosts: &[String], now: OffsetDateTime, until: OffsetDateTime) -> Result<(String, String)> {
    let mut params = CertificateParams::new(hosts.to_vec()).context("`selfSigned` holds no host names")?;
    params.not_before = now - Duration::hours(1);
    params.not_after = until;
    params.distinguished_name.push(DnType::CommonName, hosts.first().map_or("weft", String::as_str));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_again_when_it_does_not_fit_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::create(dir.path()).unwrap();
        let manifest = state.path(GENERATED_FOLDER).join("shop.public-tls.yaml");
        let make = |hosts: &[&str], now: i64| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            ensure(&state, ("shop", "public-tls"), &hosts, now).unwrap();
            fs::read_to_string(&manifest).unwrap()
        };
        let start = 1_800_000_000;
        let first = make(&["localhost"], start);
        assert_eq!(make(&["localhost"], start + 86_400), first);
        let other_hosts = make(&["localhost", "shop.test"], start + 86_400);
        assert_ne!(other_hosts, first);
        assert_ne!(make(&["localhost", "shop.test"], start + 350 * 86_400), other_hosts);
    }
}
