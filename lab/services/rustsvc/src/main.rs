//! An axum service described by APP_SPEC (the same JSON as the harness's Python apps).
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{on, MethodFilter};
use axum::{Json, Router};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{global, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::{json, Value};
use std::collections::{HashMap, HashSet};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Rows = Vec<Vec<u8>>;
type Params = HashMap<String, String>;

static SEED: AtomicU64 = AtomicU64::new(0x2545_F491_4F6C_DD1D);
static KEPT: LazyLock<Mutex<HashMap<String, Vec<Rows>>>> = LazyLock::new(Mutex::default);
static KEYS: LazyLock<Mutex<HashSet<(String, u64)>>> = LazyLock::new(Mutex::default);
static SIDE: LazyLock<UdpSocket> = LazyLock::new(|| UdpSocket::bind("127.0.0.1:0").unwrap());

fn env(k: &str) -> String {
    std::env::var(k).unwrap_or_default()
}

fn unit() -> f64 {
    let x = SEED.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    let z = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// A number, or something between the two of a list.
fn pick(v: &Value) -> f64 {
    match v.as_array() {
        Some(l) => {
            let (a, b) = (l[0].as_f64().unwrap(), l[1].as_f64().unwrap());
            a + unit() * (b - a)
        }
        None => v.as_f64().unwrap_or(0.0),
    }
}

fn tell(ev: &str, op: &str, bytes: f64) {
    let t = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let m = json!({"t": t, "c": env("ZOO_CID"), "pid": std::process::id(), "ev": ev, "op": op, "b": bytes as i64});
    let _ = SIDE.send_to(m.to_string().as_bytes(), env("ZOO_SIDE"));
}

fn rows(kb: f64) -> Rows {
    (0..kb.max(1.0) as usize).map(|i| vec![(i % 251) as u8 + 1; 1000]).collect()
}

fn holds(cond: &Value, p: &Params) -> bool {
    cond.as_object().into_iter().flatten().filter(|(k, _)| !matches!(k.as_str(), "mb" | "build_s")).all(|(k, v)| {
        let have = p.get(k).map(String::as_str);
        v.as_array().map_or(v.as_str() == have, |l| l.iter().any(|x| x.as_str() == have))
    })
}

fn keep(op: &str, s: &Value, p: &Params) {
    if s.is_null() || !holds(&s["if"], p) {
        return;
    }
    if let Some(n) = s["keys"].as_f64() {
        if !KEYS.lock().unwrap().insert((op.to_owned(), (unit() * n) as u64)) {
            return;
        }
    }
    let b = rows(pick(&s["kb"]));
    tell("retain", op, b.len() as f64 * 1032.0);
    KEPT.lock().unwrap().entry(op.to_owned()).or_default().push(b);
}

async fn query(sql: &str, ms: f64) {
    let mut w = sql.split(' ');
    let verb = w.next().unwrap_or("");
    let table = sql.split(' ').skip_while(|x| !matches!(*x, "FROM" | "INTO" | "UPDATE")).nth(1).unwrap_or("");
    let t = global::tracer("sqlx");
    let span = t
        .span_builder(format!("{verb} {table}"))
        .with_kind(SpanKind::Client)
        .with_attributes([KeyValue::new("db.system.name", "postgresql"), KeyValue::new("db.operation.name", verb.to_owned()), KeyValue::new("db.collection.name", table.to_owned())])
        .start(&t);
    let cx = opentelemetry::Context::current_with_span(span);
    tokio::time::sleep(Duration::from_micros((ms * 1000.0) as u64)).with_context(cx).await;
}

async fn serve(r: &Value, mw: &Value, p: Params) -> Json<Value> {
    let op = r["op"].as_str().unwrap();
    let mut ms = if r["ms"].is_null() { 6.0 } else { pick(&r["ms"]) } * (1.0 + unit().powi(8) * 4.0);
    let mut tmp = if r["tmp_kb"].is_null() { vec![] } else { rows(pick(&r["tmp_kb"])) };
    let spike = [&r["spike"]["big"], &r["spike"]].into_iter().find(|s| !s.is_null() && holds(if s["if"].is_null() { s } else { &s["if"] }, &p));
    let held = spike.is_some() || !r["hold_mb"].is_null();
    if let Some(s) = spike {
        let (mb, secs) = (pick(&s["mb"]), pick(&s["build_s"]));
        tell("hold", op, mb * 1048576.0);
        for _ in 0..(mb * 2.0) as u32 {
            tmp.extend(rows(512.0));
            tokio::time::sleep(Duration::from_secs_f64(secs / mb / 2.0)).await;
        }
    } else if held {
        let mb = pick(&r["hold_mb"]);
        tell("hold", op, mb * 1048576.0);
        tmp = rows(mb * 1024.0);
        ms += pick(&r["hold_s"]) * 1000.0;
    }
    keep(op, &r["retain"], &p);
    keep("middleware", mw, &p);
    let db: Vec<&str> = r["db"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for q in &db {
        query(q, ms / db.len() as f64).await;
    }
    if db.is_empty() {
        tokio::time::sleep(Duration::from_micros((ms * 1000.0) as u64)).await;
    }
    if held {
        tell("hold_end", op, 0.0);
    }
    let kb = if r["resp_kb"].is_null() { 1.0 } else { pick(&r["resp_kb"]) };
    Json(json!({"op": op, "n": tmp.len(), "data": "x".repeat((kb * 1024.0) as usize)}))
}

async fn trace(spec: Arc<Value>, req: Request, next: Next) -> Response {
    let route = req.extensions().get::<MatchedPath>().map(|m| m.as_str().to_owned()).unwrap_or_default();
    if route == "/healthz" {
        return next.run(req).await;
    }
    let parent = TraceContextPropagator::new().extract(&HeaderExtractor(req.headers()));
    let method = req.method().to_string();
    let mut at = vec![KeyValue::new("http.request.method", method.clone()), KeyValue::new("http.route", route.clone()), KeyValue::new("url.path", req.uri().path().to_owned()), KeyValue::new("url.query", req.uri().query().unwrap_or("").to_owned())];
    let p = params(&req);
    for r in spec["routes"].as_array().into_iter().flatten().filter(|r| pattern(r) == route && r["method"] == method.as_str()) {
        for (a, k) in r["attrs"].as_object().into_iter().flatten() {
            if let Some(v) = p.get(k.as_str().unwrap_or("")) {
                at.push(KeyValue::new(a.clone(), v.clone()));
            }
        }
    }
    let tracer = global::tracer("axum");
    let span = tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server).with_attributes(at).start_with_context(&tracer, &parent);
    let cx = parent.with_span(span);
    let t = Instant::now();
    let resp = next.run(req).with_context(cx.clone()).await;
    let code = resp.status().as_u16() as i64;
    cx.span().set_attribute(KeyValue::new("http.response.status_code", code));
    if code >= 500 {
        cx.span().set_status(Status::error(""));
    }
    cx.span().end();
    global::meter("axum").f64_histogram("http.server.request.duration").with_unit("s").build().record(
        t.elapsed().as_secs_f64(),
        &[KeyValue::new("http.request.method", method), KeyValue::new("http.route", route), KeyValue::new("http.response.status_code", code)],
    );
    resp
}

fn params(req: &Request) -> Params {
    req.uri().query().unwrap_or("").split('&').filter_map(|x| x.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

fn pattern(r: &Value) -> String {
    r["path"].as_str().unwrap().split('<').map(|x| match x.split_once('>') {
        Some((a, rest)) => format!("{{{}}}{rest}", a.rsplit(':').next().unwrap_or(a)),
        None => x.to_owned(),
    }).collect()
}

fn main() {
    let spec: Arc<Value> = Arc::new(serde_json::from_str(&std::fs::read_to_string(env("APP_SPEC")).unwrap()).unwrap());
    let res = opentelemetry_sdk::Resource::builder().build();
    let exp = opentelemetry_otlp::SpanExporter::builder().with_http().build().unwrap();
    global::set_tracer_provider(SdkTracerProvider::builder().with_batch_exporter(exp).with_resource(res.clone()).build());
    let mexp = opentelemetry_otlp::MetricExporter::builder().with_http().build().unwrap();
    let every = Duration::from_millis(env("OTEL_METRIC_EXPORT_INTERVAL").parse().unwrap_or(5000));
    global::set_meter_provider(SdkMeterProvider::builder().with_reader(PeriodicReader::builder(mexp).with_interval(every).build()).with_resource(res).build());
    for g in spec["bg"].as_array().into_iter().flatten().cloned() {
        std::thread::spawn(move || loop {
            std::thread::sleep(Duration::from_secs_f64(pick(&g["every_s"])));
            keep(&format!("background:{}", g["name"].as_str().unwrap_or("")), &json!({"kb": g["kb"]}), &Params::new());
        });
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async move {
        let mut app = Router::new().route("/healthz", axum::routing::get(|| async { "ok" }));
        for i in 0..spec["routes"].as_array().unwrap().len() {
            let s = spec.clone();
            let method = MethodFilter::try_from(spec["routes"][i]["method"].as_str().unwrap().parse::<axum::http::Method>().unwrap()).unwrap();
            app = app.route(&pattern(&spec["routes"][i]), on(method, move |req: Request| {
                let s = s.clone();
                async move { serve(&s["routes"][i], &s["middleware"], params(&req)).await }
            }));
        }
        let s = spec.clone();
        let app = app.layer(middleware::from_fn(move |req, next| trace(s.clone(), req, next)));
        let l = tokio::net::TcpListener::bind(format!("127.0.0.1:{}", env("PORT"))).await.unwrap();
        axum::serve(l, app).await.unwrap();
    });
}
