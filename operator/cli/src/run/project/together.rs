//! What is wrong only with all objects together: two of one name, and what `weft_core::validate` finds. The operator says
//! the same words about the same files; here they come before anything is started.

use std::collections::BTreeMap;

use weft_api::status::Problem;
use weft_core::validate;
use weft_core::world::{Change, Object, ObjectRef, World};
use weft_crds::field_path::FieldPath;
use weft_crds::manifest::{self, Manifest, Source};

use super::Gateway;
use crate::problem::Findings;
use crate::run::certificate;

/// Checks manifests, with the Secrets that will be made for gateways.
pub(super) fn check(manifests: &[Manifest], gateways: &[Gateway], findings: &mut Findings) {
    let mut world = World::default();
    let mut places: BTreeMap<ObjectRef, &Source> = BTreeMap::new();
    for manifest in manifests {
        let Some(object) = Object::from_manifest(manifest.object.clone()) else { continue };
        let reference = object.reference();
        if let Some(first) = places.get(&reference) {
            findings.errors.push(duplicate(&reference, &manifest.source, first));
            continue;
        }
        places.insert(reference, &manifest.source);
        world.apply(Change::Upsert(Box::new(object)));
    }
    for gateway in gateways {
        for (name, hosts) in &gateway.certificates {
            if let Ok(secret) = certificate::sample((&gateway.namespace, name), hosts) {
                world.apply(Change::Upsert(Box::new(Object::Secret(secret))));
            }
        }
    }
    let place = |found| placed(found, &places);
    let is_error = |found: &validate::Problem| found.severity == validate::Severity::Error;
    let (errors, warnings): (Vec<_>, Vec<_>) = validate::world(&world).into_iter().partition(is_error);
    findings.errors.extend(errors.into_iter().map(place));
    findings.warnings.extend(warnings.into_iter().map(place));
}

fn duplicate(reference: &ObjectRef, source: &Source, first: &Source) -> Problem {
    Problem {
        file: source.file.clone(),
        line: line(source),
        resource: reference.to_string(),
        field: "metadata.name".into(),
        message: format!("is there twice, first at {first}"),
        remedy: "remove one of them or give it another name".into(),
        ..Problem::default()
    }
}

/// The field's place is looked up in the text again.
fn placed(found: validate::Problem, places: &BTreeMap<ObjectRef, &Source>) -> Problem {
    let source = places.get(&found.object);
    let text = source.and_then(|source| std::fs::read_to_string(&source.file).ok()).unwrap_or_default();
    let at = source.and_then(|source| manifest::locate(&text, source.line, &FieldPath::parse(&found.field)));
    Problem {
        file: source.map(|source| source.file.clone()).unwrap_or_default(),
        line: at
            .map_or(source.map_or(0, |source| line(source)), |at| u32::try_from(at.line).unwrap_or_default()),
        column: at.map_or(0, |at| u32::try_from(at.column).unwrap_or_default()),
        resource: found.object.to_string(),
        field: found.field,
        message: found.message,
        remedy: found.remedy,
    }
}

fn line(source: &Source) -> u32 {
    u32::try_from(source.line).unwrap_or_default()
}
