//! Which span attributes are worth their memory. A verdict asks what a request did and to whom, never which
//! library recorded it.

/// What to do with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyClass {
    Keep,
    /// Only on spans that cross a process boundary: there a URL tells the route, elsewhere it repeats it.
    BoundaryOnly,
    Drop,
}

/// Dropped keys, with the reason. A name that ends in a dot stands for all that begin with it. Sorted by reason.
const DROPPED: &[(&str, &str)] = &[
    ("telemetry.", "names the library that recorded"),
    ("otel.scope.", "names the library that recorded"),
    ("otel.library.", "names the library that recorded"),
    ("thread.", "changes with every request and means nothing after it"),
    ("code.", "points into the source, as the span's name does in fewer words"),
    ("asgi.event.", "says which half of a response a span sends"),
    ("router.", "repeats the middleware's name and version"),
    ("network.protocol.", "the protocol's version costs no memory"),
    ("network.transport", "the protocol costs no memory"),
    ("network.type", "the protocol costs no memory"),
    ("network.peer.port", "an ephemeral port"),
    ("network.local.", "an address of the container itself, known from its resource"),
    ("net.", "old spelling of addresses and ports"),
    ("client.port", "an ephemeral port"),
    ("server.port", "the address says who was called"),
    ("user_agent.", "says who asked, not for what"),
    ("http.user_agent", "says who asked, not for what"),
    ("http.flavor", "the protocol's version costs no memory"),
    ("http.scheme", "the protocol costs no memory"),
    ("url.scheme", "the protocol costs no memory"),
    ("http.server_name", "the service's own name, known from its resource"),
    ("db.statement", "long and different each time; the span's name and collection stay"),
    ("db.query.text", "long and different each time; the span's name and collection stay"),
    ("db.query.parameter.", "may hold secrets, and is different each time"),
    ("db.user", "may hold secrets"),
    ("db.connection_string", "may hold secrets"),
    ("enduser.", "names persons"),
    ("exception.stacktrace", "long; type and message stay"),
    ("exception.escaped", "says nothing about memory"),
    ("message.id", "different each time"),
];

/// Keys whose values are URLs.
const URLS: &[&str] = &["http.target", "http.url", "url.full", "url.path", "url.query"];

pub(crate) fn classify(key: &str) -> KeyClass {
    if URLS.contains(&key) {
        return KeyClass::BoundaryOnly;
    }
    let dropped = DROPPED.iter().any(|(known, _)| match known.strip_suffix('.') {
        Some(_) => key.starts_with(known),
        None => key == *known,
    });
    if dropped { KeyClass::Drop } else { KeyClass::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_say_what_a_request_did_are_kept() {
        for (key, expected) in [
            ("http.route", KeyClass::Keep),
            ("memory.request.delta_mb", KeyClass::Keep),
            ("server.address", KeyClass::Keep),
            ("network.peer.address", KeyClass::Keep),
            ("url.full", KeyClass::BoundaryOnly),
            ("network.protocol.version", KeyClass::Drop),
            ("net.peer.ip", KeyClass::Drop),
            ("network.type", KeyClass::Drop),
            ("network.types", KeyClass::Keep),
        ] {
            assert_eq!(classify(key), expected, "{key}");
        }
    }
}
