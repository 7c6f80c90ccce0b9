//! A pull reader over one JSON text: it borrows, allocates nothing and skips what nobody asks for.
//!
//! It accepts more than JSON (trailing commas, `null` for anything, numbers in strings), because what it meets
//! in the field is written by many hands. What it does not accept is a line break inside a string: that is how a
//! record that was cut off in the middle is told from the next one.

/// Deeper documents are broken on purpose.
pub(crate) const DEPTH_MAX: u32 = 64;

/// What was expected where. Whether the rest of the document can still be used is up to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Completes "expected …".
    pub(crate) expected: &'static str,
    /// Offset into the text.
    pub(crate) at: usize,
}

/// A string as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    /// Between the quotes.
    pub(crate) raw: &'a [u8],
    /// Whether there is a backslash in it.
    pub(crate) escaped: bool,
}

/// A scalar or the first byte of a container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    Number(&'a [u8]),
    Text(Text<'a>),
    /// `{` or `[`, not yet consumed.
    Container(u8),
}

/// The reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    pub(crate) fn fault<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault { expected, at: self.at })
    }

    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if byte > b' ' {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Consumes `text` if it comes next, to the letter.
    #[inline]
    pub(crate) fn eat_exactly<const N: usize>(&mut self, text: &[u8; N]) -> bool {
        let found = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<N>) == Some(text);
        self.at += if found { N } else { 0 };
        found
    }

    /// Enters an object; `false` for `null`.
    pub(crate) fn enter_object(&mut self) -> Result<bool, Fault> {
        self.enter(b'{', "an object")
    }

    /// Enters an array; `false` for `null`.
    pub(crate) fn enter_array(&mut self) -> Result<bool, Fault> {
        self.enter(b'[', "an array")
    }

    fn enter(&mut self, bracket: u8, expected: &'static str) -> Result<bool, Fault> {
        if self.eat(bracket) {
            return Ok(true);
        }
        if self.peek() == Some(b'n') {
            return self.word(b"null").map(|()| false);
        }
        self.fault(expected)
    }

    /// The next key of the object, `None` past its end. The cursor then stands before the value.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(None);
                }
                _ => return self.fault("a field name or '}'"),
            }
        }
        let key = self.text_at_quote()?;
        if !self.eat(b':') {
            return self.fault("':' after a field name");
        }
        Ok(Some(key.raw))
    }

    /// Whether the array has another element; the cursor then stands before it.
    #[inline]
    pub(crate) fn element(&mut self) -> Result<bool, Fault> {
        loop {
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(false);
                }
                Some(b'}' | b':') | None => return self.fault("',' or ']' in an array"),
                Some(_) => return Ok(true),
            }
        }
    }

    /// The next scalar, or which container comes.
    #[inline]
    pub(crate) fn token(&mut self) -> Result<Token<'a>, Fault> {
        match self.peek() {
            Some(b'"') => self.text_at_quote().map(Token::Text),
            Some(bracket @ (b'{' | b'[')) => Ok(Token::Container(bracket)),
            Some(b'n') => self.word(b"null").map(|()| Token::Null),
            Some(b't') => self.word(b"true").map(|()| Token::Bool(true)),
            Some(b'f') => self.word(b"false").map(|()| Token::Bool(false)),
            // A bare NaN or Infinity is no JSON, yet some writers make it.
            Some(b'-' | b'+' | b'0'..=b'9' | b'N' | b'I') => Ok(Token::Number(self.scalar())),
            _ => self.fault("a value"),
        }
    }

    /// A string; empty for `null`.
    #[inline]
    pub(crate) fn text(&mut self) -> Result<Text<'a>, Fault> {
        if self.peek() == Some(b'"') {
            return self.text_at_quote();
        }
        if self.peek() == Some(b'n') {
            return self.word(b"null").map(|()| Text { raw: b"", escaped: false });
        }
        self.fault("a string")
    }

    /// The text of a number, be it in quotes or not; empty for `null`.
    #[inline]
    pub(crate) fn number_text(&mut self) -> Result<&'a [u8], Fault> {
        let start = self.at;
        match self.token()? {
            Token::Number(raw) | Token::Text(Text { raw, escaped: false }) => Ok(raw),
            Token::Null => Ok(b""),
            _ => Err(Fault { expected: "a number", at: start }),
        }
    }

    #[inline]
    fn text_at_quote(&mut self) -> Result<Text<'a>, Fault> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = string_stop(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let raw = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                // A tab is harmless; a line break is the end of a record that was cut off.
                Some(b'\t') => self.at += 1,
                _ => return self.fault("the end of a string"),
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        self.fault("a value")
    }

    fn scalar(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let is_scalar = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = rest.iter().position(|byte| !is_scalar(byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Steps over the next value, whatever it is.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        match self.token()? {
            Token::Container(_) => self.skip_container(0),
            _ => Ok(()),
        }
    }

    /// Steps over the rest of the object whose fields are being read.
    pub(crate) fn skip_rest_of_object(&mut self) -> Result<(), Fault> {
        self.skip_container(1)
    }

    /// Skips until `depth` open objects and all that is inside them are closed. Brackets are matched by kind: a
    /// bit of `arrays` says whether that level is an array.
    fn skip_container(&mut self, mut depth: u32) -> Result<(), Fault> {
        let mut arrays: u64 = 0;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.text_at_quote()?;
                    continue;
                }
                b'{' | b'[' => {
                    if depth == DEPTH_MAX {
                        return self.fault("less than 64 levels of nesting");
                    }
                    arrays = arrays << 1 | u64::from(byte == b'[');
                    depth += 1;
                }
                b'}' | b']' => {
                    if arrays & 1 != u64::from(byte == b']') {
                        return self.fault("brackets that match");
                    }
                    arrays >>= 1;
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        self.fault("a closing bracket")
    }
}

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The first quote, backslash or control character at or after `at`; eight bytes a step.
#[inline]
fn string_stop(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (EACH * b'"' as u64);
        let backslash = word ^ (EACH * b'\\' as u64);
        // Each term marks the bytes that are zero (or below a space); a borrow can only mark a byte too many
        // above one that is marked rightly, and the lowest mark is what counts.
        let marks = (quote.wrapping_sub(EACH) & !quote)
            | (backslash.wrapping_sub(EACH) & !backslash)
            | (word.wrapping_sub(EACH * 0x20) & !word);
        let marks = marks & HIGH;
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// Writes `raw` without its escapes to the end of `out`. Escapes that mean nothing become `�`.
pub(crate) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (plain, used) = match rest.get(at + 1) {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(&byte @ (b'"' | b'\\' | b'/')) => (char::from(byte), 2),
            Some(b'u') => unescape_unicode(&rest[at..]),
            _ => (char::REPLACEMENT_CHARACTER, 1),
        };
        out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
        rest = rest.get(at + used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// `\uXXXX`, or two of them that make one character; with the number of bytes used.
fn unescape_unicode(escape: &[u8]) -> (char, usize) {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let Some(first) = unit(0) else {
        return (char::REPLACEMENT_CHARACTER, 2);
    };
    if let Some(plain) = char::from_u32(u32::from(first)) {
        return (plain, 6);
    }
    let pair = unit(6).and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    pair.map_or((char::REPLACEMENT_CHARACTER, 6), |plain| (plain, 12))
}
