//! A life ends without saying so; the next one tells what was in flight, through an ordinary span processor.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use exit137_journal::{HeapRowText, Kind, Options, Request as Record};
use exit137_otel::{Begin, Config, Request};
use opentelemetry::Value;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::logs::{InMemoryLogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::{BatchSpanProcessor, InMemorySpanExporter, SdkTracerProvider};

/// Says to this program that it is a process of its own, and where its journal is.
const CHILD: &str = "EXIT137_TEST_CHILD";

/// Not a test of its own: what the next one runs in a process that leaves without dropping anything.
#[test]
fn the_process_that_exits() {
    let Some(journal) = std::env::var_os(CHILD) else { return };
    let exit137 = exit137_otel::init_with(&Config::default().with_journal(journal));
    std::mem::forget((exit137, Request::begin(&Begin::server("GET /cut off", &SpanContext::NONE))));
    std::process::exit(0);
}

#[test]
fn a_process_that_exits_by_itself_was_not_killed() {
    let journal = std::env::temp_dir().join(format!("exit137-exits-{}", std::process::id()));
    let program = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(program);
    let status = child.args(["--exact", "the_process_that_exits"]).env(CHILD, &journal).status().unwrap();
    assert!(status.success());
    let found = exit137_journal::read(&std::fs::read(&journal).unwrap()).unwrap();
    std::fs::remove_file(&journal).unwrap();
    assert_eq!(found.in_flight.len(), 1);
    assert!(found.closed_unix_nanos >= Some(found.started_unix_nanos), "{found:?}");
}

#[test]
fn the_next_life_tells_what_the_last_one_left() {
    let folder = std::env::temp_dir().join(format!("exit137-recovery-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("j");
    let mut options = Options::default();
    options.slots = 8;
    let (writer, _) = exit137_journal::create(&path, &options).unwrap();
    writer.register_operation(2, "GET /search", Kind::Server);
    let record = Record {
        trace_id: 0xaau128.to_be_bytes(),
        span_id: 0xbbu64.to_be_bytes(),
        parent_span_id: 0xccu64.to_be_bytes(),
        name: "GET /search",
        kind: Kind::Server,
        start_unix_nanos: exit137_journal::Clock::now(),
        sampled: true,
        operation: 2,
        attributes: &[("tenant", "acme")],
    };
    let ticket = writer.start(&record).unwrap();
    writer.set_memory(ticket.mark(), 188 << 20, 190 << 20, 200 << 20);
    let about = HeapRowText { operation: 2, addresses: &[1], text: "shop::cache::put\tsrc/cache.rs:41" };
    let tag = writer.set_heap_row(0, &about).unwrap();
    writer.set_heap_live(0, tag, 188 << 20, 400, 188 << 20);
    writer.set_live(212 << 20, 0);
    // Dropping the writer without closing it lets go of the lock, as SIGKILL does.
    drop(writer);

    let mut exit137 = exit137_otel::init_with(&Config::default().with_journal(&path));
    let logs = InMemoryLogExporter::default();
    let log_provider = SdkLoggerProvider::builder().with_simple_exporter(logs.clone()).build();
    exit137.log_recovered(&log_provider);
    let exporter = InMemorySpanExporter::default();
    let processor = exit137.recover_with(BatchSpanProcessor::builder(exporter.clone()).build());
    let _provider = SdkTracerProvider::builder().with_span_processor(processor).build();

    let until = Instant::now() + Duration::from_secs(20);
    let left = || exit137_journal::previous_lives(&path).len();
    while (exporter.get_finished_spans().unwrap().is_empty() || left() > 0) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let spans = exporter.get_finished_spans().unwrap();
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span.span_context.trace_id(), TraceId::from(0xaa));
    assert_eq!((span.span_context.span_id(), span.parent_span_id), (SpanId::from(0xbb), SpanId::from(0xcc)));
    assert_eq!((span.name.as_ref(), span.span_kind.clone()), ("GET /search", SpanKind::Server));
    assert!(matches!(span.status, Status::Error { .. }) && span.end_time >= span.start_time);
    let value = |key: &str| {
        span.attributes.iter().find(|pair| pair.key.as_str() == key).map(|pair| pair.value.clone())
    };
    assert_eq!(value("exit137.recovered"), Some(Value::Bool(true)));
    assert_eq!(value("exit137.memory.held"), Some(Value::I64(188 << 20)));
    assert_eq!(value("tenant"), Some(Value::from("acme")));
    assert_eq!(left(), 0, "told once");

    let logs = logs.get_emitted_logs().unwrap();
    let body = format!("{:?}", logs[0].record.body());
    assert!(body.contains("killed with 1 requests in flight; 212 MiB live, 188 of it allocated by GET /search at src/cache.rs:41"), "{body}");
    let body = format!("{:?}", logs[1].record.body());
    assert!(logs[1].record.event_name() == Some("exit137.journal"), "{:?}", logs[1].record);
    for told in [
        r#"\"live_bytes\":222298112,\"heap\":[{\"operation\":\"GET /search\",\"place\":\"src/cache.rs:41\",\"live_bytes\":197132288,\"allocated_bytes\":197132288}]"#,
        r#"{\"name\":\"GET /search\",\"finished\":0,\"retained_bytes\":0,\"peak_bytes\":0}"#,
    ] {
        assert!(body.contains(told), "{told} in {body}");
    }
    drop(exit137);
    let _ = std::fs::remove_dir_all(&folder);
}
