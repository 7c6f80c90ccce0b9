//! Requests without a network: the service is called as hyper would call it. What a layer costs is seen best where nothing
//! else costs anything.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use tower::ServiceExt;

/// Requests between two looks at the clock.
const REQUESTS: u64 = 20_000;

/// Nanoseconds of processor time a request, of all threads: the least of some rounds, because a busy machine only adds.
pub async fn nanos_a_request(router: &Router, path: &str, rounds: u64) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let before = crate::processor_nanos(std::process::id());
        for _ in 0..REQUESTS {
            ask(router, path).await;
        }
        let spent = crate::processor_nanos(std::process::id()).saturating_sub(before);
        least = least.min(spent as f64 / REQUESTS as f64);
    }
    least
}

async fn ask(router: &Router, path: &str) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap_or_default();
    let Ok(response) = router.clone().oneshot(request).await;
    let _ = to_bytes(response.into_body(), usize::MAX).await;
}

/// Serves, or with `--rounds N` measures that without a network and prints nanoseconds a request.
pub async fn serve_or_measure(router: Router) -> std::io::Result<()> {
    let rounds = crate::number("--rounds", 0);
    if rounds == 0 {
        return crate::service::serve(router).await;
    }
    let path = crate::argument("--path").unwrap_or_else(|| "/hello".to_owned());
    println!("{:.0}", nanos_a_request(&router, &path, rounds).await);
    Ok(())
}
