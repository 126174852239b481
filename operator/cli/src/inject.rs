//! `weft inject [FILE…]`: manifests in, the same with a proxy in every pod out, as the webhook would give it. For those who
//! want to see it, keep it in their repository, or run without the webhook. What is no workload passes as it is written.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use weft_core::inject::{self, Outcome, Place, Template, patch};
use weft_core::world::{Change, Object, World};
use weft_crds::manifest;
use weft_crds::microservice::quantity;

use crate::settings::InjectArgs;

/// Kinds with pods, and where in them.
const WORKLOADS: [(&str, &str, &str); 8] = [
    ("v1", "Pod", ""),
    ("v1", "ReplicationController", "/spec/template"),
    ("apps/v1", "Deployment", "/spec/template"),
    ("apps/v1", "StatefulSet", "/spec/template"),
    ("apps/v1", "DaemonSet", "/spec/template"),
    ("apps/v1", "ReplicaSet", "/spec/template"),
    ("batch/v1", "Job", "/spec/template"),
    ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
];

/// Prints the manifests with proxies; nothing where one of them cannot have one.
pub(crate) fn run(args: &InjectArgs) -> anyhow::Result<ExitCode> {
    let mut documents = Vec::new();
    for path in &args.files {
        let text = read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let found = split(&text).map(|document| Document::read(path, document));
        documents.extend(found.collect::<anyhow::Result<Vec<_>>>()?);
    }
    let mut injection = Injection::new(args, &documents)?;
    let mut out = String::new();
    for document in &documents {
        injection.document(document, &mut out)?;
    }
    injection.told.iter().for_each(|line| complain(line));
    if injection.refused {
        return Ok(ExitCode::FAILURE);
    }
    // A reader that went away is no reason to fail.
    drop(std::io::stdout().lock().write_all(out.as_bytes()));
    Ok(ExitCode::SUCCESS)
}

/// A document of a file.
struct Document {
    file: String,
    /// As it is written, with the line of dashes before it.
    text: String,
    /// What it says; null where it says nothing.
    value: Value,
}

impl Document {
    fn read(path: &Path, text: String) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let value = serde_saphyr::from_str::<Option<Value>>(&text)
            .map_err(|error| anyhow::anyhow!("{file}: not readable as YAML: {}", error.without_snippet()))?;
        Ok(Self { file, text, value: value.unwrap_or_default() })
    }
}

/// What is put into pods, and what was found on the way.
struct Injection<'a> {
    args: &'a InjectArgs,
    template: Template,
    /// The Microservices among the manifests, which say whose a pod is.
    world: World,
    told: Vec<String>,
    refused: bool,
}

impl<'a> Injection<'a> {
    fn new(args: &'a InjectArgs, documents: &[Document]) -> anyhow::Result<Self> {
        let defaults = Template::default();
        let resources = args.resources.as_deref().map(serde_json::from_str).transpose();
        let resources = resources.context("--resources is not the `resources` of a container in JSON")?;
        let template = Template {
            image: args.image.clone().unwrap_or(defaults.image),
            pull_policy: args.pull_policy.clone(),
            resources: resources.unwrap_or(defaults.resources),
            log: args.log.clone(),
            ..Template::default()
        };
        let mut injection =
            Self { args, template, world: World::default(), told: Vec::new(), refused: false };
        for document in documents {
            injection.learn(&document.value);
        }
        Ok(injection)
    }

    fn learn(&mut self, value: &Value) {
        for item in items(value) {
            self.learn(item);
        }
        let mut read = manifest::examine(value).object;
        if let Some(object) = &mut read {
            object.default_namespace(&self.args.namespace);
        }
        if let Some(object @ Object::Microservice(_)) = read.and_then(Object::from_manifest) {
            self.world.apply(Change::Upsert(Box::new(object)));
        }
    }

    /// Writes a document, anew only where it was changed.
    fn document(&mut self, document: &Document, out: &mut String) -> anyhow::Result<()> {
        let mut value = document.value.clone();
        if !self.object(&document.file, &mut value)? {
            out.push_str(&document.text);
            if !document.text.ends_with('\n') && !document.text.is_empty() {
                out.push('\n');
            }
            return Ok(());
        }
        if !out.is_empty() || document.text.starts_with("---") {
            out.push_str("---\n");
        }
        let yaml = serde_saphyr::to_string(&value)?;
        writeln!(out, "{}", yaml.trim_end())?;
        Ok(())
    }

    /// Puts proxies into an object or the objects in it. Says whether anything changed.
    fn object(&mut self, file: &str, value: &mut Value) -> anyhow::Result<bool> {
        let mut changed = false;
        if is_list(value) {
            for item in value["items"].as_array_mut().into_iter().flatten() {
                changed |= self.object(file, item)?;
            }
            return Ok(changed);
        }
        let known = |(version, kind, _): &&(&str, &str, &str)| {
            value["apiVersion"] == *version && value["kind"] == *kind
        };
        let Some((_, kind, place)) = WORKLOADS.iter().find(known) else { return Ok(false) };
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or(&self.args.namespace).to_owned();
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let what = format!("{file}: {kind} {namespace}/{name}");
        let Some(template) = value.pointer_mut(place) else { return Ok(false) };
        self.pod(&what, place, &namespace, template)
    }

    fn pod(&mut self, what: &str, place: &str, namespace: &str, written: &mut Value) -> anyhow::Result<bool> {
        if !written["metadata"].is_object() {
            written["metadata"] = json!({});
        }
        let mut readable = written.clone();
        quantity::numbers_to_text(&mut readable);
        let pod: Pod =
            serde_json::from_value(readable).with_context(|| format!("{what}: pod cannot be read"))?;
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let microservice = self.world.selecting(namespace, &labels).map(|name| name.name.clone());
        let place_of_pod = Place { namespace, microservice: microservice.as_deref(), pod_security: None };
        match inject::pod(&pod, place_of_pod, &self.template) {
            Ok(Outcome { pod: injected, warnings, .. }) => {
                self.told.extend(warnings.iter().map(|warning| format!("warning: {what}: {warning}")));
                let patch = patch::between(&serde_json::to_value(&pod)?, &serde_json::to_value(&injected)?);
                json_patch::patch(written, &patch)?;
                Ok(!patch.0.is_empty())
            }
            Err(refusal) => {
                self.refused = true;
                let path = place.trim_start_matches('/').replace('/', ".");
                let path = if path.is_empty() { path } else { path + "." };
                let told = refusal.0.iter().map(|violation| format!("error: {what}: {path}{violation}"));
                self.told.extend(told);
                Ok(false)
            }
        }
    }
}

fn is_list(value: &Value) -> bool {
    value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value["items"].as_array().filter(|_| is_list(value));
    items.into_iter().flatten()
}

fn read(path: &Path) -> std::io::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// The documents of a text, each with the line of dashes before it (YAML 1.2.2, section 9.2).
fn split(text: &str) -> impl Iterator<Item = String> {
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let is_separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.trim_end() == "" || rest.starts_with([' ', '\t']));
        if is_separator && documents.last().is_some_and(|document| !document.is_empty()) {
            documents.push(String::new());
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(line);
        }
    }
    documents.into_iter()
}

/// One line on stderr, since stdout is what `kubectl` reads.
#[expect(clippy::print_stderr, reason = "stdout is for the manifests")]
fn complain(line: &str) {
    eprintln!("{line}");
}
