//! What a directory says is to run: its manifests and its weft.yaml, read, checked against each other and reduced to
//! what a supervisor needs. Reads files and nothing else; `weft check` uses it as much as `weft run`.

mod link;
mod together;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use weft_api::status::Problem;
use weft_crds::manifest::{self, Manifest};

use self::link::Linker;
pub(crate) use self::variables::outbound_variable;
use super::weft_yaml::{self, WeftYaml};
use crate::problem::Findings;

/// Namespace of manifests that name none, where weft.yaml names none either.
const DEFAULT_NAMESPACE: &str = "default";

/// What is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Project {
    /// The directory, absolute.
    pub(crate) directory: PathBuf,
    /// Services with an entry in weft.yaml.
    pub(crate) services: Vec<Service>,
    /// All Gateways.
    pub(crate) gateways: Vec<Gateway>,
    /// Every port of every Microservice, whether it runs here or not.
    pub(crate) destinations: BTreeSet<String>,
    /// Databases of the private PostgreSQL; none: no server.
    pub(crate) databases: Option<Vec<String>>,
    /// A private Redis.
    pub(crate) redis: bool,
}

/// A service that runs here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Name before the number in the names of its instances.
    pub(crate) prefix: String,
    /// Service account, which is its identity.
    pub(crate) account: String,
    /// Ports: name and what the application is asked to listen on.
    pub(crate) ports: Vec<(String, u16)>,
    /// How its health is asked.
    pub(crate) health: Health,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Environment, not yet filled in.
    pub(crate) env: BTreeMap<String, String>,
    /// Where it runs.
    pub(crate) directory: PathBuf,
    /// How many.
    pub(crate) instances: u32,
}

/// How the health of a service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// `GET path` on a port, by name.
    Http {
        /// Name of the port.
        port: String,
        /// Path.
        path: String,
    },
    /// It accepts connections on a port, by name.
    Tcp {
        /// Name of the port.
        port: String,
    },
}

/// A gateway.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gateway {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// Name before the number in the name of its instance.
    pub(crate) prefix: String,
    /// Address of its listeners, where weft.yaml says one.
    pub(crate) address: Option<IpAddr>,
    /// Its listeners.
    pub(crate) listeners: Vec<Listener>,
    /// Secrets to make, by name, and the host names in their certificates.
    pub(crate) certificates: BTreeMap<String, Vec<String>>,
}

/// One listener of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Name.
    pub(crate) name: String,
    /// Port.
    pub(crate) port: u16,
    /// `http`, `https`, `tcp`.
    pub(crate) scheme: &'static str,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    /// What is to run; to be used only where there are no errors.
    pub(crate) project: Project,
    /// What was found wrong.
    pub(crate) findings: Findings,
    /// Objects in the manifests.
    pub(crate) objects: usize,
}

/// Reads a directory.
pub(crate) fn load(directory: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    let files = match yaml_files(directory) {
        Ok(files) => files,
        Err(error) => {
            loaded.findings.errors.push(unreadable(directory, &error));
            return loaded;
        }
    };
    let (settings, manifests): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_settings(path));
    let mut objects = read_manifests(&manifests, &mut loaded.findings);
    loaded.objects = objects.len();
    let weft_yaml = settings.first().cloned().unwrap_or_else(|| directory.join(weft_yaml::FILE_NAME));
    let file = settings.first().map(|path| read_settings(path, &mut loaded.findings)).unwrap_or_default();
    let namespace = file.namespace.as_ref().map_or(DEFAULT_NAMESPACE, |name| name.value.as_str());
    for manifest in &mut objects {
        manifest.object.default_namespace(namespace);
    }
    let mut linker = Linker { file: &weft_yaml, yaml: &file, findings: &mut loaded.findings };
    loaded.project = linker.link(directory, namespace, &objects);
    together::check(&objects, &loaded.project.gateways, &mut loaded.findings);
    loaded
}

/// Whether a path is a weft.yaml.
pub(crate) fn is_settings(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == weft_yaml::FILE_NAME || name == "weft.yml")
}

/// Manifests and weft.yaml of a directory, in order of name. Folders in it are not looked into, as `kubectl apply -f`.
pub(crate) fn yaml_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if yaml && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads manifests; what is wrong with them goes to the findings.
pub(crate) fn read_manifests(files: &[PathBuf], findings: &mut Findings) -> Vec<Manifest> {
    let mut objects = Vec::new();
    for path in files {
        match fs::read_to_string(path) {
            Ok(text) => {
                let parsed = manifest::parse(&path.display().to_string(), &text);
                for problem in parsed.problems {
                    findings.add_manifest(problem);
                }
                objects.extend(parsed.manifests);
            }
            Err(error) => findings.errors.push(unreadable(path, &error)),
        }
    }
    objects
}

/// Reads a weft.yaml; what is wrong with it goes to the findings.
pub(crate) fn read_settings(path: &Path, findings: &mut Findings) -> WeftYaml {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            findings.errors.push(unreadable(path, &error));
            return WeftYaml::default();
        }
    };
    weft_yaml::parse(&text).unwrap_or_else(|faults| {
        findings.add_faults(path, faults);
        WeftYaml::default()
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    Problem {
        file: path.display().to_string(),
        message: format!("cannot be read: {error}"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
