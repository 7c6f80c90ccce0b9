//! The flight recorder: what is remembered, for how long, in which bytes.
//!
//! [`Store`] keeps [`Piece`]s: bytes as they came, filed under the container that they are about. It does not look
//! into them. An appended piece is on the disk before the call returns, and survives a kill of the process. What is
//! kept is bounded by a disk budget and an age for each kind; what is dropped is counted.
//!
//! Pieces lie in segments, which `FORMAT.md` describes byte by byte; incidents, kills, lives and the catalogue of
//! containers lie in an SQLite file beside them. All calls block: a server calls them from threads.

mod budget;
mod catalogue;
mod clock;
mod database;
mod direct;
mod folder;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod incidents;
mod keeper;
mod merge;
mod options;
mod piece;
mod reading;
mod record;
mod recovery;
mod samples;
mod segment;
mod siphash;
mod state;
mod store;
mod writer;

pub use catalogue::{Container, ContainerFilter, Dropped, Reason};
pub use database::DatabaseError;
pub use incidents::{Incident, IncidentFilter, Incidents, Page, Sort};
pub use options::StoreOptions;
pub use piece::{ContainerId, Encoding, Found, Identity, Kind, Piece};
pub use reading::{Query, ReadSummary};
pub use samples::{SERIES_BYTES_MAX, Sample, read_samples};
pub use state::State;
pub use store::{OpenError, Store};
pub use writer::{Ack, AppendError};
