//! Requests without a network: the service is called as hyper would call it, and what it tells is sent. What a layer costs is seen
//! best where little else costs anything.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use tower::ServiceExt;

/// Requests for each line on standard input.
pub const REQUESTS: u64 = TIMES * TASKS * EACH;

/// Tasks that ask at once, and requests of each before all that they told is sent: less than a batch processor's queue holds,
/// with three spans for a request.
const TASKS: u64 = 4;
const EACH: u64 = 128;
const TIMES: u64 = 4;

async fn ask(router: &Router, path: &str) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap_or_default();
    let Ok(response) = router.clone().oneshot(request).await;
    let _ = to_bytes(response.into_body(), usize::MAX).await;
}

async fn ask_all(router: &Router, path: &str) {
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (router, path) = (router.clone(), path.to_owned());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    ask(&router, &path).await;
                }
            })
        })
        .collect();
    for task in tasks {
        let _ = task.await;
    }
}

/// Serves, or with `--ask PATH` calls itself [`REQUESTS`] times for each line that it reads, sends all spans with `flush`, and
/// answers with a line.
pub async fn serve_or_ask(router: Router, flush: impl Fn()) -> std::io::Result<()> {
    let Some(path) = crate::argument("--ask") else { return crate::service::serve(router).await };
    println!("0");
    for _line in std::io::stdin().lines() {
        for _ in 0..TIMES {
            ask_all(&router, &path).await;
            flush();
        }
        println!("done");
    }
    Ok(())
}
