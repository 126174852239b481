//! The process around the ticket service: everything is in `shop_ticket::serve`, everything before it in the kit.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shop_kit::server::main(std::env::args_os(), shop_ticket::serve).await
}
