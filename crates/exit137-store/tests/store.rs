//! A store as its users see it: what was appended is read back, whatever happens in between.

use std::ops::ControlFlow;
use std::path::Path;

use exit137_core::time::UnixNanos;
use exit137_store::{
    ContainerFilter, Encoding, Identity, Incident, IncidentFilter, Kind, OpenError, Page, Piece, Query,
    Store, StoreOptions,
};

fn piece(container: &str, at: i64, text: &str) -> Piece {
    Piece {
        container: Identity::of([("k8s.pod.name", container), ("service.name", "cart")]),
        kind: Kind::Spans,
        encoding: Encoding::Protobuf,
        first: UnixNanos(at),
        last: UnixNanos(at + 10),
        count: 1,
        bytes: text.as_bytes().to_vec().into(),
    }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, StoreOptions::default()).expect("the store opens")
}

/// The texts of all pieces that `query` finds, sorted.
fn texts(store: &Store, query: &Query) -> Vec<String> {
    let mut texts = Vec::new();
    let summary = store
        .read(query, &mut |found| {
            texts.push(String::from_utf8(found.bytes.to_vec()).expect("text"));
            ControlFlow::Continue(())
        })
        .expect("the store is read");
    assert_eq!(summary.pieces, texts.len() as u64);
    assert_eq!(summary.damaged, 0);
    texts.sort();
    texts
}

#[test]
fn what_was_appended_is_read_back_before_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(vec![piece("a", 100, "one"), piece("b", 200, "two")]).unwrap();
    store.append(vec![piece("a", 300, "three")]).unwrap();
    let a = Query { containers: Some(vec![piece("a", 0, "").container.id()]), ..Query::default() };
    let late = Query { from: UnixNanos(205), ..Query::default() };
    for _ in 0..3 {
        assert_eq!(texts(&store, &Query::default()), ["one", "three", "two"]);
        assert_eq!(texts(&store, &a), ["one", "three"]);
        assert_eq!(texts(&store, &late), ["three", "two"]);
    }
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.problems(), [""; 0]);
    assert_eq!(texts(&store, &Query::default()), ["one", "three", "two"]);
    assert_eq!(texts(&store, &a), ["one", "three"]);
    assert_eq!(texts(&store, &late), ["three", "two"]);
}

#[test]
fn one_of_many_containers_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..50 {
        let name = format!("pod-{number}");
        store.append(vec![piece(&name, number, &name)]).unwrap();
    }
    for count in [1, 3, 40] {
        // Not in the order of their ids, and one of them twice.
        let mut ids: Vec<_> =
            (0..count).rev().map(|number| piece(&format!("pod-{number}"), 0, "").container.id()).collect();
        ids.push(ids[0]);
        let mut expected: Vec<String> = (0..count).map(|number| format!("pod-{number}")).collect();
        expected.sort();
        let query = Query { containers: Some(ids), ..Query::default() };
        assert_eq!(texts(&store, &query), expected);
        store.settle();
        assert_eq!(texts(&store, &query), expected);
    }
}

#[test]
fn containers_are_found_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.append(vec![piece("a", 100, "one"), piece("b", 200, "two"), piece("a", 50, "three")]).unwrap();
    let by = |key: &str, value: &str| {
        let attributes = vec![(key.to_owned(), value.to_owned())];
        let found = store.containers(&ContainerFilter { attributes, ..ContainerFilter::default() }).unwrap();
        let name = |identity: &Identity| identity.attribute("k8s.pod.name").unwrap_or_default().to_owned();
        found.iter().map(|found| (name(&found.identity), found.first.0, found.pieces)).collect::<Vec<_>>()
    };
    assert_eq!(by("k8s.pod.name", "a"), [("a".to_owned(), 50, 2)]);
    assert_eq!(by("service.name", "cart"), [("b".to_owned(), 200, 1), ("a".to_owned(), 50, 2)]);
    assert_eq!(by("service.name", "a"), []);
}

#[test]
fn a_second_store_on_one_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    let error = Store::open(folder.path(), StoreOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }));
    let expected = format!(
        "{}: already in use by process {}: one server a data folder",
        folder.path().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn incidents_are_listed_by_what_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..20u32 {
        let incident = Incident {
            key: format!("i{number}"),
            namespace: if number % 2 == 0 { "shop" } else { "pay" }.to_owned(),
            workload: format!("w{number}"),
            cause: "leak".to_owned(),
            operation: "GET /Search".to_owned(),
            kills: number,
            last: UnixNanos(i64::from(number)),
            json: "{}".to_owned(),
            ..Incident::default()
        };
        store.put_incident(&incident).unwrap();
        store.put_incident(&Incident { kills: number + 1, ..incident }).unwrap();
    }
    let filter = IncidentFilter {
        namespace: "shop".to_owned(),
        text: "get /search".to_owned(),
        ..IncidentFilter::default()
    };
    let found = store.incidents(&filter, Page { skip: 1, count: 2, ..Page::default() }).unwrap();
    let keys: Vec<&str> = found.page.iter().map(|incident| incident.key.as_str()).collect();
    assert_eq!((found.total, keys), (10, vec!["i16", "i14"]));
    assert_eq!(
        store.incident("i3").unwrap().map(|incident| (incident.kills, incident.json)),
        Some((4, "{}".to_owned()))
    );
    assert_eq!(store.incident("none").unwrap(), None);
    let hostile =
        IncidentFilter { text: "'; DROP TABLE incident --%".to_owned(), ..IncidentFilter::default() };
    assert_eq!(store.incidents(&hostile, Page::default()).unwrap().total, 0);
}
