//! Where to listen: an address and a port, or `off`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// An address to listen on, unless it is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

const EXPECTED: &str = "an address like 127.0.0.1:1370 or [::]:1370, or \"off\"";

impl Listen {
    /// This port, for this machine alone.
    pub(crate) const fn local(port: u16) -> Self {
        Self(Some(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)))
    }

    /// Whether others than this machine may come.
    pub(crate) fn is_public(self) -> bool {
        self.0.is_some_and(|address| !address.ip().is_loopback())
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let whole = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = whole.as_deref().unwrap_or(text).parse();
        address
            .map(|address| Self(Some(address)))
            .map_err(|_| format!("expected {EXPECTED}, found \"{text}\""))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Listen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        assert_eq!("127.0.0.1:1370".parse(), Ok(Listen::local(1370)));
        assert_eq!("localhost:1370".parse(), Ok(Listen::local(1370)));
        assert_eq!("off".parse(), Ok(Listen(None)));
        assert!("[::]:4317".parse::<Listen>().expect("an address").is_public());
        for text in ["", "1370", "localhost", "example.com:80", "127.0.0.1:99999"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
