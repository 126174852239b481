//! Compiles the protos of all services to Rust with protox, so that no protoc needs to be installed.
//! Every service gets clients and servers from here; nothing generated is checked in.

const PROTOS: [&str; 4] = [
    "shop/user/v1/user.proto",
    "shop/product/v1/product.proto",
    "shop/order/v1/order.proto",
    "shop/payment/v1/payment.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    std::io::Write::write_all(&mut std::io::stdout(), b"cargo:rerun-if-changed=proto\n")?;
    Ok(())
}
