//! From files to what is handed over: all objects, checked each by itself and all together, or everything that is
//! wrong with them. Pure: reading is done before.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weft_api::status::Problem;
use weft_core::instances::Instances;
use weft_core::validate;
use weft_core::world::{Change, Object, ObjectRef, World};
use weft_crds::field_path::FieldPath;
use weft_crds::manifest::{self, Manifest};

use crate::source::{Loaded, Part, Sourced};

/// Namespace of manifests that name none, where `weft.yaml` names none either.
const DEFAULT_NAMESPACE: &str = "default";

/// A file of the directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// It says what runs (`weft.yaml`) and holds no manifests.
    pub(super) says_what_runs: bool,
    /// Its text, or why there is none.
    pub(super) text: Result<String, String>,
}

/// All objects in the files, or all that is wrong with them; and what is not wrong but worth a word.
pub(super) fn objects(folder: &Path, files: &Result<Vec<File>, String>) -> (Loaded, Vec<String>) {
    let mut warnings = Vec::new();
    let loaded = match files {
        Ok(files) if files.iter().all(|file| file.says_what_runs) => {
            let remedy = "write *.yaml files with resources into it, or name another directory";
            Err(vec![whole_file(folder, "holds no manifests", remedy)])
        }
        Ok(files) => parse(files, &mut warnings).and_then(|objects| check(objects, files, &mut warnings)),
        Err(why) => Err(vec![whole_file(folder, why, "")]),
    };
    let loaded = match loaded {
        Ok(objects) => Loaded::Objects(objects),
        Err(problems) => Loaded::Problems(Part::Objects, problems),
    };
    (loaded, warnings)
}

/// All instances in the file, or what is wrong with it.
pub(super) fn instances(path: &Path, text: &Result<Option<String>, String>, had_instances: bool) -> Loaded {
    let refuse = |problem| Loaded::Problems(Part::Instances, vec![problem]);
    let text = match text {
        Ok(Some(text)) => text,
        Ok(None) if had_instances => {
            return refuse(whole_file(path, "is gone; the last known instances are kept", ""));
        }
        Ok(None) => return Loaded::Instances(Vec::new()),
        Err(why) => return refuse(whole_file(path, why, "")),
    };
    match serde_json::from_str::<Instances>(text) {
        Ok(all) => Loaded::Instances(all.instances),
        Err(error) => refuse(Problem {
            line: u32::try_from(error.line()).unwrap_or_default(),
            column: u32::try_from(error.column()).unwrap_or_default(),
            ..whole_file(path, &error.to_string(), "")
        }),
    }
}

fn parse(files: &[File], warnings: &mut Vec<String>) -> Result<Vec<Sourced>, Vec<Problem>> {
    let namespace = default_namespace(files).map_err(|problem| vec![*problem])?;
    let mut problems = Vec::new();
    let mut objects = Vec::new();
    for file in files.iter().filter(|file| !file.says_what_runs) {
        let text = match &file.text {
            Ok(text) => text,
            Err(why) => {
                problems.push(whole_file(&file.path, why, ""));
                continue;
            }
        };
        let parsed = manifest::parse(&file.path.to_string_lossy(), text);
        warnings.extend(parsed.warnings().map(ToString::to_string));
        problems.extend(parsed.errors().map(of_manifest));
        objects.extend(parsed.manifests.into_iter().filter_map(|manifest| sourced(manifest, &namespace)));
    }
    problems.extend(duplicates(&objects));
    if problems.is_empty() { Ok(objects) } else { Err(problems) }
}

/// What is wrong only with all objects together.
fn check(
    objects: Vec<Sourced>,
    files: &[File],
    warnings: &mut Vec<String>,
) -> Result<Vec<Sourced>, Vec<Problem>> {
    let mut world = World::default();
    let mut places = HashMap::new();
    for sourced in &objects {
        world.apply(Change::Upsert(Box::new(sourced.object.clone())));
        places.insert(sourced.object.reference(), sourced);
    }
    let place = |found: &validate::Problem| of_world(found, places.get(&found.object).copied(), files);
    let is_error = |found: &validate::Problem| found.severity == validate::Severity::Error;
    let (errors, others): (Vec<_>, Vec<_>) = validate::world(&world).into_iter().partition(is_error);
    warnings.extend(others.iter().map(|warning| place(warning).to_string()));
    let problems: Vec<Problem> = errors.iter().map(place).collect();
    if problems.is_empty() { Ok(objects) } else { Err(problems) }
}

