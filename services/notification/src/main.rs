//! The process around the notification service: everything is in `shop_notification::serve`, everything before it in the kit.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shop_kit::server::main(std::env::args_os(), shop_notification::serve).await
}
