//! The parts of the key-value server that read datagrams.

#[path = "../../../examples/kv/server/assembly.rs"]
pub mod assembly;
#[path = "../../../examples/kv/server/budget.rs"]
pub mod budget;
