//! From return addresses to places in the program. Done by our own thread, once for each stack that has a row.

use std::collections::HashMap;
use std::path::Path;

/// Places that are told of one stack.
const PLACES_MAX: usize = 4;

/// Addresses whose names are remembered.
const REMEMBERED_MAX: usize = 8192;

/// One place in the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub function: String,
    /// `file:line`, empty when there is no debug information.
    pub location: String,
    /// Part of the program rather than of its libraries.
    pub own: bool,
}

/// Looks names up, and remembers them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<u64, Vec<Place>>,
    /// Whether to look nothing up.
    pub off: bool,
}

impl Names {
    /// The places of a return address, innermost first: more than one where functions were inlined.
    pub(crate) fn places(&mut self, address: u64) -> &[Place] {
        if self.known.len() > REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.entry(address).or_insert_with(|| resolve(address))
    }

    /// `function<TAB>file:line` lines, from the program's own innermost place outwards.
    pub(crate) fn text_of(&mut self, addresses: &[u64]) -> String {
        if self.off {
            return String::new();
        }
        let mut places: Vec<Place> = Vec::new();
        for address in addresses {
            places.extend_from_slice(self.places(*address));
        }
        let own: Vec<&Place> = places.iter().filter(|place| place.own).collect();
        let told = if own.is_empty() { places.iter().collect() } else { own };
        let lines: Vec<String> = told
            .iter()
            .take(PLACES_MAX)
            .map(|place| format!("{}\t{}", place.function, place.location))
            .collect();
        lines.join("\n")
    }
}

fn resolve(address: u64) -> Vec<Place> {
    let mut places = Vec::new();
    // A return address is behind the call: one less is inside it.
    let inside = address.saturating_sub(1) as usize as *mut std::ffi::c_void;
    backtrace::resolve(inside, |symbol| {
        let function = symbol.name().map(|name| format!("{name:#}")).unwrap_or_default();
        let file = symbol.filename();
        let own = is_own(&function, file);
        let location = match (file, symbol.lineno()) {
            (Some(file), Some(line)) => format!("{}:{line}", shorten(file)),
            _ => String::new(),
        };
        places.push(Place { function, location, own });
    });
    places
}

/// Functions of libraries begin like this, as do implementations for their types.
const LIBRARIES: [&str; 6] = ["alloc::", "core::", "std::", "hashbrown::", "exit137_otel::", "tokio::"];

/// Sources of libraries lie in such folders.
const FOREIGN: [&str; 6] =
    ["/rustc/", "/registry/src/", "/git/checkouts/", "/library/std/", "/library/alloc/", "/library/core/"];

/// Libraries come from the registry, the toolchain, or git; the rest is the program.
fn is_own(function: &str, file: Option<&Path>) -> bool {
    let name = function.trim_start_matches('<');
    if name.is_empty() || name.contains("__rust") || LIBRARIES.iter().any(|library| name.starts_with(library))
    {
        return false;
    }
    let Some(file) = file else { return name.contains("::") };
    let file = file.to_string_lossy();
    // Debug information names inlined functions without their path, so ours are known by their file.
    let ours = file.starts_with(concat!(env!("CARGO_MANIFEST_DIR"), "/src/"));
    !ours && !FOREIGN.iter().any(|part| file.contains(part))
}

/// From `src/` on when there is one: paths of a build machine tell nobody anything.
fn shorten(file: &Path) -> String {
    let text = file.to_string_lossy();
    match text.rfind("/src/") {
        Some(at) => text[at + 1..].to_owned(),
        None => text.rsplit('/').next().unwrap_or(&text).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_src_on() {
        assert_eq!(shorten(Path::new("/build/shop/src/cache.rs")), "src/cache.rs");
        assert_eq!(shorten(Path::new("/build/main.rs")), "main.rs");
    }

    #[test]
    fn libraries_are_not_the_program() {
        assert!(is_own("shop::cache::put", Some(Path::new("/build/shop/src/cache.rs"))));
        assert!(!is_own("serde::ser", Some(Path::new("/x/.cargo/registry/src/i/serde-1/src/ser.rs"))));
        assert!(!is_own("alloc::raw_vec::grow", Some(Path::new("/rustc/1/library/alloc/src/raw_vec.rs"))));
    }
}
