//! A cache without a bound: the leak of this example.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

static SEEN: Mutex<Option<HashMap<String, Vec<String>>>> = Mutex::new(None);

/// Keeps the answer to every search, for ever.
pub fn remember(words: &str, answer: &[String]) {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.get_or_insert_default().insert(words.to_owned(), answer.to_vec());
}
