//! A client: many connections, one request after the other on each, bounded in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Random;

/// Asks once and returns the body.
pub async fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Reads one whole response with a content-length; false at the end of the connection.
async fn read_response(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return false;
        }
        let text = String::from_utf8_lossy(buffer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if body.len() >= length {
            return true;
        }
    }
}

/// Sends requests for random paths on `connections` until the server is gone or the time is over. Returns how many were
/// answered.
pub async fn load(port: u16, connections: u64, paths: Vec<String>, seed: u64, time_max: Duration) -> u64 {
    let answered = Arc::new(AtomicU64::new(0));
    let (paths, until) = (Arc::new(paths), Instant::now() + time_max);
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let (paths, answered) = (Arc::clone(&paths), Arc::clone(&answered));
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(seed * 1000 + connection + 1);
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let mut buffer = Vec::new();
            while Instant::now() < until {
                let path = &paths[random.below(paths.len() as u64) as usize];
                let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
                if stream.write_all(request.as_bytes()).await.is_err() {
                    return;
                }
                if !read_response(&mut stream, &mut buffer).await {
                    return;
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
    answered.load(Ordering::Relaxed)
}
