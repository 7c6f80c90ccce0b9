//! The flight recorder: what is remembered, for how long, in which bytes.
