//! The authority written down: PEM text of certificates and keys in any order, with lines beginning with `weft:` before
//! them that say what each is. PEM readers pass over such lines (RFC 7468, section 2), and text without them is read
//! too: then every certificate is a root, and the first one that has its key signs.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weft_api::tls;
use weft_crds::defaults;

use super::root::{Root, Stage, fits};
use super::{CLOCK_SKEW, Ca, CaError, Lives, seconds};

const MARK: &str = "weft:";

impl Ca {
    /// An authority from what [`Ca::to_pem`] gave.
    pub fn from_pem(trust_domain: &str, pem: &str) -> Result<Self, CaError> {
        let (mut keys, mut read) = (Vec::new(), Vec::<Read<'_>>::new());
        for block in blocks(pem) {
            match block.parse()? {
                Item::Key(key) => keys.push(key),
                Item::Chain(certificate) => {
                    read.last_mut().ok_or(CaError::NoRoot)?.chain.push(certificate);
                }
                Item::Root(certificate) => read.push(Read { mark: block.mark, certificate, chain: vec![] }),
                Item::Other => {}
            }
        }
        let roots = read.into_iter().map(|root| root.with_key(&mut keys));
        let roots = roots.collect::<Result<Vec<_>, _>>()?;
        if !keys.is_empty() {
            return Err(CaError::StrayKey);
        }
        let head = head(pem);
        let longest = head.number("longest").and_then(|seconds| u64::try_from(seconds).ok());
        let lives = Lives {
            longest: Duration::from_secs(longest.unwrap_or_default()),
            longer_until: head.number("longer-until").unwrap_or_default(),
        };
        let rotated = head.value("rotated").unwrap_or_default().to_owned();
        let changed = head.number("changed").unwrap_or_default();
        let mut ca = Self { trust_domain: trust_domain.to_owned(), roots, lives, rotated, changed };
        ca.put_signer_first()?;
        Ok(ca)
    }

    /// The signer is the one marked so, else the first that can sign.
    fn put_signer_first(&mut self) -> Result<(), CaError> {
        let can = |root: &Root| root.signer.is_some();
        let marked = self.roots.iter().position(|root| can(root) && root.stage == Stage::Signs);
        let signs = marked.or_else(|| self.roots.iter().position(can)).ok_or(CaError::NoRoot)?;
        let mut signer = self.roots.remove(signs);
        signer.stage = Stage::Signs;
        self.roots.insert(0, signer);
        for root in self.roots.iter_mut().skip(1) {
            if root.signer.is_some() && matches!(root.stage, Stage::Signs | Stage::Trusted) {
                let since = root.not_before + seconds(CLOCK_SKEW);
                let wait = seconds(defaults::CERTIFICATE_LIFETIME.get() + CLOCK_SKEW);
                root.stage = Stage::Joins { since, signs_from: since + wait };
            }
        }
        Ok(())
    }

    /// All roots with their keys, and all that is to be remembered. A secret.
    pub fn to_pem(&self) -> String {
        let Lives { longest, longer_until } = self.lives;
        let mut pem = format!(
            "{MARK} authority trust-domain={} changed={} longest={} longer-until={longer_until}",
            self.trust_domain,
            self.changed,
            longest.as_secs(),
        );
        if !self.rotated.is_empty() {
            pem = pem + " rotated=" + &self.rotated;
        }
        pem.push('\n');
        for root in &self.roots {
            pem = pem + &mark(root) + &certificate_pem(&root.certificate);
            let Some(signer) = &root.signer else { continue };
            for certificate in &signer.chain {
                pem = pem + MARK + " chain\n" + &certificate_pem(certificate);
            }
            pem += &key_pem(&signer.key);
        }
        pem
    }
}

/// The trust domain of an authority written down: what it says itself, else what its first root names as its one URI
/// (X509-SVID, section 4.1).
pub fn trust_domain_of(pem: &str) -> Option<String> {
    let root = || CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok();
    let said = head(pem).value("trust-domain").map(str::to_owned);
    said.or_else(|| root().as_ref().and_then(tls::trust_domain))
}

/// A certificate as PEM.
pub(super) fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    block("CERTIFICATE", certificate)
}

fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    block(label, key.secret_der())
}

fn block(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem + "\n-----END " + label + "-----\n"
}

