//! What must not leave the house with a capture, by rule. `docs/serve.md` lists the rules.
//!
//! A value that is taken out is replaced by a mark that is the same wherever the value was the same, and different in
//! every capture: so requests that were alike stay alike, and the verdict stays what it was.

use exit137_sources::{Carries, rewrite_json, rewrite_protobuf};
use ring::hmac;
use ring::rand::SystemRandom;

use super::config::Redact;

/// Attributes whose values go, whatever they are. `*` stands for anything at the start or the end.
const ATTRIBUTES: &[&str] = &[
    "enduser.*",
    "user.*",
    "*password*",
    "*passwd*",
    "*secret*",
    "*token*",
    "*authorization*",
    "*cookie*",
    "*api_key*",
    "*apikey*",
    "*credential*",
    "client.address",
    "client.ip",
    "http.client_ip",
    "source.address",
    "net.sock.peer.addr",
    "db.user",
    "db.statement",
    "db.query.text",
    "db.query.parameter.*",
    "db.connection_string",
    "http.request.header.*",
    "http.response.header.*",
    "http.request.body*",
    "http.response.body*",
    "exception.stacktrace",
    "messaging.message.body*",
];

/// Fields of JSON documents that are names or numbers of the format itself, or by which records are joined.
const NAMES: &[&str] = &[
    "name",
    "kind",
    "apiVersion",
    "uid",
    "namespace",
    "nodeName",
    "image",
    "imageID",
    "containerID",
    "traceId",
    "spanId",
    "parentSpanId",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "timeUnixNano",
    "observedTimeUnixNano",
    "startedAt",
    "finishedAt",
    "creationTimestamp",
    "resourceVersion",
    "labels",
    "type",
    "reason",
    "unit",
];

/// The rules of one capture.
pub(super) struct Redactor {
    key: hmac::Key,
    attributes: Vec<String>,
    keep: Vec<String>,
}

impl Redactor {
    /// The built-in rules and those of the settings.
    pub(super) fn new(settings: &Redact) -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let attributes =
            ATTRIBUTES.iter().map(|pattern| (*pattern).to_owned()).chain(settings.attributes.clone());
        Some(Self { key, attributes: attributes.collect(), keep: settings.keep.clone() })
    }

    /// An export as protobuf, redacted.
    pub(super) fn protobuf(&self, carries: Carries, message: &[u8]) -> Vec<u8> {
        rewrite_protobuf(carries, message, &|key, value| self.value(key, value))
    }

    /// A JSON document, redacted; what is no JSON is left out.
    pub(super) fn json(&self, document: &[u8]) -> Vec<u8> {
        rewrite_json(document, NAMES, &|key, value| self.value(key, value)).unwrap_or_default()
    }

    /// What a value is replaced with; `None` when it stays.
    fn value(&self, key: &str, value: &str) -> Option<String> {
        let named = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, key));
        if named(&self.keep) {
            return None;
        }
        if !key.is_empty() && named(&self.attributes) {
            return Some(self.mark(value));
        }
        let redacted = self.text(value);
        (redacted != value).then_some(redacted)
    }

    /// `[redacted 3f9a01c2]`
    fn mark(&self, value: &str) -> String {
        let tag = hmac::sign(&self.key, value.as_bytes());
        let hex: String = tag.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("[redacted {hex}]")
    }

    /// Text without addresses of persons, tokens, and values of queries.
    fn text(&self, text: &str) -> String {
        let query = if is_address(text) { self.without_query(text) } else { text.to_owned() };
        let mut out = String::with_capacity(query.len());
        for (index, word) in query.split(' ').enumerate() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(&self.word(word, out.ends_with("earer ") || out.ends_with("asic ")));
        }
        out
    }

    fn word(&self, word: &str, after_scheme: bool) -> String {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_token = bare.starts_with("eyJ") && bare.len() > 40 && bare.matches('.').count() == 2;
        if is_token || is_mail(bare) || (after_scheme && bare.len() >= 8) {
            return word.replacen(bare, &self.mark(bare), 1);
        }
        word.to_owned()
    }

    /// `https://host/path?format=[redacted …]`: names of parameters say what was asked for, their values by whom.
    fn without_query(&self, text: &str) -> String {
        let Some((path, query)) = text.split_once('?') else {
            return without_user(text);
        };
        let (query, fragment) =
            query.split_once('#').map_or((query, None), |(query, rest)| (query, Some(rest)));
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if !value.is_empty() && !self.keeps_parameter(name) => {
                    format!("{name}={}", self.mark(value).replace(['[', ']', ' '], ""))
                }
                _ => pair.to_owned(),
            })
            .collect();
        let fragment = fragment.map_or_else(String::new, |rest| format!("#{rest}"));
        format!("{}?{}{fragment}", without_user(path), pairs.join("&"))
    }

    /// `keep = ["?format"]` keeps the values of a parameter.
    fn keeps_parameter(&self, name: &str) -> bool {
        self.keep.iter().any(|kept| kept.strip_prefix('?') == Some(name))
    }
}

