//! The process around the chat service: everything is in `shop_chat::serve`, everything before it in the kit.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shop_kit::server::main(std::env::args_os(), shop_chat::serve).await
}
