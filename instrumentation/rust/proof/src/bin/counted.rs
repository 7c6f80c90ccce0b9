//! The service with exit137. `--journal FILE`, `--seed N`; `--article 1` runs the article's method beside it.

use axum::middleware::from_fn;
use exit137_otel::{Allocator, Config, MemoryLayer};
use proof::in_process::serve_or_ask;
use proof::service::{self, Roles};
use proof::{argument, article, number, telemetry};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::system();

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut config = Config::default().with_resource("service.name", "shop");
    if let Some(path) = argument("--journal") {
        config = config.with_journal(path);
    }
    config = config.with_sample_bytes(number("--sample", 512 << 10));
    let mut exit137 = exit137_otel::init_with(&config);
    let traces = telemetry::set_up(exit137.recover_with(telemetry::processor()));
    let _metrics = telemetry::set_up_metrics();
    let mut router = service::router(Roles::of_seed(number("--seed", 1)));
    if argument("--article").is_some() {
        router = router.layer(from_fn(article::around));
    }
    serve_or_ask(router.layer(MemoryLayer::new()), || drop(traces.force_flush())).await
}