fn mark(root: &Root) -> String {
    let mut mark = match root.stage {
        Stage::Signs => format!("{MARK} root stage=signs"),
        Stage::Joins { since, signs_from } => {
            format!("{MARK} root stage=joins since={since} signs-from={signs_from}")
        }
        Stage::Retires { until } => format!("{MARK} root stage=retires until={until}"),
        Stage::Trusted => format!("{MARK} root stage=trusted"),
    };
    if root.signer.as_ref().is_some_and(|signer| signer.brought) {
        mark += " brought";
    }
    mark.push('\n');
    mark
}

/// A root as it is read, before its key is found.
struct Read<'a> {
    mark: Mark<'a>,
    certificate: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
}

impl Read<'_> {
    /// Takes the root's key out of `keys` where it is among them.
    fn with_key(self, keys: &mut Vec<PrivateKeyDer<'static>>) -> Result<Root, CaError> {
        let key = keys.iter().position(|key| fits(key, self.chain.first().unwrap_or(&self.certificate)));
        let mut root = Root::trusted(self.certificate)?;
        root.stage = self.mark.stage();
        if let Some(key) = key {
            root.sign_with(keys.remove(key), self.chain, self.mark.has("brought"))?;
        }
        Ok(root)
    }
}

/// A line that says what follows: words, and names with values.
#[derive(Clone, Copy, Default)]
struct Mark<'a>(&'a str);

impl<'a> Mark<'a> {
    fn has(self, word: &str) -> bool {
        self.0.split_whitespace().any(|found| found == word)
    }

    fn value(self, name: &str) -> Option<&'a str> {
        let values = self.0.split_whitespace().filter_map(|word| word.split_once('='));
        values.filter(|(found, _)| *found == name).map(|(_, value)| value).next()
    }

    fn number(self, name: &str) -> Option<i64> {
        self.value(name)?.parse().ok()
    }

    fn stage(self) -> Stage {
        match (self.value("stage"), self.number("since"), self.number("signs-from"), self.number("until")) {
            (Some("signs"), ..) => Stage::Signs,
            (Some("joins"), Some(since), Some(signs_from), _) => Stage::Joins { since, signs_from },
            (Some("retires"), .., Some(until)) => Stage::Retires { until },
            _ => Stage::Trusted,
        }
    }
}

/// What is said of the authority as a whole.
fn head(pem: &str) -> Mark<'_> {
    let marks = pem.lines().filter_map(|line| line.strip_prefix(MARK)).map(Mark);
    marks.into_iter().find(|mark| mark.has("authority")).unwrap_or_default()
}

/// What a block of PEM holds.
enum Item {
    Root(CertificateDer<'static>),
    Chain(CertificateDer<'static>),
    Key(PrivateKeyDer<'static>),
    Other,
}

/// A block of PEM with the mark before it.
#[derive(Default)]
struct Block<'a> {
    mark: Mark<'a>,
    text: String,
}

impl Block<'_> {
    fn parse(&self) -> Result<Item, CaError> {
        let unreadable = |error: rustls_pki_types::pem::Error| CaError::Pem(error.to_string());
        let label = self.text.lines().next().unwrap_or_default();
        if label.contains("PRIVATE KEY") {
            return PrivateKeyDer::from_pem_slice(self.text.as_bytes()).map(Item::Key).map_err(unreadable);
        }
        if !label.contains("BEGIN CERTIFICATE-") {
            return Ok(Item::Other);
        }
        let certificate = CertificateDer::from_pem_slice(self.text.as_bytes()).map_err(unreadable)?;
        Ok(if self.mark.has("chain") { Item::Chain(certificate) } else { Item::Root(certificate) })
    }
}

fn blocks(pem: &str) -> Vec<Block<'_>> {
    let (mut all, mut block) = (Vec::new(), Block::default());
    for line in pem.lines().map(str::trim_end) {
        if block.text.is_empty() && !line.starts_with("-----BEGIN ") {
            block.mark = line.strip_prefix(MARK).map_or(block.mark, Mark);
            continue;
        }
        block.text = block.text + line + "\n";
        if line.starts_with("-----END ") {
            all.push(std::mem::take(&mut block));
        }
    }
    if !block.text.is_empty() {
        all.push(block);
    }
    all
}
