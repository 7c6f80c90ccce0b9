//! Cuts a stream into blocks of whole documents, which workers decode at the same time.
//!
//! The usual cut is a line break between `}` and `{`: outside a string no valid document contains that, inside a
//! string a line break is not allowed, so it holds for one document a line and for indented ones alike. Where
//! there may be no such place (an array around all, documents without a line break between them), brackets are
//! counted instead, which is slower.

use std::io::{self, Read};
use std::mem;

use memchr::memchr_iter;

use super::stream::{self, Stream};
use crate::otlp::json::cursor::Cursor;

/// Enough to keep a worker busy, little enough to stay in the processor's cache.
const BLOCK_BYTES: usize = 1 << 20;

/// A larger document is stepped over. Tests have no time to write such a one.
pub(super) const DOCUMENT_BYTES_MAX: usize = if cfg!(test) { 4 << 20 } else { 256 << 20 };

/// What is read to tell the kind of a file.
const HEAD_BYTES: usize = 64 << 10;

/// Bytes that are kept between blocks: growing it clears memory, filling it again does not.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    fn append(&mut self, more: &[u8]) {
        self.reserve(more.len());
        self.bytes[self.filled..self.filled + more.len()].copy_from_slice(more);
        self.filled += more.len();
    }

    fn reserve(&mut self, more: usize) {
        if self.bytes.len() < self.filled + more {
            // A large document would otherwise be copied at every step on the way to its end.
            let length = (self.filled + more).max(self.bytes.len() * 3 / 2);
            self.bytes.resize(length, 0);
        }
    }

    fn read_from(&mut self, reader: &mut Stream<'_>, bytes: usize) -> (usize, io::Result<()>) {
        self.reserve(bytes);
        let (read, result) = stream::fill(reader, &mut self.bytes[self.filled..self.filled + bytes]);
        self.filled += read;
        (read, result)
    }
}

/// How documents follow each other.
#[derive(Debug)]
enum Framing {
    Lines,
    Brackets(Brackets),
}

/// A file being cut into blocks.
pub(super) struct Blocks<'a> {
    reader: Stream<'a>,
    /// Read and not handed out.
    carry: Vec<u8>,
    line: usize,
    ended: bool,
    /// Why the end came early.
    failure: Option<io::Error>,
    framing: Framing,
    /// Inside a document that is too large.
    skipping: bool,
}

/// What [`Blocks::next`] put into the buffer.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Documents; the first is at this line.
    Block(usize),
    /// A document that started at this line was stepped over: too large.
    TooLarge(usize),
    /// No more.
    End,
}

impl<'a> Blocks<'a> {
    /// Reads the head of `reader`.
    pub(super) fn open(mut reader: Stream<'a>) -> Self {
        let mut carry = vec![0; HEAD_BYTES];
        let (read, result) = stream::fill(&mut reader, &mut carry);
        carry.truncate(read);
        let framing = framing(&carry);
        let ended = read < HEAD_BYTES;
        Self { reader, carry, line: 1, ended, failure: result.err(), framing, skipping: false }
    }

    /// Why the end came early, told once.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// The first bytes of the file, all of them if it is small.
    pub(super) fn head(&self) -> &[u8] {
        &self.carry
    }

    /// Whether the head is the whole file.
    pub(super) fn is_small(&self) -> bool {
        self.ended
    }

