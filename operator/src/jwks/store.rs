//! The last good key sets, in the state folder where there is one, so that a restart of the operator while an issuer is away takes no key
//! from any proxy. Keys are public; a file that cannot be read or written costs only that.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tracing::warn;
use weft_api::v1::Keys;

/// The key sets kept on disk.
#[derive(Debug)]
pub(crate) struct Store {
    path: Option<PathBuf>,
    kept: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    jwks: String,
    fetched_at: i64,
}

impl Store {
    /// What an earlier operator left in the folder; without one, nothing outlives this operator.
    pub(crate) fn open(folder: Option<&std::path::Path>) -> Self {
        let path = folder.map(|folder| folder.join("keys.json"));
        let text = path.as_ref().and_then(|path| fs::read(path).ok());
        let kept = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { path, kept: Mutex::new(kept) }
    }

    /// One key set.
    pub(crate) fn get(&self, name: &str) -> Option<Keys> {
        self.all().into_iter().find(|(known, _)| known == name).map(|(_, keys)| keys)
    }

    /// All key sets by name.
    pub(crate) fn all(&self) -> Vec<(String, Keys)> {
        let kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let keys =
            |kept: &Kept| Keys { jwks: kept.jwks.clone(), error: String::new(), fetched_at: kept.fetched_at };
        kept.iter().map(|(name, kept)| (name.clone(), keys(kept))).collect()
    }

    /// Keeps a key set; one that has not been fetched yet is not worth it.
    pub(crate) fn put(&self, name: &str, keys: &Keys) {
        if keys.jwks.is_empty() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.insert(name.to_owned(), Kept { jwks: keys.jwks.clone(), fetched_at: keys.fetched_at });
        let Some(path) = &self.path else { return };
        let beside = path.with_extension("json.new");
        let written = serde_json::to_vec(&*kept)
            .map_err(std::io::Error::other)
            .and_then(|text| fs::write(&beside, text))
            .and_then(|()| fs::rename(&beside, path));
        if let Err(error) = written {
            warn!(path = %path.display(), %error, "key sets not kept for a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_sets_come_back_after_a_restart_without_their_errors() {
        let folder = tempfile::tempdir().unwrap();
        let good = Keys { jwks: r#"{"keys":[]}"#.into(), error: "away".into(), fetched_at: 7 };
        let store = Store::open(Some(folder.path()));
        store.put("user", &good);
        store.put("never", &Keys { error: "away".into(), ..Keys::default() });
        let again = Store::open(Some(folder.path()));
        assert_eq!(again.get("user"), Some(Keys { error: String::new(), ..good }));
        assert_eq!(again.all().len(), 1);
    }

    #[test]
    fn a_broken_file_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keys.json"), "{").unwrap();
        assert!(Store::open(Some(folder.path())).all().is_empty());
    }
}
