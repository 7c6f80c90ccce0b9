//! What a receiver may be told, with the values that do when nothing is said.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The options of a receiver; [`ReceiverOptions::default`] listens on the two well-known ports of this machine.
#[derive(Debug, Clone)]
pub struct ReceiverOptions {
    /// OTLP over HTTP: `/v1/traces`, `/v1/metrics`, `/v1/logs`.
    pub http: Option<SocketAddr>,
    /// OTLP over gRPC.
    pub grpc: Option<SocketAddr>,
    /// TLS on both; plain text without.
    pub tls: Option<Tls>,
    /// Any of these opens the door; without any it is open.
    pub tokens: Vec<Token>,
    /// Origins whose pages may send from a browser, as `https://shop.example`; `*` for all. None by default.
    pub cors_origins: Vec<String>,
    /// A longer body, as sent, is refused.
    pub body_bytes_max: usize,
    /// A body that gets longer than this when decompressed is refused.
    pub decompressed_bytes_max: usize,
    /// Bodies of all connections together, from arrival until the sink has answered.
    pub in_flight_bytes_max: usize,
    /// Connections at a time, as far as their buffers fit.
    pub connections_max: usize,
    /// Buffers of all connections together. The first to come get large ones for a quarter of it, the others small ones.
    pub connection_bytes_max: usize,
    /// From a connection's start to its first request, TLS included.
    pub header_timeout: Duration,
    /// From the head of a request to the end of its body.
    pub body_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// For requests that have begun when the receiver is told to stop.
    pub shutdown_grace: Duration,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 4318))),
            grpc: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 4317))),
            tls: None,
            tokens: Vec::new(),
            cors_origins: Vec::new(),
            // The Collector's HTTP receiver takes 20 MiB; SDKs send a few hundred kilobytes.
            body_bytes_max: 20 << 20,
            decompressed_bytes_max: 32 << 20,
            in_flight_bytes_max: 64 << 20,
            connections_max: 4096,
            connection_bytes_max: 48 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            // Metrics are exported every 60 s by default: their connection should live.
            idle_timeout: Duration::from_secs(150),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// Files with what TLS needs, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// When given, clients must show a certificate that one of these signed (mTLS).
    pub client_ca: Option<PathBuf>,
}

/// A bearer token. Never printed; compared in a time that tells nothing about it but its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token as senders write it after `Bearer `.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether `offered` is this token.
    pub fn is(&self, offered: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let difference = own.iter().zip(offered).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
        own.len() == offered.len() && difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_only_itself_and_is_not_printed() {
        let token = Token::new("s3cret");
        assert!(token.is(b"s3cret"));
        for other in [&b"s3cres"[..], b"", b"s3cret ", b"s3cre", b"S3cret"] {
            assert!(!token.is(other));
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
