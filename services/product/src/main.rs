//! The process around the product service: everything is in `shop_product::serve`, everything before it in the kit.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shop_kit::server::main(std::env::args_os(), shop_product::serve).await
}
