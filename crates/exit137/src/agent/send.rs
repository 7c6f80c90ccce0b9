//! Empties the spool into the endpoint: a thread of its own, so that a collector that hangs holds up nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::http::{Answer, Client};
use super::spool::{Signal, Spool};

/// The first wait after a failure; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longer than this nobody wants to wait for a kill once the collector is back.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How often the thread looks whether it shall end.
const IDLE: Duration = Duration::from_secs(60);

/// After the agent was asked to end, what is left is tried for this long; the rest is sent after the next start.
const END_TIME_MAX: Duration = Duration::from_secs(3);

/// The stack of the thread: TLS needs the most.
const STACK_BYTES: usize = 256 << 10;

/// What became of requests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) delivered: AtomicU64,
    /// The other side will never take them.
    pub(crate) refused: AtomicU64,
}

/// What an answer means for a request.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// Later.
    Retry(Option<Duration>),
    Refused,
}

fn fate(answer: &Answer) -> Fate {
    match answer.status {
        200..=299 => Fate::Delivered,
        // OTLP names these four; a proxy in between may say the others while its backend starts.
        408 | 429 | 500 | 502 | 503 | 504 => Fate::Retry(answer.retry_after),
        // No rights, or the wrong address: that gets mended, and the kills are still worth having.
        401 | 403 | 404 => Fate::Retry(None),
        _ => Fate::Refused,
    }
}

/// Starts the thread; it ends after the spool is closed.
pub(crate) fn start(
    spool: Arc<Spool>,
    mut client: Client,
    name: String,
    counts: Arc<Counts>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("send".to_owned()).stack_size(STACK_BYTES);
    builder.spawn(move || run(&spool, &mut client, &name, &counts))
}

fn run(spool: &Spool, client: &mut Client, name: &str, counts: &Counts) {
    let mut wait = RETRY_FIRST;
    let mut told = false;
    let mut ending: Option<Instant> = None;
    loop {
        if spool.is_closed() && ending.get_or_insert_with(Instant::now).elapsed() > END_TIME_MAX {
            return;
        }
        let (entry, bytes) = match spool.next(IDLE) {
            Ok(next) => next,
            Err(true) => return,
            Err(false) => continue,
        };
        let result = client.post(&format!("/v1/{}", entry.signal.name()), &bytes);
        let outcome = result.as_ref().map(fate);
        match outcome {
            Ok(Fate::Delivered) => {
                counts.delivered.fetch_add(1, Ordering::Relaxed);
                if told {
                    tracing::info!("{name} takes requests again");
                }
                (wait, told) = (RETRY_FIRST, false);
                spool.remove(&entry);
            }
            Ok(Fate::Refused) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                let status = result.map_or(0, |answer| answer.status);
                tracing::warn!("{name} refused {} for good: status {status}", what(entry.signal));
                spool.remove(&entry);
            }
            Ok(Fate::Retry(_)) | Err(_) => {
                if !told {
                    match &result {
                        Ok(answer) => tracing::warn!(
                            "{name} answered {}; keeping everything until it takes it",
                            answer.status
                        ),
                        Err(error) => tracing::warn!(
                            "cannot send to {name}: {error}; keeping everything until it works"
                        ),
                    }
                }
                told = true;
                if spool.is_closed() {
                    return;
                }
                let asked = match outcome {
                    Ok(Fate::Retry(asked)) => asked,
                    _ => None,
                };
                spool.pause(asked.unwrap_or(wait).min(RETRY_MAX));
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

fn what(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "kills and samples",
        Signal::Traces => "recovered requests",
        Signal::Metrics => "metrics",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_be_taken_is_given_up() {
        let of = |status| fate(&Answer { status, retry_after: None, body: Vec::new() });
        assert_eq!([of(200), of(202)], [Fate::Delivered, Fate::Delivered]);
        assert_eq!([of(400), of(413), of(415)], [Fate::Refused, Fate::Refused, Fate::Refused]);
        for status in [401, 404, 429, 500, 503] {
            assert_eq!(of(status), Fate::Retry(None), "{status}");
        }
    }
}
