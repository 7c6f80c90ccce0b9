//! exit137 says why a container was OOM-killed.
fn main() {}
