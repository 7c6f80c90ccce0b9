//! Sends and fetches over HTTP/1.1, with TLS where the address says so: one connection that is kept, blocking, with a time limit on
//! everything. A client library would bring a runtime that takes more memory than the rest of the agent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// To connect, and for each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers to what is sent are a few bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Status line and headers.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// A chunk's size, with extensions that nobody uses.
const CHUNK_LINE_BYTES_MAX: u64 = 1024;
const TRAILERS_MAX: usize = 16;

/// Where certificates of authorities lie on the distributions that there are.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// An address that requests can be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    /// What stands before `/v1/logs`, without a slash at its end.
    prefix: String,
}

/// Why requests cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error("expected an address like http://collector:4318, found \"{0}\"")]
    Address(String),
    #[error("cannot read certificates from {path}")]
    Certificates { path: String, source: rustls::pki_types::pem::Error },
    #[error("no certificates of authorities found: name a file with --ca-file")]
    NoCertificates,
    #[error("cannot use TLS")]
    Tls(#[from] rustls::Error),
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Address(text.to_owned());
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let usual = if tls { 443 } else { 4318 };
        let (host, port) = match authority.rsplit_once(':') {
            // The last colon of an IPv6 address stands inside its brackets.
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, usual),
        };
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
        if host.is_empty() || !plain(host) || !plain(path) {
            return Err(wrong());
        }
        let prefix = if path.is_empty() { String::new() } else { format!("/{}", path.trim_end_matches('/')) };
        Ok(Self { tls, host: host.to_owned(), port, prefix })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.prefix)
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Retry-After` in seconds.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Sends to one endpoint.
pub(crate) struct Client {
    endpoint: Endpoint,
    /// Lines of the head that every request has.
    headers: String,
    tls: Option<Arc<ClientConfig>>,
    stream: Option<BufReader<Stream>>,
}

impl Client {
    /// Nothing is connected yet. `headers` are names and values.
    pub(crate) fn new(
        endpoint: Endpoint,
        headers: &[(String, String)],
        ca_file: Option<&Path>,
    ) -> Result<Self, EndpointError> {
        let tls = if endpoint.tls { Some(Arc::new(tls_config(ca_file)?)) } else { None };
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Ok(Self { endpoint, headers: lines, tls, stream: None })
    }

    /// Posts a protobuf message to `path`.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.request("POST", path, Some(body), ANSWER_BYTES_MAX)
    }

    /// Fetches JSON from `path`; a body of more than `bytes_max` is cut off there.
    pub(crate) fn get(&mut self, path: &str, bytes_max: u64) -> io::Result<Answer> {
        self.request("GET", path, None, bytes_max)
    }

    /// A connection that was closed while it was idle is opened anew, once.
    fn request(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        bytes_max: u64,
    ) -> io::Result<Answer> {
        let reused = self.stream.is_some();
        let mut result = self.attempt(method, path, body, bytes_max);
        if result.is_err() && reused {
            self.stream = None;
            result = self.attempt(method, path, body, bytes_max);
        }
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    fn attempt(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        bytes_max: u64,
    ) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let Endpoint { host, port, prefix, .. } = &self.endpoint;
        let about = body.map_or_else(
            || "Accept: application/json\r\n".to_owned(),
            |body| format!("Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n", body.len()),
        );
        let head = format!(
            "{method} {prefix}{path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: exit137-agent/{}\r\n{about}{}\r\n",
            env!("CARGO_PKG_VERSION"),
            self.headers
        );
        let out = stream.get_mut();
        out.write_all(head.as_bytes())?;
        out.write_all(body.unwrap_or_default())?;
        out.flush()?;
        let (answer, keep) = answer(&mut stream, bytes_max)?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<Stream>> {
        let host = self.endpoint.host.trim_start_matches('[').trim_end_matches(']');
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, self.endpoint.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, IO_TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(IO_TIMEOUT))?;
                    stream.set_write_timeout(Some(IO_TIMEOUT))?;
                    stream.set_nodelay(true)?;
                    return Ok(BufReader::with_capacity(4096, self.secured(host, stream)?));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn secured(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        let Some(config) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
    }
}

fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, EndpointError> {
    let usual = || CERTIFICATES.iter().map(Path::new).find(|path| path.exists());
    let path = ca_file.or_else(usual).ok_or(EndpointError::NoCertificates)?;
    let failed = |source| EndpointError::Certificates { path: path.display().to_string(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        // A system's list may hold one that this library does not understand.
        let _ = roots.add(certificate.map_err(failed)?);
    }
    if roots.is_empty() {
        return Err(EndpointError::NoCertificates);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Reads the answer, and whether the connection can be used again.
fn answer(stream: &mut impl BufRead, bytes_max: u64) -> io::Result<(Answer, bool)> {
    let mut line = String::new();
    let mut head = stream.by_ref().take(HEAD_BYTES_MAX);
    head.read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok());
    let status: u16 = status.ok_or_else(|| bad("a status line"))?;
    let (mut length, mut retry_after, mut keep, mut chunked) = (None, None, true, false);
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(bad("a header's end"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<u64>().ok(),
            "retry-after" => retry_after = value.parse().ok().map(Duration::from_secs),
            "connection" => keep = !value.eq_ignore_ascii_case("close"),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    // Of a longer answer the rest is not read, and the connection is closed: the status may be all that is wanted.
    let mut body = Vec::new();
    let whole = match length {
        _ if status == 204 || status == 304 => true,
        _ if chunked => chunks(stream, bytes_max, &mut body)?,
        Some(length) => part(stream, length, bytes_max, &mut body)?,
        // It ends with the connection.
        None => {
            stream.take(bytes_max).read_to_end(&mut body)?;
            false
        }
    };
    keep &= whole;
    Ok((Answer { status, retry_after, body }, keep))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: expected {what}"))
}

/// Appends the next `length` bytes to `body`; not all of them when it would become longer than `bytes_max`, and says so.
fn part(stream: &mut impl BufRead, length: u64, bytes_max: u64, body: &mut Vec<u8>) -> io::Result<bool> {
    let wanted = length.min(bytes_max.saturating_sub(body.len() as u64));
    // Space is made as bytes come, not as they are promised.
    let read = stream.take(wanted).read_to_end(body)?;
    if read as u64 == wanted { Ok(wanted == length) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A body in chunks (RFC 9112, section 7.1), and whether it was read to its end.
fn chunks(stream: &mut impl BufRead, bytes_max: u64, body: &mut Vec<u8>) -> io::Result<bool> {
    let mut line = String::new();
    let mut next_line = |stream: &mut dyn BufRead| {
        line.clear();
        stream.take(CHUNK_LINE_BYTES_MAX).read_line(&mut line)?;
        if line.ends_with('\n') { Ok(line.trim_end().to_owned()) } else { Err(bad("a line of a chunk")) }
    };
    loop {
        let line = next_line(stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| bad("the size of a chunk"))?;
        if size == 0 {
            break;
        }
        if !part(stream, size, bytes_max, body)? {
            return Ok(false);
        }
        if !next_line(stream)?.is_empty() {
            return Err(bad("the end of a chunk"));
        }
    }
    // Trailers are nothing to us.
    for _ in 0..TRAILERS_MAX {
        if next_line(stream)?.is_empty() {
            return Ok(true);
        }
    }
    Err(bad("the end of the trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_with_a_scheme() {
        for (text, expected) in [
            ("http://collector:4318", Some("http://collector:4318")),
            ("http://collector", Some("http://collector:4318")),
            ("https://otlp.example.com/team/", Some("https://otlp.example.com:443/team")),
            ("http://[::1]:80", Some("http://[::1]:80")),
            ("http://[::1]", Some("http://[::1]:4318")),
            ("collector:4318", None),
            ("ftp://x", None),
            ("http://a b", None),
            ("http://x:99999", None),
            ("http://user@x", None),
            ("http://", None),
        ] {
            let shown = text.parse::<Endpoint>().ok().map(|endpoint| endpoint.to_string());
            assert_eq!(shown.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let read = |text: &str| {
            answer(&mut text.as_bytes(), 8).ok().map(|(answer, keep)| (answer.status, answer.body, keep))
        };
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(read(ok), Some((200, b"ab".to_vec(), true)));
        assert_eq!(
            read("HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
            Some((503, vec![], false))
        );
        let chunked =
            |rest: &str| read(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}"));
        assert_eq!(chunked("0\r\n\r\n"), Some((200, vec![], true)));
        assert_eq!(chunked("2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\n"), Some((200, b"abc".to_vec(), true)));
        for rest in ["", "2\r\nab", "2\r\nabc\r\n0\r\n\r\n", "x\r\n", "ffffffffffffffff\r\n"] {
            assert_eq!(chunked(rest), None, "{rest}");
        }
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nab"), Some((200, b"ab".to_vec(), false)));
        let long = Some((200, b"12345678".to_vec(), false));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789"), long);
        assert_eq!(chunked("9\r\n123456789\r\n0\r\n\r\n"), long);
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n"), Some((204, vec![], true)));
        for text in
            ["", "SSH-2.0\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na", "HTTP/1.1 200 OK\r\n"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        let busy = "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
        let (busy, _) = answer(&mut busy.as_bytes(), 8).expect("an answer");
        assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
    }
}
