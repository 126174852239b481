//! What was found wrong with files: errors stop us, warnings do not. One shape for `weft check`, `weft run` and a
//! reload, so that all say the same words. Finds nothing itself.

use std::path::Path;

use weft_api::status::Problem;
use weft_crds::manifest;

use crate::run::yaml_node::Fault;

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Findings {
    /// These refuse the files.
    pub(crate) errors: Vec<Problem>,
    /// These work, but probably not as meant.
    pub(crate) warnings: Vec<Problem>,
}

impl Findings {
    /// Adds faults of one file to the errors.
    pub(crate) fn add_faults(&mut self, file: &Path, faults: Vec<Fault>) {
        self.errors.extend(faults.into_iter().map(|fault| of_fault(file, fault)));
    }

    /// Adds what the parser of manifests found.
    pub(crate) fn add_manifest(&mut self, found: manifest::Problem) {
        let problem = Problem {
            file: found.file,
            line: u32::try_from(found.at.line).unwrap_or_default(),
            column: u32::try_from(found.at.column).unwrap_or_default(),
            resource: found.object.map(|object| object.to_string()).unwrap_or_default(),
            field: found.field.to_string(),
            message: found.message,
            remedy: found.remedy,
        };
        match found.severity {
            manifest::Severity::Error => self.errors.push(problem),
            manifest::Severity::Warning => self.warnings.push(problem),
        }
    }

    /// One line per finding, warnings first, so that what matters stands last.
    pub(crate) fn lines(&self) -> Vec<String> {
        let warnings = self.warnings.iter().map(|problem| format!("warning: {problem}"));
        warnings.chain(self.errors.iter().map(|problem| format!("error: {problem}"))).collect()
    }
}

/// A fault in a file, as a problem.
pub(crate) fn of_fault(file: &Path, fault: Fault) -> Problem {
    Problem {
        file: file.display().to_string(),
        line: u32::try_from(fault.at.line).unwrap_or_default(),
        column: u32::try_from(fault.at.column).unwrap_or_default(),
        field: fault.field,
        message: fault.message,
        ..Problem::default()
    }
}
