//! Doors for the fuzzers in `fuzz/`: each decoder by itself, and the whole reading from memory. Built only with
//! the feature `fuzzing`; nothing else may lean on it.

use std::path::PathBuf;
use std::sync::Arc;

use exit137_core::observation::{Observations, SourceKind};

use crate::input::{NoProgress, ReadOptions, read_memory};
use crate::location::Location;
use crate::otlp::sink::Sink;
use crate::{cgroup, journal, kernel_log, kubernetes, otlp};

/// A decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// One document of OTLP/JSON.
    OtlpJson,
    /// OTLP as protobuf: messages after their lengths, or one message.
    OtlpProto,
    /// One Kubernetes object, list or watch event.
    KubernetesJson,
    /// A YAML stream of Kubernetes objects.
    KubernetesYaml,
    /// A kernel log of any style, and the files that say when the machine booted.
    KernelLog,
    /// One cgroup sample.
    Cgroup,
    /// The journal of an instrumented process.
    Journal,
}

const AT: Location<'_> = Location { file: "fuzz", line: 1 };

/// What one decoder makes of `bytes`.
pub fn decode(decoder: Decoder, bytes: &[u8]) -> Observations {
    let mut sink = Sink::default();
    match decoder {
        Decoder::OtlpJson => {
            // Where it broke is a problem in the observations too.
            let _ = otlp::json::decode(bytes, AT, &mut sink);
        }
        Decoder::OtlpProto => {
            otlp::proto::looks_like(bytes);
            let mut reader = bytes;
            let _ = otlp::proto::decode(&mut reader, AT.file, &mut sink);
        }
        Decoder::KubernetesJson => {
            let _ = kubernetes::decode_json(bytes, AT, &mut sink.observations);
        }
        Decoder::KubernetesYaml => {
            kubernetes::looks_like_yaml(bytes);
            let text = String::from_utf8_lossy(bytes);
            let records = kubernetes::decode_yaml(&text, AT, &mut sink.observations);
            sink.count(SourceKind::Kubernetes, records);
        }
        Decoder::KernelLog => {
            kernel_log::looks_like(bytes);
            sink.observations.boot_times.extend(kernel_log::boot_time(bytes, AT.file));
            let mut reader = bytes;
            let _ = kernel_log::decode(&mut reader, AT.file, &mut sink.observations);
        }
        Decoder::Journal => {
            if let Ok(life) = journal::read(bytes) {
                journal::add(&life, AT.file, &mut sink.observations);
            }
        }
        Decoder::Cgroup => sink.observations.cgroup_samples.extend(cgroup::decode(bytes).ok()),
    }
    sink.observations
}

/// What reading files with this content finds, by everything between a file and its observations: compression,
/// the kind told by content, blocks, workers.
pub fn read(files: &[&[u8]], threads: usize) -> Observations {
    let files = files.iter().enumerate();
    let files = files.map(|(number, bytes)| (PathBuf::from(format!("file{number}")), Arc::from(*bytes)));
    read_memory(files.collect(), &ReadOptions { threads, ..ReadOptions::default() }, &NoProgress)
}
