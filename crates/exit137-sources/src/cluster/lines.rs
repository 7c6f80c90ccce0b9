//! A response body as lines, one watch event each, none longer than a bound.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;

use super::failure::Failure;

/// The API server's own bound on an object is 1.5 MiB of etcd's, and JSON is larger than protobuf.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Reads a body line by line.
pub(super) struct Lines {
    body: Body,
    /// Read and not yet handed out.
    rest: BytesMut,
    /// Bytes of `rest` known to hold no line end.
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, rest: BytesMut::new(), searched: 0 }
    }

    /// The next whole line without its end; `None` at the end of the body. A line that breaks off was never sent
    /// whole, so it is dropped: the watch is resumed from the last version before it. May be cancelled.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest[self.searched..]) {
                let mut line = self.rest.split_to(self.searched + end + 1).freeze();
                self.searched = 0;
                line.truncate(line.len() - 1);
                return Ok(Some(line));
            }
            self.searched = self.rest.len();
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(Failure::broken(&error)),
                None => return Ok(None),
            }
        }
    }
}

/// The whole body, if it is no larger than `bytes_max`.
pub(super) async fn whole(mut body: Body, bytes_max: usize) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::broken(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if whole.len() + data.len() > bytes_max {
            return Err(Failure::TooLarge);
        }
        whole.extend_from_slice(data);
    }
    Ok(whole.freeze())
}
