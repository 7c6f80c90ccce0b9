//! Exports as SDKs send them: 512 spans of one process, 10 to 20 attributes each, about 500 bytes a span.
//!
//! A request is made once and then patched: what differs from one to the next (ids, times, the process) has the same
//! length each time. Its bytes follow from its number, so whoever knows the number can tell whether the bytes that
//! were kept are those that were sent.

/// A protobuf message being written.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, field: u8, number: u64) {
        self.0.push(field << 3);
        self.varint(number);
    }

    fn fixed64(&mut self, field: u8, number: u64) {
        self.0.push(field << 3 | 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text_attribute(&mut self, field: u8, key: &str, text: &str) {
        let (mut value, mut pair) = (Self::default(), Self::default());
        value.bytes(1, text.as_bytes());
        pair.bytes(1, key.as_bytes());
        pair.bytes(2, &value.0);
        self.bytes(field, &pair.0);
    }

    fn int_attribute(&mut self, field: u8, key: &str, number: u64) {
        let (mut value, mut pair) = (Self::default(), Self::default());
        value.number(3, number);
        pair.bytes(1, key.as_bytes());
        pair.bytes(2, &value.0);
        self.bytes(field, &pair.0);
    }
}

/// What stands where something is patched in: the number of the process, and of each span its ids and times.
const PROCESS: &[u8; 8] = b"@proces@";
const TRACE_ID: &[u8; 16] = b"@trace-id-trace@";
const SPAN_ID: &[u8; 8] = b"@spanid@";
const START: &[u8; 8] = b"@start@@";
const END: &[u8; 8] = b"@@@end@@";

const SPAN_NANOS: u64 = 12_345_678;

/// Makes requests.
#[derive(Clone)]
pub struct Requests {
    body: Vec<u8>,
    processes: Vec<usize>,
    trace_ids: Vec<usize>,
    span_ids: Vec<usize>,
    starts: Vec<usize>,
    ends: Vec<usize>,
    /// When the run began, or the past that it tells of.
    base_nanos: u64,
    /// From one request to the next.
    step_nanos: u64,
}

impl Requests {
    /// Of so many spans each, from `base_nanos` on, each so much later than the one before.
    pub fn new(spans: usize, base_nanos: u64, step_nanos: u64) -> Self {
        let mut scope_spans = Writer::default();
        let mut scope = Writer::default();
        scope.bytes(1, b"opentelemetry.instrumentation.asgi");
        scope.bytes(2, b"0.57b0");
        scope_spans.bytes(1, &scope.0);
        for number in 0..spans {
            scope_spans.bytes(2, &span(number));
        }
        let mut records = Writer::default();
        records.bytes(1, &resource());
        records.bytes(2, &scope_spans.0);
        let mut request = Writer::default();
        request.bytes(1, &records.0);
        let body = request.0;
        let all = |needle: &[u8]| -> Vec<usize> {
            (0..body.len()).filter(|at| body[*at..].starts_with(needle)).collect()
        };
        Self {
            processes: all(PROCESS),
            trace_ids: all(TRACE_ID),
            span_ids: all(SPAN_ID),
            starts: all(START),
            ends: all(END),
            base_nanos,
            step_nanos,
            body,
        }
    }

    /// Spans in a request.
    pub fn spans(&self) -> usize {
        self.trace_ids.len()
    }

    /// The request of this number, from this process.
    pub fn request(&mut self, number: u64, process: u64) -> &[u8] {
        let digits = format!("{process:08}");
        for at in &self.processes {
            self.body[*at..*at + 8].copy_from_slice(digits.as_bytes());
        }
        let start = self.base_nanos + number * self.step_nanos;
        let between = self.step_nanos / self.trace_ids.len().max(1) as u64;
        for index in 0..self.trace_ids.len() {
            let trace = self.trace_ids[index];
            self.put(trace, self.base_nanos.to_be_bytes());
            self.put(trace + 8, number.to_be_bytes());
            self.put(self.span_ids[index], (number << 16 | (index as u64 + 1)).to_be_bytes());
            let start = start + index as u64 * between.max(1);
            self.put(self.starts[index], start.to_le_bytes());
            self.put(self.ends[index], (start + SPAN_NANOS).to_le_bytes());
        }
        &self.body
    }

    fn put(&mut self, at: usize, bytes: [u8; 8]) {
        self.body[at..at + 8].copy_from_slice(&bytes);
    }
}

/// What a container in Kubernetes says of itself.
fn resource() -> Vec<u8> {
    let process = str::from_utf8(PROCESS).unwrap_or_default();
    let mut resource = Writer::default();
    for (key, value) in [
        ("telemetry.sdk.language", "python"),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.version", "1.36.0"),
        ("service.name", "checkout-api"),
        ("service.namespace", "shop"),
        ("service.version", "2.3.1"),
        ("service.instance.id", &format!("shop.checkout-api-{process}.api")),
        ("deployment.environment.name", "production"),
        ("host.name", &format!("checkout-api-{process}")),
        ("k8s.namespace.name", "shop"),
        ("k8s.deployment.name", "checkout-api"),
        ("k8s.pod.name", &format!("checkout-api-{process}")),
        ("k8s.pod.uid", &format!("{process}-5d2f-4c1e-9c53-7a1f0d9b2e11")),
        ("k8s.container.name", "api"),
        ("k8s.node.name", "node-7"),
        ("container.id", &format!("{process}a3f1c95d7be2480f9c6b1d7e3a5f2c4b8d90e1f6a7b3c5d2e4f8091a")),
    ] {
        resource.text_attribute(1, key, value);
    }
    resource.0
}

/// A span as the instrumentation of a web framework (two of three) or of a database client makes it.
fn span(number: usize) -> Vec<u8> {
    let is_server = number % 3 != 2;
    let mut span = Writer::default();
    span.bytes(1, TRACE_ID);
    span.bytes(2, SPAN_ID);
    span.bytes(4, b"parentid");
    let name = if is_server { "POST /api/v1/orders/{order_id}/items" } else { "SELECT shop.order_items" };
    span.bytes(5, name.as_bytes());
    span.number(6, if is_server { 2 } else { 3 });
    for (field, time) in [(7, START), (8, END)] {
        span.fixed64(field, u64::from_le_bytes(*time));
    }
    if is_server {
        server_attributes(number, &mut span);
    } else {
        client_attributes(number, &mut span);
    }
    // Status, unset; flags: sampled.
    span.bytes(15, b"");
    span.0.extend_from_slice(&[0x85, 0x01, 1, 1, 0, 0]);
    span.0
}

fn server_attributes(number: usize, span: &mut Writer) {
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/orders/{order_id}/items"),
        ("url.scheme", "https"),
        ("url.path", &format!("/api/v1/orders/{:06}/items", number * 7919 % 1_000_000)),
        ("server.address", "checkout-api.shop.svc"),
        ("client.address", "10.42.7.113"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "python-httpx/0.28.1"),
    ] {
        span.text_attribute(9, key, value);
    }
    span.int_attribute(9, "server.port", 8080);
    span.int_attribute(9, "http.response.status_code", if number.is_multiple_of(50) { 503 } else { 201 });
    span.int_attribute(9, "thread.id", 139_872_345_712_384);
    for extra in 0..number % 3 {
        span.text_attribute(9, ["app.tenant", "app.feature_flag"][extra], "blue-harbour");
    }
}

fn client_attributes(number: usize, span: &mut Writer) {
    for (key, value) in [
        ("db.system.name", "postgresql"),
        ("db.namespace", "shop"),
        ("db.collection.name", "order_items"),
        ("db.operation.name", "SELECT"),
        (
            "db.query.text",
            "SELECT id, sku, quantity FROM order_items WHERE order_id = $1 ORDER BY id LIMIT $2",
        ),
        ("server.address", "orders-db-primary.shop.svc"),
        ("network.peer.address", "10.42.3.17"),
        ("db.user", "checkout"),
        ("thread.name", "asyncio_0"),
    ] {
        span.text_attribute(9, key, value);
    }
    span.int_attribute(9, "server.port", 5432);
    span.int_attribute(9, "db.response.returned_rows", number as u64 % 40);
}
