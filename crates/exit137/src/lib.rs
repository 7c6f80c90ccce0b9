//! exit137, the program: commands and the forms in which they print a verdict.
//!
//! A library only so that tests and examples reach it; the contract is the command line and its output.

mod agent;
pub mod commands;
mod config;
mod logging;
pub mod output;
pub mod run;
mod server;
