//! How many requests an export tells of: spans of kind SERVER or CONSUMER. Only for the live line: it walks over what it
//! need not know, and counts what it can of anything malformed.

/// SERVER and CONSUMER.
const KINDS: [u64; 2] = [2, 5];

/// In an `ExportTraceServiceRequest` in protobuf.
pub(super) fn in_protobuf(body: &[u8]) -> u64 {
    let mut requests = 0;
    // resource_spans = 1, scope_spans = 2, spans = 2, kind = 6
    for resource in Fields(body).messages(1) {
        for scope in Fields(resource).messages(2) {
            for span in Fields(scope).messages(2) {
                let kind = Fields(span).find_map(|field| match field {
                    Field::Number(6, kind) => Some(kind),
                    _ => None,
                });
                requests += u64::from(kind.is_some_and(|kind| KINDS.contains(&kind)));
            }
        }
    }
    requests
}

/// In JSON, by the words that a kind is written in.
pub(super) fn in_json(body: &[u8]) -> u64 {
    let mut requests = 0;
    for (at, _) in body.windows(6).enumerate().filter(|(_, bytes)| *bytes == b"\"kind\"") {
        let value = body[at + 6..].trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii_start();
        let is_request = [&b"2"[..], b"5", b"\"SPAN_KIND_SERVER\"", b"\"SPAN_KIND_CONSUMER\""]
            .iter()
            .any(|kind| value.starts_with(kind));
        requests += u64::from(is_request);
    }
    requests
}

enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
    Other,
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn messages(self, wanted: u64) -> impl Iterator<Item = &'a [u8]> {
        self.filter_map(move |field| match field {
            Field::Bytes(number, bytes) if number == wanted => Some(bytes),
            _ => None,
        })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let number = key >> 3;
        match key & 7 {
            0 => Some(Field::Number(number, self.varint()?)),
            1 => self.bytes(8).map(|_| Field::Other),
            2 => {
                let length = self.varint()?;
                Some(Field::Bytes(number, self.bytes(length)?))
            }
            5 => self.bytes(4).map(|_| Field::Other),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    fn export(kinds: &[i32]) -> ExportTraceServiceRequest {
        let span = |kind: &i32| Span { kind: *kind, name: "kind".into(), ..Span::default() };
        let spans = kinds.iter().map(span).collect();
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        }
    }

    #[test]
    fn servers_and_consumers_are_requests_in_both_encodings() {
        let export = export(&[1, 2, 3, 4, 5, 2]);
        assert_eq!(in_protobuf(&export.encode_to_vec()), 3);
        assert_eq!(in_json(&serde_json::to_vec(&export).expect("JSON")), 3);
        assert_eq!(in_json(br#"{"kind": "SPAN_KIND_CONSUMER"}"#), 1);
    }

    #[test]
    fn rubbish_counts_for_what_can_be_read_of_it() {
        let bytes = export(&[2, 2, 2]).encode_to_vec();
        for end in 0..bytes.len() {
            assert!(in_protobuf(&bytes[..end]) <= 3);
        }
        assert_eq!(in_protobuf(&[0xff; 64]), 0);
        assert_eq!(in_json(b"\"kind\""), 0);
    }
}
