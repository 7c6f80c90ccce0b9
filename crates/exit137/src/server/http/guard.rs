//! Who may come in, and what browsers are told to refuse.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Only our own style sheet and forms: even markup that slipped through could load nothing.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Whom to let in.
#[derive(Debug, Default)]
pub(in crate::server) struct Guard {
    /// SHA-256 of every token that opens; without any, everybody may come.
    tokens: Vec<[u8; 32]>,
    /// Names under which this server may be called, when it serves only its own machine. A page from elsewhere that
    /// makes its name mean 127.0.0.1 is told apart by it.
    hosts: Option<Vec<String>>,
}

fn digest(token: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token).as_ref());
    out
}

impl Guard {
    /// Lets in whoever shows one of these tokens.
    pub(in crate::server) fn new(tokens: &[String], local_only: bool, public_url: Option<&str>) -> Self {
        let hosts = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let public = public_url.and_then(|url| url.parse::<axum::http::Uri>().ok());
        let public = public.and_then(|uri| uri.host().map(str::to_owned));
        Self {
            tokens: tokens.iter().map(|token| digest(token.as_bytes())).collect(),
            hosts: local_only.then(|| hosts.into_iter().chain(public).collect()),
        }
    }

    fn is_open(&self, headers: &HeaderMap) -> bool {
        if self.tokens.is_empty() {
            return true;
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|given| {
            let (scheme, rest) = given.split_once(' ')?;
            match scheme.to_ascii_lowercase().as_str() {
                "bearer" => Some(rest.trim().as_bytes().to_vec()),
                // What browsers ask a person for: any name, and the token as the password.
                "basic" => password(rest.trim()),
                _ => None,
            }
        });
        // Digests are compared, not tokens: how long that takes tells nothing of a token.
        token.is_some_and(|token| self.tokens.contains(&digest(&token)))
    }

    fn knows_host(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        // HTTP/2, which browsers speak over TLS, has it in the address and no such header.
        let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let host = named.or_else(|| uri.authority().map(Authority::host)).unwrap_or_default();
        let name = match host.rfind(':') {
            Some(colon) if !host.ends_with(']') => &host[..colon],
            _ => host,
        };
        hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The password of `name:password` in base64.
fn password(encoded: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(encoded.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in encoded.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    Some(bytes.split_off(colon + 1))
}

/// Turns away who has no token, and requests that another site makes a browser send.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !guard.knows_host(headers, request.uri()) {
        let text = "this server serves its own machine only: call it localhost, or set --public-url\n";
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    if !guard.is_open(headers) {
        let asks = [(header::WWW_AUTHENTICATE, "Basic realm=\"exit137: any name, a token as the password\"")];
        return (StatusCode::UNAUTHORIZED, asks, "expected a bearer token\n").into_response();
    }
    let from_elsewhere = headers
        .get("sec-fetch-site")
        .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    if from_elsewhere && request.method() != Method::GET {
        return (StatusCode::FORBIDDEN, "expected a request from a page of this server\n").into_response();
    }
    next.run(request).await
}

/// Adds to every answer what browsers must not do with it.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn a_token_opens_as_a_bearer_or_as_a_password() {
        let guard = Guard::new(&["s3cret".to_owned()], false, None);
        for (value, opens) in [
            ("Bearer s3cret", true),
            ("bearer s3cret", true),
            ("Basic bWU6czNjcmV0", true),
            ("Basic czNjcmV0", false),
            ("Basic %%%", false),
            ("Bearer s3cre", false),
            ("Bearer ", false),
            ("s3cret", false),
        ] {
            assert_eq!(guard.is_open(&headers(header::AUTHORIZATION, value)), opens, "{value}");
        }
        assert!(!guard.is_open(&HeaderMap::new()));
        assert!(Guard::default().is_open(&HeaderMap::new()));
    }

    #[test]
    fn a_server_of_one_machine_is_not_called_by_other_names() {
        let guard = Guard::new(&[], true, Some("https://recorder.example/x"));
        for (host, known) in [
            ("localhost:1370", true),
            ("127.0.0.1:1370", true),
            ("[::1]:1370", true),
            ("[::1]", true),
            ("recorder.example", true),
            ("evil.example:1370", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(guard.knows_host(&headers(header::HOST, host), &Uri::default()), known, "{host}");
            let over_http2: Uri = format!("https://{host}/").parse().expect("an address");
            assert_eq!(guard.knows_host(&HeaderMap::new(), &over_http2), known, "{host}");
        }
        assert!(!guard.knows_host(&HeaderMap::new(), &Uri::default()));
    }
}
