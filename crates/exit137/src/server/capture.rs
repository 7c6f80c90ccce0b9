//! An incident as a folder that `exit137 diagnose` reads: exactly what its verdict was made from, redacted.

use std::collections::BTreeMap;
use std::io::{self, Write};

use exit137_sources::Carries;
use exit137_store::{Encoding, Kind};

use super::evidence::{self, Piece};
use super::incident::Summary;
use super::judge::{JudgeError, file_of};
use super::recorder::Recorder;
use super::redact::Redactor;
use super::subject::Scope;
use super::tar;
use super::verdicts;

/// Low: a capture is made once and sent over a network.
const COMPRESSION_LEVEL: i32 = 3;

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error("there is no incident \"{0}\"")]
    NoIncident(String),
    #[error(transparent)]
    Evidence(#[from] JudgeError),
    #[error("cannot read what is recorded")]
    Read(#[source] io::Error),
    #[error("cannot compress the capture")]
    Compress(#[source] io::Error),
    #[error("there are no random numbers to redact with")]
    Random,
}

/// Files of the folder, compressed while they grow.
struct Folder<'r> {
    files: BTreeMap<String, zstd::stream::Encoder<'static, Vec<u8>>>,
    redactor: &'r Redactor,
    journals: usize,
    failure: Option<io::Error>,
}

impl Folder<'_> {
    fn add(&mut self, piece: Piece<'_>) {
        let carries = match piece.kind {
            Kind::Spans => Carries::Traces,
            Kind::Logs => Carries::Logs,
            _ => Carries::Metrics,
        };
        let name = file_of(piece.kind, piece.encoding);
        match (piece.kind, piece.encoding) {
            (Kind::KernelLog, _) => self.append(format!("kernel/{}/{name}", piece.container), piece.bytes),
            (Kind::Journal, _) => {
                self.journals += 1;
                self.append(format!("journals/{}", self.journals), piece.bytes);
            }
            (_, Encoding::Protobuf) => {
                let message = self.redactor.protobuf(carries, piece.bytes);
                // Each message after its length, as the Collector's file exporter writes it.
                let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
                self.append(name.to_owned(), &length);
                self.append(name.to_owned(), &message);
            }
            (_, Encoding::Json) => {
                let mut document = self.redactor.json(piece.bytes);
                document.push(b'\n');
                self.append(name.to_owned(), &document);
            }
            _ => self.append(name.to_owned(), piece.bytes),
        }
    }

    fn append(&mut self, name: String, bytes: &[u8]) {
        if let Err(error) = self.try_append(name, bytes) {
            self.failure.get_or_insert(error);
        }
    }

    fn try_append(&mut self, name: String, bytes: &[u8]) -> io::Result<()> {
        let file = match self.files.entry(name) {
            std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(zstd::stream::Encoder::new(Vec::new(), COMPRESSION_LEVEL)?)
            }
        };
        file.write_all(bytes)
    }
}

/// The capture of an incident: file names and contents.
pub(super) fn files(recorder: &Recorder, id: &str) -> Result<Vec<(String, Vec<u8>)>, CaptureError> {
    let summary = recorder.summary(id).ok_or_else(|| CaptureError::NoIncident(id.to_owned()))?;
    let (subject, kills) = verdicts::subject_of(&summary);
    let window = verdicts::window(recorder, &kills);
    let scope = Scope::resolve(&recorder.store, &subject, window.from).map_err(JudgeError::from)?;
    let redactor = Redactor::new(&recorder.config.redact).ok_or(CaptureError::Random)?;
    let mut folder = Folder { files: BTreeMap::new(), redactor: &redactor, journals: 0, failure: None };
    evidence::gather(&recorder.store, &scope, &window, &mut |piece| folder.add(piece))
        .map_err(CaptureError::Read)?;
    if let Some(error) = folder.failure {
        return Err(CaptureError::Compress(error));
    }
    let mut files = vec![("README.md".to_owned(), readme(&summary).into_bytes())];
    for (name, file) in folder.files {
        // Names of times are told by their content; compressed ones too, but people like to look into small files.
        let bytes = file.finish().map_err(CaptureError::Compress)?;
        files.push((format!("{name}.zst"), bytes));
    }
    Ok(files)
}

/// The same in one file.
pub(super) fn archive(recorder: &Recorder, id: &str) -> Result<Vec<u8>, CaptureError> {
    let files = files(recorder, id)?;
    Ok(tar::write(&format!("exit137-{id}"), &files))
}

fn readme(summary: &Summary) -> String {
    format!(
        "# Incident {}\n\n{}\n\nCaptured by `exit137 serve`. To judge it again: `exit137 diagnose` and the name of this folder.\n\n\
         Values that may name persons or open doors were replaced by marks; equal marks were equal values.\n",
        summary.id,
        crate::output::clean_line(&summary.headline)
    )
}
