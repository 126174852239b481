//! Where resources come from. A source reads, checks and hands over what is right as a whole; what is wrong it reports
//! as problems, and then what was handed over last stays in force. Standalone is a directory, taken whole or not at all;
//! a cluster is watched, and taken object by object.

pub(crate) mod dir;
pub(crate) mod kube;

use tokio_util::sync::CancellationToken;
use weft_api::status::Problem;
use weft_core::instances::Instance;
use weft_core::world::{Change, Object};

use self::dir::Dir;
use self::kube::Kube;
use crate::event::Hub;

/// A source of resources.
#[derive(Debug)]
pub(crate) enum Source {
    /// Manifests in a directory, instances in the state folder.
    Dir(Dir),
    /// Objects of a cluster.
    Kube(Kube),
}

/// What a source has read.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// These are all objects there are, checked together.
    Objects(Vec<Sourced>),
    /// These are all instances there are.
    Instances(Vec<Instance>),
    /// A part cannot be used; the last good one stays.
    Problems(Part, Vec<Problem>),
    /// These things of a cluster are new or gone.
    Changes(Vec<Change>),
    /// All that a cluster holds has been told.
    Synced,
}

/// An object and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Sourced {
    pub(crate) object: Object,
    /// Name of its file.
    pub(crate) file: String,
    /// Line of its first field.
    pub(crate) line: u32,
}

/// A part of what a source reads, good or bad as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Objects.
    Objects,
    /// Instances.
    Instances,
    /// What signs and what is trusted.
    Authority,
}

impl Source {
    /// The way to the API server, in a cluster.
    pub(crate) fn client(&self) -> Option<::kube::Client> {
        match self {
            Self::Dir(_) => None,
            Self::Kube(kube) => Some(kube.client()),
        }
    }

    /// Watches and reads until `stopping`.
    pub(crate) async fn run(self, hub: Hub, stopping: CancellationToken) {
        match self {
            Self::Dir(dir) => dir.run(hub, stopping).await,
            Self::Kube(kube) => kube.run(hub, stopping).await,
        }
    }
}
