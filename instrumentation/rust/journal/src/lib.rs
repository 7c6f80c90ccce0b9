//! The journal: who is in flight in a process, what they hold, and where the live heap was allocated, in a small
//! preallocated file that outlives the process, SIGKILL included. `JOURNAL.md` specifies every byte.
//!
//! [`read`] decodes a journal and needs nothing but the standard library; it takes hostile bytes.
//! The feature `writer` adds what maps the file and fills it: a few stores for each request, no system call, no lock, no
//! allocation.

#![cfg_attr(not(feature = "writer"), forbid(unsafe_code))]

mod checksum;
mod layout;
mod reader;
mod record;
#[cfg(feature = "writer")]
mod writer;

pub use layout::{BACKGROUND, Kind, MAGIC, OTHER, VERSION_MAJOR, VERSION_MINOR};
pub use reader::{Frame, HeapRow, Holder, InFlight, Journal, NotAJournal, OperationRow, is_journal, read};
#[cfg(feature = "writer")]
pub use writer::{
    Clock, CreateError, HeapRowText, Mark, Options, Previous, Request, Ticket, Totals, Writer, create,
    previous_lives, thread_number,
};

#[cfg(loom)]
mod loom_model;
