//! The body of a request: read whole, then decompressed, each within its limit and charged as it grows.

use std::io::{self, Read};
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::budget::{Charge, Exhausted};

/// More is taken from the system only when the announced bytes really come.
const RESERVE_BYTES_MAX: usize = 1 << 20;

/// Decompressed at a stretch: about a hundred microseconds, after which others have their turn.
const STRETCH_BYTES: usize = 128 << 10;

/// A larger window would be memory that a few bytes ask for; what RFC 8878 wants every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zlib,
    Zstd,
}

impl Compression {
    /// What `Accept-Encoding` says.
    pub(super) const ACCEPTED: &str = "gzip, zstd, deflate";

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Gzip => "gzip",
            Self::Zlib => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// By its name in `Content-Encoding` and `grpc-encoding`.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let names: [(&[u8], Self); 6] = [
            (b"", Self::None),
            (b"identity", Self::None),
            (b"gzip", Self::Gzip),
            (b"x-gzip", Self::Gzip),
            (b"deflate", Self::Zlib),
            (b"zstd", Self::Zstd),
        ];
        names
            .into_iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
            .map(|(_, compression)| compression)
    }
}

/// A body that cannot be used.
#[derive(Debug)]
pub(super) enum BodyError {
    /// There is no room for it now.
    Exhausted,
    /// It is longer than this, as sent.
    TooLong(usize),
    /// It is longer than this when decompressed.
    TooLongInside(usize),
    /// It did not come within the time.
    TooSlow(Duration),
    /// It ended early, or the connection did.
    Broken,
    /// It is not compressed as it says.
    NotCompressed(Compression),
}

impl From<Exhausted> for BodyError {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// All of `body`, at most `bytes_max`.
pub(super) async fn read(
    body: Incoming,
    bytes_max: usize,
    timeout: Duration,
    charge: &mut Charge,
) -> Result<Bytes, BodyError> {
    let reading = tokio::time::timeout(timeout, read_all(body, bytes_max, charge));
    reading.await.unwrap_or(Err(BodyError::TooSlow(timeout)))
}

async fn read_all(body: Incoming, bytes_max: usize, charge: &mut Charge) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(BodyError::TooLong(bytes_max));
    }
    let mut body = pin!(body);
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        // Trailers say nothing in a request.
        let Ok(chunk) = frame.into_data() else { continue };
        if chunk.len() > bytes_max - all.len() {
            return Err(BodyError::TooLong(bytes_max));
        }
        charge.grow(chunk.len())?;
        if all.is_empty() {
            if chunk.len() == announced {
                // A small body comes whole.
                return Ok(chunk);
            }
            all.reserve_exact(announced.min(RESERVE_BYTES_MAX).max(chunk.len()));
        }
        all.extend_from_slice(chunk.chunk());
    }
    Ok(Bytes::from(all))
}

/// `body` without its compression, at most `bytes_max`; what it was charged for is then charged no more.
pub(super) async fn decompress(
    body: Bytes,
    compression: Compression,
    bytes_max: usize,
    charge: &mut Charge,
) -> Result<Bytes, BodyError> {
    let sent = body.len();
    let plain = match compression {
        Compression::None if sent > bytes_max => return Err(BodyError::TooLongInside(bytes_max)),
        Compression::None => return Ok(body),
        Compression::Gzip => inflate(MultiGzDecoder::new(&body[..]), compression, bytes_max, charge).await?,
        Compression::Zlib => inflate(ZlibDecoder::new(&body[..]), compression, bytes_max, charge).await?,
        Compression::Zstd => {
            let decoder = zstd_decoder(&body).map_err(|_| BodyError::NotCompressed(compression))?;
            inflate(decoder, compression, bytes_max, charge).await?
        }
    };
    drop(body);
    charge.shrink(sent);
    Ok(plain)
}

fn zstd_decoder(body: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

async fn inflate(
    mut reader: impl Read + Send,
    compression: Compression,
    bytes_max: usize,
    charge: &mut Charge,
) -> Result<Bytes, BodyError> {
    let mut plain = Vec::new();
    loop {
        let before = plain.len();
        let stretch = STRETCH_BYTES.min(bytes_max + 1 - before);
        let step = reader.by_ref().take(stretch as u64).read_to_end(&mut plain);
        if step.is_err() {
            return Err(BodyError::NotCompressed(compression));
        }
        let grown = plain.len() - before;
        charge.grow(grown)?;
        if plain.len() > bytes_max {
            return Err(BodyError::TooLongInside(bytes_max));
        }
        if grown < stretch {
            return Ok(Bytes::from(plain));
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::budget::Budget;
    use super::*;

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        Bytes::from(encoder.finish().unwrap())
    }

    #[tokio::test]
    async fn every_compression_is_undone_and_bounded() {
        let plain = b"spans ".repeat(100_000);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&plain).unwrap();
        for (name, body) in [
            ("gzip", gzip(&plain)),
            ("deflate", Bytes::from(zlib.finish().unwrap())),
            ("zstd", Bytes::from(zstd::encode_all(&plain[..], 1).unwrap())),
            ("identity", Bytes::from(plain.clone())),
        ] {
            let compression = Compression::named(name.as_bytes()).unwrap();
            let budget = Budget::new(2 << 20);
            let mut charge = budget.enter().await.unwrap();
            charge.grow(body.len()).unwrap();
            let out = decompress(body.clone(), compression, plain.len(), &mut charge).await.unwrap();
            assert_eq!(out, plain, "{name}");
            assert_eq!(budget.used(), plain.len(), "{name}: only what is held is charged");
            drop(charge);
            let mut charge = budget.enter().await.unwrap();
            let out = decompress(body, compression, plain.len() - 1, &mut charge).await;
            assert!(matches!(out, Err(BodyError::TooLongInside(_))), "{name}");
        }
    }

    #[tokio::test]
    async fn a_bomb_ends_at_the_limit_and_at_the_budget() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        let budget = Budget::new(8 << 20);
        let mut charge = budget.enter().await.unwrap();
        let out = decompress(bomb.clone(), Compression::Gzip, 4 << 20, &mut charge).await;
        assert!(matches!(out, Err(BodyError::TooLongInside(_))));
        drop(charge);
        let mut charge = budget.enter().await.unwrap();
        let out = decompress(bomb, Compression::Gzip, 1 << 30, &mut charge).await;
        assert!(matches!(out, Err(BodyError::Exhausted)));
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn what_is_not_compressed_is_said() {
        for compression in [Compression::Gzip, Compression::Zlib, Compression::Zstd] {
            let budget = Budget::new(1 << 20);
            let mut charge = budget.enter().await.unwrap();
            let body = Bytes::from_static(b"plain text, not compressed at all");
            let out = decompress(body, compression, 1 << 20, &mut charge).await;
            assert!(matches!(out, Err(BodyError::NotCompressed(_))), "{compression:?}");
        }
    }
}
