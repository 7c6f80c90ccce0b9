//! What was appended and not dropped is read back exactly, whatever was done to the store in between.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use exit137_core::time::UnixNanos;
use exit137_store::{ContainerId, Encoding, Identity, Kind, Piece, Query, Store, StoreOptions};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Spec>),
    Reopen,
    Settle,
}

#[derive(Debug, Clone)]
struct Spec {
    container: u8,
    kind: usize,
    first: i64,
    length: i64,
    bytes: usize,
    seed: u8,
}

fn spec() -> impl Strategy<Value = Spec> {
    let bytes = prop_oneof![4 => 0usize..400, 2 => 1000usize..20_000, 1 => 100_000usize..700_000];
    let first = prop_oneof![8 => -1000i64..1000, 1 => any::<i64>()];
    (0u8..6, 0usize..8, first, 0i64..100, bytes, any::<u8>()).prop_map(
        |(container, kind, first, length, bytes, seed)| Spec { container, kind, first, length, bytes, seed },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(spec(), 1..12).prop_map(Step::Append),
        1 => Just(Step::Reopen),
        2 => Just(Step::Settle),
    ]
}

fn identity(container: u8) -> Identity {
    Identity::of([("k8s.pod.name", format!("pod-{container}").as_str())])
}

impl Spec {
    fn piece(&self, number: usize) -> Piece {
        // Compresses a little, and differs from all others.
        let mut bytes: Vec<u8> = (0..self.bytes).map(|at| (at / 3) as u8 ^ self.seed).collect();
        bytes.extend_from_slice(&number.to_le_bytes());
        // Pieces of samples have a form of their own, and are tested beside it.
        let kind = Kind::ALL[self.kind];
        let kind = if kind == Kind::Samples { Kind::Spans } else { kind };
        Piece {
            container: identity(self.container),
            kind,
            encoding: Encoding::Protobuf,
            first: UnixNanos(self.first),
            last: UnixNanos(self.first.saturating_add(self.length)),
            count: u32::from(self.seed),
            bytes: bytes.into(),
        }
    }
}

type Row = (ContainerId, Kind, i64, i64, u32, Vec<u8>);

fn read(store: &Store, query: &Query) -> Vec<Row> {
    let mut rows = Vec::new();
    let summary = store
        .read(query, &mut |found| {
            let bytes = found.bytes.to_vec();
            rows.push((found.container, found.kind, found.first.0, found.last.0, found.count, bytes));
            ControlFlow::Continue(())
        })
        .expect("the store is read");
    assert_eq!(summary.damaged, 0);
    rows.sort();
    rows
}

fn open(folder: &Path) -> Store {
    // Small logs: many segments.
    let options =
        StoreOptions { disk_budget_bytes: 64 << 20, memory_budget_bytes: 4 << 20, ..StoreOptions::default() };
    Store::open(folder, options).expect("the store opens")
}

fn row(piece: &Piece) -> Row {
    let Piece { container, kind, first, last, count, bytes, .. } = piece;
    (container.id(), *kind, first.0, last.0, *count, bytes.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_was_appended_is_read_back(
        steps in prop::collection::vec(step(), 1..24), from in -1000i64..1000, length in 0i64..500, containers in prop::collection::vec(0u8..6, 0..3), kind in 0usize..8,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = open(folder.path());
        let mut expected: Vec<Row> = Vec::new();
        for step in &steps {
            match step {
                Step::Append(specs) => {
                    let pieces: Vec<Piece> =
                        specs.iter().enumerate().map(|(index, spec)| spec.piece(expected.len() + index)).collect();
                    expected.extend(pieces.iter().map(row));
                    store.append(pieces).expect("appended");
                }
                Step::Reopen => {
                    drop(store);
                    store = open(folder.path());
                }
                Step::Settle => store.settle(),
            }
        }
        expected.sort();
        prop_assert!(read(&store, &Query::default()) == expected, "all of it");

        let ids: Vec<ContainerId> = containers.iter().map(|container| identity(*container).id()).collect();
        let query = Query {
            containers: Some(ids.clone()),
            from: UnixNanos(from),
            to: UnixNanos(from + length),
            kinds: vec![Kind::ALL[kind], Kind::Spans],
            ..Query::default()
        };
        let wanted = |row: &&Row| {
            ids.contains(&row.0) && query.kinds.contains(&row.1) && row.2 <= from + length && from <= row.3
        };
        let narrow: Vec<Row> = expected.iter().filter(wanted).cloned().collect();
        prop_assert!(read(&store, &query) == narrow, "a part of it");

        let catalogue = store.containers(&Default::default()).expect("the catalogue is read");
        let mut pieces: BTreeMap<ContainerId, u64> = BTreeMap::new();
        expected.iter().for_each(|row| *pieces.entry(row.0).or_default() += 1);
        let counted: BTreeMap<ContainerId, u64> =
            catalogue.iter().map(|known| (known.identity.id(), known.pieces)).collect();
        prop_assert_eq!(counted, pieces);
        prop_assert_eq!(store.problems(), Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever happens to the bytes of a segment, it neither ends the store nor makes up a piece.
    #[test]
    fn damage_makes_up_nothing(
        specs in prop::collection::vec(spec(), 1..12),
        settled: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1usize..200), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        let pieces: Vec<Piece> = specs.iter().enumerate().map(|(number, spec)| spec.piece(number)).collect();
        let expected: Vec<Row> = pieces.iter().map(row).collect();
        store.append(pieces).expect("appended");
        if settled {
            store.settle();
        }
        drop(store);
        for entry in std::fs::read_dir(folder.path().join("segments")).expect("a folder") {
            let path = entry.expect("an entry").path();
            let mut bytes = std::fs::read(&path).expect("read");
            for (at, mask, length) in &damage {
                let at = at.index(bytes.len());
                bytes.iter_mut().skip(at).take(*length).for_each(|byte| *byte ^= mask);
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            std::fs::write(&path, bytes).expect("written");
        }
        let store = open(folder.path());
        for round in 0..2 {
            let mut found = 0;
            store
                .read(&Query::default(), &mut |piece| {
                    let row = (piece.container, piece.kind, piece.first.0, piece.last.0, piece.count, piece.bytes.to_vec());
                    assert!(expected.contains(&row), "round {round}: {row:?} was made up");
                    found += 1;
                    ControlFlow::Continue(())
                })
                .expect("the store is read");
            assert!(found <= expected.len());
            // Rewriting reads everything, and must leave out what is damaged.
            store.settle();
        }
        store.append(vec![specs[0].piece(1 << 40)]).expect("the store goes on");
    }
}
