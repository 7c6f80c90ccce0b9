//! From return addresses to places in the program. Done by our own thread, once for each stack that has a row.

use std::collections::HashMap;
use std::path::Path;

/// Places that are told of one stack.
const PLACES_MAX: usize = 4;

/// Reading debug information takes up to so many times the size of the program, for a moment. Where that is not free,
/// places go without names: measuring memory must not be what fills it.
const PROGRAM_TIMES: u64 = 3;

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
    /// The reader of debug information is in memory: tens of megabytes of what it has parsed.
    loaded: bool,
}

impl Names {
    /// The places of a return address, innermost first: more than one where functions were inlined.
    pub(crate) fn places(&mut self, address: u64) -> &[Place] {
        if self.known.len() > REMEMBERED_MAX {
            self.known.clear();
        }
        let loaded = &mut self.loaded;
        self.known.entry(address).or_insert_with(|| {
            *loaded = true;
            resolve(address)
        })
    }

    /// Gives back what looking up has taken. A name that was not known is dearer the next time.
    pub(crate) fn unload(&mut self) {
        if std::mem::take(&mut self.loaded) {
            backtrace::clear_symbol_cache();
            give_back_free_memory();
        }
    }

    /// `function<TAB>file:line` lines, from the program's own innermost place outwards.
    pub(crate) fn text_of(&mut self, addresses: &[u64]) -> String {
        let known = addresses.iter().all(|address| self.known.contains_key(address));
        if self.off || !(known || self.loaded || has_room()) {
            return String::new();
        }
        // Each address may need another part of the debug information: no more of them than are told.
        let (mut own, mut others): (Vec<Place>, Vec<Place>) = (Vec::new(), Vec::new());
        for address in addresses {
            let (ours, theirs): (Vec<Place>, Vec<Place>) =
                self.places(*address).iter().cloned().partition(|place| place.own);
            own.extend(ours);
            others.extend(theirs);
            if own.len() >= PLACES_MAX {
                break;
            }
        }
        let told = if own.is_empty() { others } else { own };
        let lines: Vec<String> = told
            .iter()
            .take(PLACES_MAX)
            .map(|place| format!("{}\t{}", place.function, place.location))
            .collect();
        lines.join("\n")
    }
}

/// Whether the debug information fits into what the memory limit and the machine leave.
fn has_room() -> bool {
    let program = std::env::current_exe().and_then(std::fs::metadata).map_or(0, |program| program.len());
    room_bytes().is_none_or(|room| program.saturating_mul(PROGRAM_TIMES) < room)
}

/// Bytes to the memory limit, or what the machine has free if that is less; `None` when nothing tells.
fn room_bytes() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let cgroup = crate::config::cgroup_path().unwrap_or_default();
    // Version 2 and 1; as the host sees them, and inside a namespace.
    let folders = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"];
    let files = [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")];
    let places = folders.iter().flat_map(|folder| [format!("{folder}{cgroup}"), (*folder).to_owned()]);
    let left = |place: String| {
        files.iter().find_map(|(limit, used)| {
            let limit = number(&format!("{place}/{limit}"))?;
            Some(limit.saturating_sub(number(&format!("{place}/{used}"))?))
        })
    };
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()?.checked_mul(1024)
    });
    places.filter_map(left).chain(machine).min()
}

/// The C library keeps freed memory for later; what was freed here is not needed soon.
#[allow(unsafe_code)]
fn give_back_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes a number, touches free memory only, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
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
