//! Compiles the protos of all services to Rust with protox, so that no protoc needs to be installed.
//! Every service gets clients and servers from here, and the descriptors that gRPC reflection answers with; nothing
//! generated is checked in.

use std::{env, fs, io::Write as _, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 4] = [
    "shop/user/v1/user.proto",
    "shop/product/v1/product.proto",
    "shop/order/v1/order.proto",
    "shop/payment/v1/payment.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    std::io::stdout().write_all(b"cargo:rerun-if-changed=proto\n")?;
    Ok(())
}
