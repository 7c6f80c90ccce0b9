//! An ordinary request: asks a store over a socket twice, with a CLIENT span for each, decodes what comes, and answers in JSON.
//! Beside `/hello` and `/work`, which do nearly nothing, it is what services do.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Lines of an order.
const LINES: u64 = 30;

/// Connections to the store that wait for their next use.
static IDLE: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());

/// Starts a store, which answers eight bytes (kind, number) with the length of a document and the document. Returns its port.
///
/// # Errors
/// When there is no port.
pub fn start_store() -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (order, customer) = (order().to_string(), customer().to_string());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (order, customer) = (order.clone(), customer.clone());
            std::thread::spawn(move || {
                let mut question = [0; 8];
                while stream.read_exact(&mut question).is_ok() {
                    let document = if question[0] == 0 { &order } else { &customer };
                    let mut answer = (document.len() as u32).to_le_bytes().to_vec();
                    answer.extend_from_slice(document.as_bytes());
                    if stream.write_all(&answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(port)
}

fn order() -> Value {
    let lines: Vec<Value> = (0..LINES)
        .map(|line| json!({"sku": format!("sku-{line:06}"), "name": format!("article number {line}"), "cents": 199 + line, "pieces": line % 4 + 1}))
        .collect();
    json!({"id": 7, "customer": 11, "currency": "EUR", "lines": lines})
}

fn customer() -> Value {
    json!({"id": 11, "name": "Ada Lovelace", "street": "12 St James's Square", "city": "London", "vat_percent": 20})
}

async fn ask(port: u16, kind: u8, number: u32) -> std::io::Result<Value> {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut stream = match idle {
        Some(stream) => stream,
        None => TcpStream::connect(("127.0.0.1", port)).await?,
    };
    let number = number.to_le_bytes();
    stream.write_all(&[kind, 0, 0, 0, number[0], number[1], number[2], number[3]]).await?;
    let length = stream.read_u32_le().await? as usize;
    let mut document = vec![0; length];
    stream.read_exact(&mut document).await?;
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    Ok(serde_json::from_slice(&document)?)
}

/// As an instrumented client of a database does it.
async fn ask_traced(port: u16, kind: u8, table: &'static str, number: u32) -> std::io::Result<Value> {
    let tracer = global::tracer("store");
    let span = tracer
        .span_builder(format!("SELECT {table}"))
        .with_kind(SpanKind::Client)
        .with_attributes([
            KeyValue::new("db.system.name", "store"),
            KeyValue::new("db.collection.name", table),
            KeyValue::new("server.address", "127.0.0.1"),
            KeyValue::new("server.port", i64::from(port)),
        ])
        .start(&tracer);
    let context = Context::current_with_span(span);
    let answer = ask(port, kind, number).await;
    context.span().end();
    answer
}

/// `GET /order/{id}`: an order with what it costs, and its customer.
///
/// # Errors
/// When the store is gone.
pub async fn answer(port: u16, id: u32) -> std::io::Result<String> {
    let mut order = ask_traced(port, 0, "orders", id).await?;
    let customer = ask_traced(port, 1, "customers", order["customer"].as_u64().unwrap_or(0) as u32).await?;
    let mut total = 0;
    for line in order["lines"].as_array_mut().into_iter().flatten() {
        let cents = line["cents"].as_u64().unwrap_or(0) * line["pieces"].as_u64().unwrap_or(0);
        line["total"] = json!(format!("{}.{:02}", cents / 100, cents % 100));
        total += cents;
    }
    let vat = total * customer["vat_percent"].as_u64().unwrap_or(0) / 100;
    order["total_cents"] = json!(total);
    order["vat_cents"] = json!(vat);
    order["customer"] = customer;
    Ok(order.to_string())
}