fn of_manifest(problem: &manifest::Problem) -> Problem {
    Problem {
        file: problem.file.clone(),
        line: u32::try_from(problem.at.line).unwrap_or_default(),
        column: u32::try_from(problem.at.column).unwrap_or_default(),
        resource: problem.object.as_ref().map(ToString::to_string).unwrap_or_default(),
        field: problem.field.to_string(),
        message: problem.message.clone(),
        remedy: problem.remedy.clone(),
    }
}

/// The field's place is looked up in the text again.
fn of_world(found: &validate::Problem, sourced: Option<&Sourced>, files: &[File]) -> Problem {
    let file = sourced.map(|sourced| sourced.file.clone()).unwrap_or_default();
    let line = sourced.map(|sourced| sourced.line).unwrap_or_default();
    let text = files.iter().find(|known| known.path.to_string_lossy() == file);
    let text = text.and_then(|known| known.text.as_deref().ok()).unwrap_or_default();
    let at = manifest::locate(text, line.into(), &FieldPath::parse(&found.field));
    Problem {
        file,
        line: at.map_or(line, |at| u32::try_from(at.line).unwrap_or_default()),
        column: at.map(|at| u32::try_from(at.column).unwrap_or_default()).unwrap_or_default(),
        resource: found.object.to_string(),
        field: found.field.clone(),
        message: found.message.clone(),
        remedy: found.remedy.clone(),
    }
}

/// The namespace that the run file gives the manifests beside it. What else is in it is not for the operator; but a
/// run file that cannot be read must not move every object to another namespace.
fn default_namespace(files: &[File]) -> Result<String, Box<Problem>> {
    #[derive(Deserialize)]
    struct Run {
        namespace: Option<String>,
    }
    let Some(file) = files.iter().find(|file| file.says_what_runs) else {
        return Ok(DEFAULT_NAMESPACE.into());
    };
    let text = file.text.as_ref().map_err(|why| whole_file(&file.path, why, ""))?;
    match serde_saphyr::from_str::<Option<Run>>(text) {
        Ok(run) => Ok(run.and_then(|run| run.namespace).unwrap_or_else(|| DEFAULT_NAMESPACE.into())),
        Err(error) => {
            let error = error.without_snippet();
            let at = |part: fn(&serde_saphyr::Location) -> u64| {
                error
                    .location()
                    .map(|location| u32::try_from(part(&location)).unwrap_or_default())
                    .unwrap_or_default()
            };
            Err(Box::new(Problem {
                line: at(serde_saphyr::Location::line),
                column: at(serde_saphyr::Location::column),
                ..whole_file(&file.path, &error.to_string(), "correct the YAML here or just before")
            }))
        }
    }
}

fn sourced(manifest: Manifest, namespace: &str) -> Option<Sourced> {
    let Manifest { mut object, source } = manifest;
    object.default_namespace(namespace);
    let object = match object {
        manifest::Object::Microservice(object) => Object::Microservice(*object),
        manifest::Object::Mesh(object) => Object::Mesh(*object),
        manifest::Object::Gateway(object) => Object::Gateway(*object),
        manifest::Object::HttpRoute(object) => Object::HttpRoute(*object),
        manifest::Object::GrpcRoute(object) => Object::GrpcRoute(*object),
        manifest::Object::TlsRoute(object) => Object::TlsRoute(*object),
        manifest::Object::ReferenceGrant(object) => Object::ReferenceGrant(*object),
        manifest::Object::Secret(object) => Object::Secret(*object),
        manifest::Object::Service(object) => Object::Service(*object),
        // They mean something to a cluster only.
        manifest::Object::GatewayClass(_) | manifest::Object::Namespace(_) | manifest::Object::Unknown(_) => {
            return None;
        }
    };
    Some(Sourced { object, file: source.file, line: u32::try_from(source.line).unwrap_or_default() })
}

fn duplicates(objects: &[Sourced]) -> Vec<Problem> {
    let mut first: HashMap<ObjectRef, &Sourced> = HashMap::new();
    let mut problems = Vec::new();
    for sourced in objects {
        let reference = sourced.object.reference();
        if let Some(first) = first.get(&reference) {
            problems.push(Problem {
                file: sourced.file.clone(),
                line: sourced.line,
                resource: reference.to_string(),
                field: "metadata.name".into(),
                message: format!("is there twice, first at {}:{}", first.file, first.line),
                remedy: "remove one of them or give it another name".into(),
                ..Problem::default()
            });
        } else {
            first.insert(reference, sourced);
        }
    }
    problems
}

fn whole_file(path: &Path, message: &str, remedy: &str) -> Problem {
    Problem {
        file: path.to_string_lossy().into_owned(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
        ..Problem::default()
    }
}
