//! Tells the operator which instances there are: `instances.json` in the state folder, written whole on every change.

use std::sync::Arc;
use std::time::Duration;

use weft_core::instances::Instances;

use super::context::Context;
use crate::state::write_whole;

/// Changes that come together are written together.
const TOGETHER: Duration = Duration::from_millis(20);
/// After a failed write.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes the file whenever the board changes, until the run has ended.
pub(crate) async fn run(cx: Arc<Context>) {
    let mut changes = cx.board.changes();
    let mut written: Option<Instances> = None;
    loop {
        changes.borrow_and_update();
        let now = cx.board.instances();
        if written.as_ref() != Some(&now) {
            match write(&cx, &now) {
                Ok(()) => {
                    cx.board.told(&now);
                    written = Some(now);
                }
                Err(error) => {
                    cx.terminal.say(&format!("cannot write instances.json: {error}; trying again"));
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(TOGETHER).await;
    }
}

fn write(cx: &Context, instances: &Instances) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(instances)?;
    Ok(write_whole(&cx.state.path("instances.json"), &text, 0o600)?)
}
