//! Writes the `CustomResourceDefinitions` beside `src/`, so that `kubectl apply -f crds/` works, and into the chart
//! `charts/weft-crds`.
//!
//! Run it after every change of a type; a test of this crate compares the files with the types.

use std::path::Path;

use weft_crds::schema;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in schema::files()? {
        std::fs::write(repository.join(file.path), file.content)?;
    }
    Ok(())
}