    /// The stream from its start, for sources that read by themselves.
    pub(super) fn into_stream(self) -> Stream<'a> {
        Box::new(io::Cursor::new(self.carry).chain(self.reader))
    }

    /// Fills `buffer` with the next documents.
    pub(super) fn next(&mut self, buffer: &mut Buffer) -> Next {
        buffer.filled = 0;
        buffer.append(&mem::take(&mut self.carry));
        let mut searched = 0;
        loop {
            if !self.ended && (buffer.filled < BLOCK_BYTES || searched == buffer.filled) {
                let (read, result) = buffer.read_from(&mut self.reader, BLOCK_BYTES);
                self.ended = read < BLOCK_BYTES;
                self.failure = result.err();
            }
            let cut = self.cut(buffer.bytes(), searched);
            if let Some(cut) = if self.ended && !self.skipping { Some(buffer.filled) } else { cut } {
                return self.hand_out(buffer, cut);
            }
            if self.ended {
                return self.hand_out(buffer, buffer.filled);
            }
            searched = buffer.filled;
            if buffer.filled > DOCUMENT_BYTES_MAX {
                self.discard(buffer);
                searched = 0;
            }
        }
    }

    fn hand_out(&mut self, buffer: &mut Buffer, cut: usize) -> Next {
        self.carry.extend_from_slice(&buffer.bytes()[cut..]);
        buffer.filled = cut;
        if let Framing::Brackets(brackets) = &mut self.framing {
            brackets.searched -= cut.min(brackets.searched);
            brackets.end = None;
        }
        let line = self.line;
        self.line += memchr_iter(b'\n', buffer.bytes()).count();
        if mem::take(&mut self.skipping) {
            return Next::TooLarge(line);
        }
        if cut == 0 && self.ended { Next::End } else { Next::Block(line) }
    }

    /// Forgets the start of a document that is too large; the last bytes may be part of a cut.
    fn discard(&mut self, buffer: &mut Buffer) {
        let keep = buffer.filled - 1;
        self.line += memchr_iter(b'\n', &buffer.bytes()[..keep]).count();
        let last = buffer.bytes()[keep];
        buffer.filled = 0;
        buffer.append(&[last]);
        buffer.bytes.truncate(BLOCK_BYTES);
        buffer.bytes.shrink_to_fit();
        self.skipping = true;
        if let Framing::Brackets(brackets) = &mut self.framing {
            brackets.searched = 1;
        }
    }

    /// Where the last whole document before the end of `bytes` ends. Nothing ends before `searched`.
    fn cut(&mut self, bytes: &[u8], searched: usize) -> Option<usize> {
        match &mut self.framing {
            Framing::Lines => {
                let from = searched.saturating_sub(LINE_CUT_BYTES);
                let starts = || memchr_iter(b'\n', &bytes[from..]).map(|at| from + at + 1);
                if self.skipping {
                    return starts().find(|&at| is_line_cut(bytes, at));
                }
                starts().rev().find(|&at| is_line_cut(bytes, at))
            }
            Framing::Brackets(brackets) => brackets.cut(bytes),
        }
    }
}

/// How far before its line break a cut can be recognised.
const LINE_CUT_BYTES: usize = 64;

/// Whether a document ends before and another starts at `at`, which follows a line break.
pub(super) fn is_line_cut(bytes: &[u8], at: usize) -> bool {
    if bytes.get(at) != Some(&b'{') {
        return false;
    }
    let before = bytes[..at].iter().rev().find(|byte| !byte.is_ascii_whitespace());
    before == Some(&b'}') || starts_otlp(&bytes[at..])
}

/// Whether these are the first bytes of an OTLP document as exporters write it. Inside a document nothing starts
/// like this, so the one before was cut off.
fn starts_otlp(bytes: &[u8]) -> bool {
    let rest = bytes.strip_prefix(b"{\"resource").unwrap_or_default();
    matches!(rest.first(), Some(b'S' | b'M' | b'L' | b'_'))
}

fn framing(head: &[u8]) -> Framing {
    let head_start = head.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let start = &head[head_start..];
    let mut cursor = Cursor::new(start);
    let is_array = start.first() == Some(&b'[');
    let two_on_a_line = start.first() == Some(&b'{') && cursor.skip().is_ok() && {
        let rest = &start[cursor.at()..];
        let next = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        matches!(next, Some(b'{' | b','))
    };
    if is_array || two_on_a_line {
        return Framing::Brackets(Brackets { base: usize::from(is_array), ..Brackets::default() });
    }
    Framing::Lines
}

/// Counts brackets across blocks.
#[derive(Debug, Default)]
struct Brackets {
    /// Depth between documents: 1 inside an array around all.
    base: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// How much of the buffer was counted.
    searched: usize,
    /// End of the last whole document.
    end: Option<usize>,
}

impl Brackets {
    fn cut(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate().skip(self.searched) {
            match byte {
                // A string cannot contain a line break: the document was cut off, the next starts here.
                b'\n' if self.in_string => {
                    self.in_string = false;
                    self.escaped = false;
                    self.depth = self.base;
                }
                _ if self.in_string => {
                    self.in_string = byte != b'"' || self.escaped;
                    self.escaped = byte == b'\\' && !self.escaped;
                }
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == self.base && byte == b'}' {
                        self.end = Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        self.searched = bytes.len();
        self.end
    }
}
