//! What is let into the world: whole configurations, one part at a time, the last good one staying where a new one
//! cannot be used.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{error, info};
use weft_api::status::Problem;
use weft_core::instances::Instance;
use weft_core::world::{Change, Name, Object, ObjectKind};
use weft_crds::mesh::{MESH_NAME, Mesh, MeshSpec};

use super::{Keeping, Reconciler, changes};
use crate::attest::{JoinToken, JoinTokens};
use crate::authority::{Authority, AuthorityError};
use crate::clock::unix_now;
use crate::source::{Part, Sourced};

impl Reconciler {
    /// Takes a whole new configuration, or refuses it as a whole.
    pub(super) fn take_objects(&mut self, objects: Vec<Sourced>) {
        if let Err(problem) = self.admit_mesh(&objects) {
            self.reject(Part::Objects, vec![*problem]);
            return;
        }
        let new: BTreeSet<_> = objects.iter().map(|sourced| sourced.object.reference()).collect();
        let removed = self.objects.difference(&new).cloned().map(Change::Remove);
        let upserts = objects.into_iter().map(|sourced| Change::Upsert(Box::new(sourced.object)));
        let changes = removed.chain(upserts).collect();
        self.objects = new;
        self.accept(Part::Objects, changes);
        self.count_objects();
    }

    /// Puts a part in force.
    pub(super) fn accept(&mut self, part: Part, changes: Vec<Change>) {
        if self.problems.remove(&part).is_some() {
            info!(?part, "configuration is good again");
        }
        self.reconcile(changes);
        self.follow_keys();
        self.follow_tokens();
        self.loaded.insert(part);
        self.put_in_force();
    }

    /// Says so once everything is there that proxies need.
    pub(super) fn put_in_force(&mut self) {
        let is_whole = self.loaded.contains(&Part::Objects) && self.loaded.contains(&Part::Instances);
        if is_whole
            && let Some(authority) = self.authority.clone()
            && let Some(in_force) = self.outlets.in_force.take()
        {
            self.reconcile([Change::Trust(authority.trust(unix_now()))]);
            let instances = self.world.instances().count();
            let objects = self.world.references().len();
            info!(objects, instances, "configuration in force");
            // Nobody waits for it only when the operator is stopping.
            drop(in_force.send(authority));
        }
    }

    /// Keeps what is in force and says what is wrong with the new.
    pub(super) fn reject(&mut self, part: Part, problems: Vec<Problem>) {
        let kept = self.loaded.contains(&part);
        for problem in &problems {
            error!(kept_last_good = kept, "{problem}");
        }
        self.outlets.metrics.config_rejected.inc();
        self.problems.insert(part, problems);
    }

    /// The trust domain is what all identities start with, so the first one stays.
    fn admit_mesh(&mut self, objects: &[Sourced]) -> Result<(), Box<Problem>> {
        let is_mesh = |sourced: &&Sourced| {
            let reference = sourced.object.reference();
            reference.kind == ObjectKind::Mesh && reference.name.name == MESH_NAME
        };
        let sourced = objects.iter().find(is_mesh);
        let built_in = Mesh::new(MESH_NAME, MeshSpec::default());
        let mesh = match sourced.map(|sourced| &sourced.object) {
            Some(Object::Mesh(mesh)) => mesh,
            _ => &built_in,
        };
        let problem = |error: AuthorityError| Problem {
            file: sourced.map(|sourced| sourced.file.clone()).unwrap_or_default(),
            line: sourced.map(|sourced| sourced.line).unwrap_or_default(),
            column: 0,
            resource: format!("Mesh {MESH_NAME}"),
            field: "spec.trustDomain".into(),
            message: with_causes(&error),
            remedy: String::new(),
        };
        self.admit_trust_domain(mesh).map_err(|error| Box::new(problem(error)))
    }

    pub(super) fn admit_trust_domain(&mut self, mesh: &Mesh) -> Result<(), AuthorityError> {
        if let Some(authority) = &self.authority {
            return authority.configure(mesh);
        }
        match &self.outlets.keeping {
            Keeping::Folder { folder, lifetime } => {
                self.authority = Some(Arc::new(Authority::open(folder, mesh, *lifetime, unix_now())?));
            }
            Keeping::Elsewhere(asked) => drop(asked.send_replace(Some(mesh.clone()))),
        }
        Ok(())
    }

    /// The authority was opened, or could not be and is tried again.
    pub(super) fn take_authority(&mut self, opened: Result<Arc<Authority>, AuthorityError>) {
        match opened {
            Ok(authority) => self.authority = Some(authority),
            Err(error) => return self.reject(Part::Authority, vec![changes::problem(&error)]),
        }
        self.problems.remove(&Part::Authority);
        self.take_sync();
    }

    fn follow_tokens(&self) {
        let token = |instance: &Instance| {
            let account = self.world.account_of(&Name::new(&instance.namespace, &instance.service))?;
            JoinToken::from_hex(&instance.token_sha256, &account.namespace, &account.name)
        };
        let tokens: JoinTokens = self.world.instances().filter_map(token).collect();
        self.outlets.tokens.send_if_modified(|known| {
            let changed = *known != tokens;
            *known = tokens;
            changed
        });
    }

    pub(super) fn count_objects(&self) {
        let resources = &self.outlets.metrics.resources;
        for (kind, count) in self.world.counts() {
            let labelled = resources.with_label_values(&[kind.as_str()]);
            labelled.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

pub(super) fn with_causes(error: &AuthorityError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
