//! The service without exit137: `--mode none`, `article` or `otel`.

use axum::middleware::from_fn;
use proof::in_process::serve_or_ask;
use proof::service::{self, Roles};
use proof::{argument, article, number, telemetry};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let router = service::router(Roles::of_seed(number("--seed", 1)));
    match argument("--mode").as_deref() {
        Some("article") => serve_or_ask(router.layer(from_fn(article::around)), || {}).await,
        Some("otel") => {
            let provider = telemetry::set_up(telemetry::processor());
            serve_or_ask(router.layer(from_fn(service::traced)), || drop(provider.force_flush())).await
        }
        _ => serve_or_ask(router, || {}).await,
    }
}
