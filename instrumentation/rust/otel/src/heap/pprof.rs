//! The live heap as a pprof profile (`profile.proto`, not compressed; `go tool pprof` and others read it so).

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::names::Names;
use super::{Stack, stacks};

/// A protobuf message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn packed(&mut self, field: u64, values: &[u64]) {
        let mut inner = Self::default();
        values.iter().for_each(|value| inner.varint(*value));
        self.bytes(field, &inner.0);
    }
}

/// Numbers for things that are written once.
struct Table<K> {
    numbers: HashMap<K, u64>,
    order: Vec<K>,
    first: u64,
}

impl<K: Clone + Eq + std::hash::Hash> Table<K> {
    fn new(first: u64) -> Self {
        Self { numbers: HashMap::new(), order: Vec::new(), first }
    }

    fn number(&mut self, key: &K) -> u64 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.first + self.order.len() as u64;
        self.numbers.insert(key.clone(), number);
        self.order.push(key.clone());
        number
    }
}

/// The four numbers of a sample, and their units.
const TYPES: [(&str, &str); 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

/// The live heap by stack, with the operation as the label `operation` of each sample: objects and bytes in use, and
/// allocated since the start. Bytes are estimated from samples; objects are samples. Looking names up takes its time and
/// memory: call it from a thread that may block. Empty when debug information cannot be read at all.
pub fn pprof() -> Vec<u8> {
    // Whatever the program's debug information holds, it must not end the program.
    std::panic::catch_unwind(write).unwrap_or_default()
}

fn write() -> Vec<u8> {
    let mut profile = Message::default();
    let mut strings = Table::new(0);
    let mut locations = Table::new(1);
    strings.number(&String::new());
    for (kind, unit) in TYPES {
        let mut value_type = Message::default();
        value_type.number(1, strings.number(&kind.to_owned()));
        value_type.number(2, strings.number(&unit.to_owned()));
        profile.bytes(1, &value_type.0);
    }
    for stack in stacks() {
        let message = sample(stack, &mut strings, &mut locations);
        profile.bytes(2, &message.0);
    }
    places(&mut profile, &mut strings, &locations.order);
    let mut period = Message::default();
    period.number(1, strings.number(&"space".to_owned()));
    period.number(2, strings.number(&"bytes".to_owned()));
    profile.bytes(11, &period.0);
    profile.number(12, crate::allocator::sampler::interval());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    profile.number(9, now.as_nanos() as u64);
    profile.number(14, strings.number(&"inuse_space".to_owned()));
    for string in &strings.order {
        profile.bytes(6, string.as_bytes());
    }
    profile.0
}

fn sample(stack: &Stack, strings: &mut Table<String>, locations: &mut Table<u64>) -> Message {
    let mut message = Message::default();
    let ids: Vec<u64> = stack.addresses().iter().map(|address| locations.number(address)).collect();
    message.packed(1, &ids);
    let live = stack.samples.load(Ordering::Relaxed).max(0) as u64;
    let allocations = stack.allocations.load(Ordering::Relaxed);
    let allocated = stack.allocated.load(Ordering::Relaxed);
    message.packed(2, &[allocations, allocated, live, stack.live()]);
    let mut label = Message::default();
    label.number(1, strings.number(&"operation".to_owned()));
    label.number(2, strings.number(&crate::operations::name(stack.operation()).to_owned()));
    message.bytes(3, &label.0);
    message
}

fn places(profile: &mut Message, strings: &mut Table<String>, addresses: &[u64]) {
    let mut names = Names::default();
    let mut functions: Table<(String, String)> = Table::new(1);
    for (index, address) in addresses.iter().enumerate() {
        let mut location = Message::default();
        location.number(1, index as u64 + 1);
        location.number(3, *address);
        for place in names.places(*address) {
            let (file, line) = place.location.rsplit_once(':').unwrap_or(("", "0"));
            let mut told = Message::default();
            told.number(1, functions.number(&(place.function.clone(), file.to_owned())));
            told.number(2, line.parse().unwrap_or(0));
            location.bytes(4, &told.0);
        }
        profile.bytes(4, &location.0);
    }
    names.unload();
    for (index, (function, file)) in functions.order.iter().enumerate() {
        let mut message = Message::default();
        let name = strings.number(function);
        message.number(1, index as u64 + 1);
        message.number(2, name);
        message.number(3, name);
        message.number(4, strings.number(file));
        profile.bytes(5, &message.0);
    }
}
