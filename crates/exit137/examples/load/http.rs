//! The least that speaks HTTP/1.1, so that the load costs little beside what it measures.

use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::{Outcome, packed};

pub struct Client {
    stream: BufReader<TcpStream>,
    gzip: bool,
}

impl Client {
    pub fn connect(address: SocketAddr, gzip: bool) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), gzip })
    }

    pub fn post(&mut self, body: &[u8]) -> io::Result<Outcome> {
        let compressed = if self.gzip { packed(body, true)? } else { Vec::new() };
        let body = if self.gzip { &compressed } else { body };
        let encoding = if self.gzip { "content-encoding: gzip\r\n" } else { "" };
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: load\r\ncontent-type: application/x-protobuf\r\n{encoding}content-length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        let written = stream.write_vectored(&[IoSlice::new(head.as_bytes()), IoSlice::new(body)])?;
        if written < head.len() {
            return Err(io::Error::other("the head did not fit into the socket's buffer"));
        }
        stream.write_all(&body[written - head.len()..])?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Outcome> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status: u16 = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let mut length = 0;
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or_default();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        match status {
            200 if body.is_empty() => Ok(Outcome::Accepted),
            429 | 503 => Ok(Outcome::Later),
            _ => {
                let text = String::from_utf8_lossy(&body);
                Err(io::Error::other(format!("expected 200, 429 or 503, got {status}: {text}")))
            }
        }
    }
}
