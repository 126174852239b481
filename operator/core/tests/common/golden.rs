//! Golden cases of any kind: found beside a test, compared, and written anew with `UPDATE_GOLDEN=1`.

use std::fs;
use std::path::{Path, PathBuf};

/// What lies in the folder of this test and is a case, in order; `least` are there, so that none gets lost unseen.
pub(crate) fn cases(test: &str, is_case: impl Fn(&Path) -> bool, least: usize) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(test);
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_case(path))
        .collect();
    cases.sort();
    assert!(cases.len() >= least, "{} cases", cases.len());
    cases
}

/// What of the file is not as expected; nothing where it was to be written anew.
pub(crate) fn compare(path: &Path, got: &str) -> Option<String> {
    if update() {
        fs::write(path, got).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    (expected != got).then(|| format!("{}\n{}", path.display(), first_difference(&expected, got)))
}

/// Fails where something is not as expected.
pub(crate) fn all_as_expected(test: &str, wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "these differ from what is expected; look at the change, and if it is meant, run \
         `UPDATE_GOLDEN=1 cargo test --workspace --test {test}`:\n{}",
        wrong.join("\n")
    );
}

#[expect(clippy::disallowed_methods, reason = "a switch of tests, not a setting of the product")]
fn update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}

fn first_difference(expected: &str, got: &str) -> String {
    let mut lines = expected.lines().zip(got.lines()).enumerate();
    match lines.find(|(_, (expected, got))| expected != got) {
        Some((at, (expected, got))) => format!("line {}:\n- {expected}\n+ {got}", at + 1),
        None => format!("{} lines expected, {} lines got", expected.lines().count(), got.lines().count()),
    }
}
