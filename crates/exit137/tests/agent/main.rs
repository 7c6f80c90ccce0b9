//! The agent as a node has it: real cgroups, real kills by the kernel, and a collector that takes OTLP. Needs root and a memory
//! hierarchy of cgroups; kills of others on the same machine are outside of the cgroup that is watched.

mod collector;
#[path = "../support/fake_api/mod.rs"]
mod fake_api;
mod kills;
mod machine;
mod names;
mod node;
mod rights;
mod storm;
