//! What the suite is told: flags and variables, all with defaults, so that `make e2e` and a person say only what they
//! want otherwise. The cluster is that of KUBECONFIG.

use std::path::PathBuf;

use clap::Parser;

/// What the suite is told.
#[derive(Clone, Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags are what it holds")]
#[command(name = "kind")]
pub struct Settings {
    /// Run only tests whose name contains one of these. The installation then stays.
    pub filters: Vec<String>,
    /// Only print the names of the tests.
    #[arg(long)]
    pub list: bool,
    /// Leave the tests' namespaces and the installation as they are in the end.
    #[arg(long, env = "WEFT_E2E_KEEP")]
    pub keep: bool,
    /// Do not install anything: test what is there.
    #[arg(long)]
    pub as_is: bool,
    /// Tests at once, where they do not disturb each other.
    #[arg(long, env = "WEFT_E2E_JOBS", default_value_t = 4)]
    pub jobs: usize,
    /// Folder for what is collected when a test fails.
    #[arg(long, env = "WEFT_E2E_OUT", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/e2e-kind"))]
    pub out: PathBuf,
    /// Folder of the repository.
    #[arg(long, env = "WEFT_E2E_ROOT", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))]
    pub root: PathBuf,
    /// The `weft` command.
    #[arg(long, env = "WEFT", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/weft"))]
    pub weft: PathBuf,
    /// Registry with a slash behind it, before the names of the images. Empty: the images are on the nodes.
    #[arg(long, env = "WEFT_E2E_REGISTRY", default_value = "")]
    pub registry: String,
    /// Accepted so that `cargo test -- --nocapture` works; output is never held back.
    #[arg(long, hide = true)]
    pub nocapture: bool,
}

impl Settings {
    /// Full name of one of the images that are made with the product.
    pub fn image(&self, name: &str) -> String {
        format!("{}{name}:{}", self.registry, env!("CARGO_PKG_VERSION"))
    }

    /// Whether a test of this name is to run.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}
