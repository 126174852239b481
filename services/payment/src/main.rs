//! The process around the payment service: everything is in `shop_payment::serve`, everything before it in the kit.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shop_kit::server::main(std::env::args_os(), shop_payment::serve).await
}
