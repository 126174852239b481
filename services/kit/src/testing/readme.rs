//! Whether the table of settings in `services/README.md` is that of the code.

use clap::CommandFactory;

use crate::settings::table;

/// Checks that the README has a row for each of these settings, and says which one it lacks.
pub fn readme_shows<S: CommandFactory>() {
    let readme = include_str!("../../../README.md");
    for row in table::<S>() {
        assert!(readme.contains(&row), "services/README.md lacks the row\n{row}");
    }
}
