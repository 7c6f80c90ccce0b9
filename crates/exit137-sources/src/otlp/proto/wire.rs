//! The protobuf wire format: one message's fields in the order they were written, nothing copied.

/// Groups are obsolete; nobody nests them deeper on purpose.
const GROUPS_DEEP_MAX: usize = 16;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The fields of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What was not read yet.
    #[cfg(feature = "live")]
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next field and its number; groups are stepped over.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Malformed> {
        // Most fields are short texts and messages: a byte of tag, a byte of length.
        match self.rest {
            [] => return Ok(None),
            [tag, length, rest @ ..] if *tag < 0x80 && tag & 7 == 2 && *length < 0x80 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Malformed)?;
                self.rest = rest;
                return Ok(Some((u64::from(tag >> 3), Field::Bytes(bytes))));
            }
            _ => {}
        }
        self.next_of_any_kind()
    }

    fn next_of_any_kind(&mut self) -> Result<Option<(u64, Field<'a>)>, Malformed> {
        while !self.rest.is_empty() {
            let tag = self.varint()?;
            match self.value(tag & 7)? {
                Some(field) => return Ok(Some((tag >> 3, field))),
                None => self.skip_group()?,
            }
        }
        Ok(None)
    }

    /// `None` at the start of a group.
    fn value(&mut self, wire_type: u64) -> Result<Option<Field<'a>>, Malformed> {
        Ok(Some(match wire_type {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.chunk()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            3 => return Ok(None),
            5 => Field::Fixed32(u32::from_le_bytes(self.chunk()?)),
            _ => return Err(Malformed),
        }))
    }

    fn skip_group(&mut self) -> Result<(), Malformed> {
        let mut depth = 1;
        while depth > 0 {
            match self.varint()? & 7 {
                4 => depth -= 1,
                wire_type => {
                    if self.value(wire_type)?.is_none() {
                        depth += 1;
                    }
                }
            }
            if depth > GROUPS_DEEP_MAX {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (chunk, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*chunk)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (place, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

/// All numbers of a repeated field of fixed width, packed or single.
pub(crate) fn fixed64s(field: Field<'_>, into: &mut Vec<u64>, max: usize) -> Result<(), Malformed> {
    match field {
        Field::Fixed64(number) => into.push(number),
        Field::Bytes(packed) => {
            let numbers = packed.chunks(8).map(|chunk| chunk.try_into().map(u64::from_le_bytes));
            for number in numbers.take(max.saturating_add(1)) {
                into.push(number.map_err(|_| Malformed)?);
            }
        }
        _ => return Err(Malformed),
    }
    if into.len() > max { Err(Malformed) } else { Ok(()) }
}

/// All numbers of a repeated varint field, packed or single.
pub(crate) fn varints(field: Field<'_>, into: &mut Vec<u64>, max: usize) -> Result<(), Malformed> {
    match field {
        Field::Varint(number) => into.push(number),
        Field::Bytes(packed) => {
            let mut fields = Fields::of(packed);
            while !fields.rest.is_empty() && into.len() <= max {
                into.push(fields.varint()?);
            }
        }
        _ => return Err(Malformed),
    }
    if into.len() > max { Err(Malformed) } else { Ok(()) }
}

/// A signed number as `sint32` writes it.
pub(crate) fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
