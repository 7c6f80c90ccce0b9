//! Plays a recorded cluster: `cargo run --example fake-api -- cases/kubernetes-1.36-recording [ADDRESS] [EVENTS/s]`.
//!
//! Serves LIST and WATCH on ADDRESS (127.0.0.1:8001), first what was there, then each recorded change in order.
//! `kubectl --server http://127.0.0.1:8001 get --raw /api/v1/pods` reads it, and so does whatever watches clusters.

use std::path::Path;
use std::time::Duration;

#[path = "../tests/support/fake_api/mod.rs"]
mod fake_api;

use fake_api::FakeApi;
use fake_api::recording::Recording;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        eprintln!(
            "expected a folder with *.list.json and *.watch.jsonl; see the head of examples/fake-api.rs"
        );
        std::process::exit(2);
    };
    let address = arguments.get(1).map_or("127.0.0.1:8001", String::as_str);
    let events_per_second: f64 = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(20.0);
    let recording = Recording::read(Path::new(folder));
    let api = FakeApi::listen(address).await;
    recording.publish_unwatched(&api);
    eprintln!("http://{}: {} changes to play", api.address, recording.events.len());
    for event in &recording.events {
        tokio::time::sleep(Duration::from_secs_f64(1.0 / events_per_second.max(0.01))).await;
        event.publish(&api);
    }
    eprintln!("all played; serving what is left, until you stop it");
    std::future::pending::<()>().await;
}
