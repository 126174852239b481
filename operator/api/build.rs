//! Compiles the wire protocol with a pure-Rust protobuf compiler, so that no `protoc` is needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        ["weft/v1/config.proto", "weft/v1/identity.proto", "weft/v1/replicas.proto"],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        .type_attribute(".weft.v1", "#[derive(serde::Serialize)]")
        .enum_attribute(".weft.v1", "#[serde(rename_all = \"snake_case\")]")
        .compile_fds(files)?;
    Ok(())
}
