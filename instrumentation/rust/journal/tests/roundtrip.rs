//! What is written is read again, from a copy of the file taken while its writer lives.
#![allow(missing_docs, clippy::unwrap_used)]

use exit137_journal::{HeapRowText, Kind, Options, Request, Totals, Writer, create, previous_lives, read};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("exit137-journal-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn options() -> Options {
    let mut options = Options::default();
    options.resource = vec![("service.name".into(), "shop".into()), ("host.name".into(), "pod-1".into())];
    options.slots = 4;
    options
}

fn copy_of(writer: &Writer) -> exit137_journal::Journal {
    read(&std::fs::read(writer.path()).unwrap()).unwrap()
}

fn search<'a>(attributes: &'a [(&'a str, &'a str)]) -> Request<'a> {
    Request {
        trace_id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10u128.to_be_bytes(),
        span_id: 0x1112_1314_1516_1718u64.to_be_bytes(),
        parent_span_id: 7u64.to_be_bytes(),
        name: "GET /search",
        kind: Kind::Server,
        start_unix_nanos: 1_700_000_000_000_000_000,
        sampled: true,
        operation: 2,
        attributes,
    }
}

#[test]
fn a_request_is_there_from_start_to_end() {
    let folder = folder("request");
    let (writer, previous) = create(&folder.join("j"), &options()).unwrap();
    assert!(previous.is_empty());
    let ticket = writer.start(&search(&[("url.query", "q=ä"), ("tenant", "acme")])).unwrap();
    writer.set_memory(ticket.mark(), 10, 20, 30);
    writer.set_phase(ticket.mark(), "after_load_items");
    let journal = copy_of(&writer);
    assert_eq!(journal.resource, options().resource);
    assert_eq!(journal.pid, std::process::id());
    let [request] = journal.in_flight.as_slice() else { panic!("{journal:?}") };
    assert_eq!(request.trace_id, 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    assert_eq!((request.span_id, request.parent_span_id), (0x1112_1314_1516_1718, 7));
    assert_eq!(
        (request.operation.as_str(), request.kind, request.sampled),
        ("GET /search", Kind::Server, true)
    );
    assert_eq!(
        (request.held_bytes, request.peak_bytes, request.allocated_bytes),
        (Some(10), Some(20), Some(30))
    );
    assert_eq!(request.phase.as_deref(), Some("after_load_items"));
    assert_eq!(request.attributes[0], ("url.query".to_owned(), "q=ä".to_owned()));
    assert!(journal.seen_unix_nanos >= request.seen_unix_nanos && request.seen_unix_nanos > 0);
    writer.end(ticket);
    let journal = copy_of(&writer);
    assert_eq!((journal.in_flight.len(), journal.torn), (0, 0));
}

#[test]
fn numbers_of_a_request_that_is_over_do_not_reach_the_next_one() {
    let folder = folder("late");
    let (writer, _) = create(&folder.join("j"), &options()).unwrap();
    let ticket = writer.start(&search(&[])).unwrap();
    let late = ticket.mark();
    writer.end(ticket);
    let _next = writer.start(&search(&[])).unwrap();
    writer.set_memory(late, 1, 2, 3);
    writer.set_phase(late, "old");
    let request = copy_of(&writer).in_flight.remove(0);
    assert_eq!((request.held_bytes, request.peak_bytes, request.phase), (None, None, None));
}

#[test]
fn a_request_can_get_its_name_late() {
    let folder = folder("rewrite");
    let (writer, _) = create(&folder.join("j"), &options()).unwrap();
    let mut ticket = writer.start(&Request { name: "GET", ..search(&[]) }).unwrap();
    writer.set_memory(ticket.mark(), 5, 6, 7);
    writer.rewrite(&mut ticket, &search(&[("tenant", "acme")]));
    let request = copy_of(&writer).in_flight.remove(0);
    assert_eq!((request.operation.as_str(), request.held_bytes), ("GET /search", Some(5)));
    writer.end(ticket);
    assert!(copy_of(&writer).in_flight.is_empty());
}

#[test]
fn a_full_journal_counts_what_it_cannot_take() {
    let folder = folder("full");
    let (writer, _) = create(&folder.join("j"), &options()).unwrap();
    let tickets: Vec<_> = (0..5).map(|_| writer.start(&search(&[]))).collect();
    assert_eq!(tickets.iter().filter(|ticket| ticket.is_some()).count(), 4);
    assert_eq!(copy_of(&writer).not_recorded, 1);
}

#[test]
fn long_text_is_cut() {
    let folder = folder("long");
    let (writer, _) = create(&folder.join("j"), &options()).unwrap();
    let long = "ä".repeat(300);
    writer.start(&Request { name: &long, ..search(&[("a", "1"), ("b", &long), ("c", "2")]) }).unwrap();
    let request = copy_of(&writer).in_flight.remove(0);
    assert_eq!(request.operation, "ä".repeat(48));
    assert_eq!(request.attributes, [("a".into(), "1".into()), ("c".into(), "2".into())]);
}

#[test]
fn operations_and_the_live_heap_are_there() {
    let folder = folder("heap");
    let (writer, _) = create(&folder.join("j"), &options()).unwrap();
    assert!(writer.register_operation(2, "GET /search", Kind::Server));
    assert!(!writer.register_operation(999, "no room", Kind::Server));
    writer.set_totals(2, &Totals { started: 3, finished: 2, allocated: 100, freed: 40, moved: -5, peak: 60 });
    let about =
        HeapRowText { operation: 2, addresses: &[0xabc, 0xdef], text: "shop::cache\tsrc/cache.rs:41\nmain" };
    let tag = writer.set_heap_row(0, &about).unwrap();
    writer.set_heap_live(0, tag, 188 << 20, 376, 200 << 20);
    writer.set_live(212 << 20, 24 << 20);
    let journal = copy_of(&writer);
    let [row] = journal.heap.as_slice() else { panic!("{journal:?}") };
    assert_eq!((row.live_bytes, row.samples, row.operation_name.as_str()), (188 << 20, 376, "GET /search"));
    assert_eq!(row.frames[0].location, "src/cache.rs:41");
    assert_eq!((row.frames[1].function.as_str(), row.frames[1].location.as_str()), ("main", ""));
    assert_eq!(journal.live_bytes, 212 << 20);
    assert_eq!(journal.operations[0].retained_bytes(), 65);
    writer.clear_heap_row(0);
    assert!(copy_of(&writer).heap.is_empty());
}

fn lives(path: &Path) -> usize {
    previous_lives(path).len()
}

#[test]
fn a_dead_life_is_found_by_the_next_and_a_live_one_is_left_alone() {
    let folder = folder("lives");
    let path = folder.join("j");
    let (first, _) = create(&path, &options()).unwrap();
    first.start(&search(&[])).unwrap();
    let (second, previous) = create(&path, &options()).unwrap();
    assert_eq!((previous.len(), second.path()), (0, folder.join("j.1").as_path()));
    drop(first);
    let (third, previous) = create(&path, &options()).unwrap();
    let [life] = previous.as_slice() else { panic!("{previous:?}") };
    assert_eq!(life.read().unwrap().in_flight.len(), 1);
    assert_eq!((third.path(), lives(&path)), (path.as_path(), 1));
    for life in previous {
        life.forget();
    }
    assert_eq!(lives(&path), 0);
}

#[test]
fn a_place_that_cannot_hold_a_journal_is_an_error() {
    let error = create(Path::new("/proc/nothing/j"), &options()).unwrap_err();
    assert_eq!(error.to_string(), "cannot make the journal /proc/nothing/j");
}

#[test]
fn a_strange_file_under_the_name_is_not_taken_for_a_life() {
    let folder = folder("strange");
    std::fs::write(folder.join("j"), "notes").unwrap();
    let (writer, previous) = create(&folder.join("j"), &options()).unwrap();
    assert!(previous.is_empty());
    assert!(writer.path().exists());
}