fn is_address(text: &str) -> bool {
    !text.contains(' ')
        && (text.contains("://") || text.starts_with('/') || text.contains('?') && text.contains('='))
}

/// `https://name:password@host/` without what stands before the host.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => address.to_owned(),
    }
}

fn is_mail(word: &str) -> bool {
    let Some((name, host)) = word.split_once('@') else { return false };
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._%+-".contains(&b));
    !name.is_empty() && is_plain(name) && is_plain(host) && host.contains('.') && !host.starts_with('.')
}

/// Whether `key` is meant by `pattern`; case does not matter.
fn matches(pattern: &str, key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) if pattern.len() > 1 => key.contains(&pattern[1..pattern.len() - 1]),
        (Some(end), None) => key.ends_with(end),
        (None, Some(start)) => key.starts_with(start),
        _ => key == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(keep: &[&str]) -> Redactor {
        let keep = keep.iter().map(|kept| (*kept).to_owned()).collect();
        Redactor::new(&Redact { attributes: vec!["shop.card".to_owned()], keep }).expect("random numbers")
    }

    #[test]
    fn what_names_persons_or_opens_doors_goes() {
        let redactor = redactor(&[]);
        for (key, value, stays) in [
            ("enduser.id", "ann", false),
            ("shop.card", "visa", false),
            ("http.request.header.x-api-key", "k", false),
            ("app.session_token", "k", false),
            ("note", "ask ann@example.com today", false),
            ("note", "sent Bearer abcdefghijkl to it", false),
            ("url.full", "http://shop/pay?card=4111", false),
            ("url.full", "http://ann:pw@shop/pay", false),
            ("http.route", "/reports/{id}", true),
            ("report.format", "pdf", true),
            ("url.path", "/reports/7", true),
            ("service.name", "cart", true),
            ("process.command", "/bin/app", true),
        ] {
            assert_eq!(redactor.value(key, value).is_none(), stays, "{key} {value}");
        }
        let address = redactor.value("url.full", "http://shop/r?format=pdf&user=ann#top").expect("redacted");
        assert!(
            address.starts_with("http://shop/r?format=redacted") && address.ends_with("#top"),
            "{address}"
        );
        assert!(!address.contains("pdf") && !address.contains("ann"), "{address}");
    }

    #[test]
    fn what_was_alike_stays_alike_within_one_capture() {
        let (one, other) = (redactor(&[]), redactor(&[]));
        assert_eq!(one.value("user.id", "ann"), one.value("user.id", "ann"));
        assert_ne!(one.value("user.id", "ann"), one.value("user.id", "bob"));
        assert_ne!(one.value("user.id", "ann"), other.value("user.id", "ann"));
    }

    #[test]
    fn the_settings_can_keep_what_a_rule_would_take() {
        let redactor = redactor(&["user.tier", "?format"]);
        assert_eq!(redactor.value("user.tier", "gold"), None);
        assert_eq!(redactor.value("url.full", "http://shop/r?format=pdf"), None);
    }
}
