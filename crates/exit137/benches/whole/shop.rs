//! A shop whose catalogue leaks: what its services, the collector, the kernel and the cluster say of it. The same
//! numbers in every run.
//!
//! A request comes to the storefront, which calls the catalogue, which asks its database: five spans with the
//! attributes that the SDKs of today send. `GET /search` keeps what it found, at an uneven pace, until one pod
//! of the catalogue meets its limit.

use std::borrow::Cow;

pub(crate) const SPANS_A_TRACE: u64 = 5;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const HOUR: u64 = 3600 * SECOND;

/// 2026-11-22T09:33:20Z.
pub(crate) const START: u64 = 1_795_340_000 * SECOND;

/// The leaking container's limit, and what it needs without the leak.
pub(crate) const LIMIT: u64 = 1 << 30;
const BASE: u64 = 160 << 20;

const STOREFRONTS: usize = 1;
/// Pods: first the storefront's, then the catalogue's. The first of the catalogue is the one that dies.
pub(crate) const PODS: usize = 3;
pub(crate) const VICTIM: usize = STOREFRONTS;

/// How much later than its start the last request's end may be.
const REQUEST_MAX: u64 = 2 * SECOND;

const ROUTES: [(&str, &str, &str); 8] = [
    ("GET /search", "GET", "/search"),
    ("GET /products/<int:id>", "GET", "/products/<int:id>"),
    ("GET /categories/<name>", "GET", "/categories/<name>"),
    ("GET /recommendations", "GET", "/recommendations"),
    ("POST /cart/items", "POST", "/cart/items"),
    ("GET /stock/<int:id>", "GET", "/stock/<int:id>"),
    ("GET /reviews/<int:id>", "GET", "/reviews/<int:id>"),
    ("POST /checkout", "POST", "/checkout"),
];

const STATEMENTS: [&str; 4] = [
    "SELECT id, ref, status, payload FROM products WHERE id = ?",
    "SELECT id, ref, status, payload FROM stock WHERE id = ? FOR UPDATE",
    "SELECT id, ref, status, payload FROM products WHERE name LIKE ? ORDER BY id LIMIT 100",
    "INSERT INTO carts (id, product, count, added_at) VALUES (?, ?, ?, now())",
];

const WORDS: [&str; 6] = ["blue", "shoes", "winter", "tent", "lamp", "garden"];

/// A value of an attribute.
pub(crate) enum Value {
    Text(Cow<'static, str>),
    Int(i64),
}

pub(crate) type Attribute = (&'static str, Value);

pub(crate) fn text(key: &'static str, value: impl Into<Cow<'static, str>>) -> Attribute {
    (key, Value::Text(value.into()))
}

fn int(key: &'static str, value: u64) -> Attribute {
    (key, Value::Int(value as i64))
}

/// A span as its SDK would send it.
pub(crate) struct Span {
    pub(crate) pod: usize,
    pub(crate) trace_id: u128,
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) name: &'static str,
    pub(crate) kind: u8,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) failed: bool,
}

/// A number at a time.
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: u64,
}

/// Random numbers that are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

/// The shop at work.
pub(crate) struct Shop {
    dice: Dice,
    /// From start to kill.
    duration: u64,
    traces: u64,
    done: u64,
    /// Searches that the victim answered, and how many it will have.
    searches: u64,
    searches_expected: f64,
}

impl Shop {
    pub(crate) fn new(traces: u64, duration: u64) -> Self {
        let of_victim = traces as f64 / (PODS - STOREFRONTS) as f64;
        // The mean of `search_percent`.
        Self { dice: Dice(137), duration, traces, done: 0, searches: 0, searches_expected: of_victim * 0.25 }
    }

    pub(crate) fn killed_at(&self) -> u64 {
        START + self.duration
    }

    /// When the next request comes; `None` when the victim is dead.
    pub(crate) fn next_at(&self) -> Option<u64> {
        let at = START + (u128::from(self.duration) * u128::from(self.done) / u128::from(self.traces)) as u64;
        (self.done < self.traces).then_some(at)
    }

    /// People search in waves: else nothing would tell searches from time.
    fn search_percent(&self) -> u64 {
        match self.done * 24 / self.traces % 4 {
            0 => 5,
            1 => 45,
            2 => 15,
            _ => 35,
        }
    }

    /// All spans of the next request.
    pub(crate) fn request(&mut self, at: u64) -> Vec<Span> {
        self.done += 1;
        let route = match self.dice.below(100) {
            percent if percent < self.search_percent() => 0,
            other => 1 + other as usize % (ROUTES.len() - 1),
        };
        let storefront = self.dice.below(STOREFRONTS as u64) as usize;
        let pod = STOREFRONTS + self.dice.below((PODS - STOREFRONTS) as u64) as usize;
        let trace_id = u128::from(self.dice.roll()) << 64 | u128::from(self.dice.roll());
        let took = 3_000_000 + self.dice.below(120_000_000) + self.dice.below(40).pow(4) * 400;
        // What the victim has not answered when it dies, it never answers.
        let lost = pod == VICTIM && at + took.min(REQUEST_MAX) + 4_000_000 > self.killed_at();
        let end = if lost { self.killed_at() + 20_000_000 } else { at + 4_000_000 + took.min(REQUEST_MAX) };
        let number = self.dice.below(200_000);
        let ids: [u64; 5] = std::array::from_fn(|_| self.dice.roll());
        let client_port = 30_000 + self.dice.below(30_000);
        let call = Call { route: ROUTES[route], number, trace_id, client_port, lost };
        let mut spans = vec![
            call.storefront(storefront, [ids[0], 0], at, end + 2_000_000),
            call.client(storefront, [ids[1], ids[0]], at + 1_000_000, end),
        ];
        if !lost {
            self.searches += u64::from(pod == VICTIM && route == 0);
            spans.push(call.catalogue(pod, [ids[2], ids[1]], at + 2_000_000, end - 1_000_000));
            spans.push(call.render(pod, [ids[3], ids[2]], at + 2_500_000, end - 1_500_000));
            spans.push(call.database(pod, [ids[4], ids[3]], at + 2_700_000, end - 1_700_000));
        }
        spans
    }

    /// What a pod's container holds.
    pub(crate) fn memory_of(&mut self, pod: usize) -> u64 {
        let noise = self.dice.below(6 << 20);
        if pod != VICTIM {
            return BASE + noise;
        }
        let share = (self.searches as f64 / self.searches_expected).min(1.0);
        BASE + ((LIMIT - BASE - (8 << 20)) as f64 * share) as u64 + noise
    }

    /// What the kubelet tells of a pod's container.
    pub(crate) fn gauges(&mut self, pod: usize) -> Vec<Gauge> {
        let memory = self.memory_of(pod);
        let gauge = |name, unit, value| Gauge { name, unit, value };
        vec![
            gauge("container.memory.available", "By", LIMIT.saturating_sub(memory)),
            gauge("container.memory.usage", "By", memory + (2 << 20)),
            gauge("container.memory.working_set", "By", memory + (1 << 20)),
            gauge("container.memory.rss", "By", memory),
            gauge("container.memory.page_faults", "1", self.done * 7),
            gauge("container.cpu.usage", "{cpu}", 1),
            gauge("container.filesystem.usage", "By", 40 << 20),
            gauge("container.uptime", "s", 60),
        ]
    }
}

/// What the spans of one request share.
struct Call {
    route: (&'static str, &'static str, &'static str),
    number: u64,
    trace_id: u128,
    client_port: u64,
    lost: bool,
}

impl Call {
    fn span(&self, pod: usize, [id, parent]: [u64; 2], name: &'static str, kind: u8) -> Span {
        let (start, end, trace_id) = (0, 0, self.trace_id);
        Span { pod, trace_id, id, parent, name, kind, start, end, attributes: Vec::new(), failed: self.lost }
    }

    fn path(&self) -> String {
        let word = WORDS[self.number as usize % WORDS.len()];
        self.route.2.replace("<int:id>", &self.number.to_string()).replace("<name>", word)
    }

    fn query(&self) -> String {
        let word = WORDS[self.number as usize % WORDS.len()];
        format!("q={word}&page={}", self.number % 20)
    }

    fn status(&self) -> u64 {
        if self.lost { 502 } else { 200 }
    }

    fn storefront(&self, pod: usize, ids: [u64; 2], start: u64, end: u64) -> Span {
        let attributes = vec![
            text("http.request.method", self.route.1),
            text("url.scheme", "https"),
            text("server.address", "www.shop.example"),
            int("server.port", 443),
            text("url.path", format!("/shop{}", self.path())),
            text("url.query", self.query()),
            text("client.address", format!("203.0.113.{}", self.number % 250)),
            int("client.port", self.client_port),
            text(
                "user_agent.original",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            text("network.protocol.version", "2"),
            text("http.route", "/shop/*"),
            int("http.response.status_code", self.status()),
            text("session.id", format!("s-{:08x}", self.number.wrapping_mul(2_654_435_761) & 0xffff)),
        ];
        Span { start, end, attributes, ..self.span(pod, ids, "GET /shop/*", 2) }
    }

    fn client(&self, pod: usize, ids: [u64; 2], start: u64, end: u64) -> Span {
        let host = "catalog-api.shop.svc.cluster.local";
        let mut attributes = vec![
            text("http.request.method", self.route.1),
            text("server.address", host),
            int("server.port", 8080),
            text("url.full", format!("http://{host}:8080{}?{}", self.path(), self.query())),
            text("network.peer.address", "10.43.18.7"),
            int("network.peer.port", 8080),
            text("network.protocol.version", "1.1"),
            int("http.response.status_code", self.status()),
            int("thread.id", 140_000_000 + self.client_port),
            text("thread.name", format!("worker-{}", self.client_port % 16)),
        ];
        if self.lost {
            attributes.push(text("error.type", "ConnectionResetError"));
        }
        let name = if self.route.1 == "GET" { "GET" } else { "POST" };
        Span { start, end, attributes, ..self.span(pod, ids, name, 3) }
    }

    fn catalogue(&self, pod: usize, ids: [u64; 2], start: u64, end: u64) -> Span {
        let attributes = vec![
            text("http.request.method", self.route.1),
            text("url.scheme", "http"),
            text("server.address", "catalog-api.shop.svc.cluster.local:8080"),
            int("server.port", 8080),
            text("url.path", self.path()),
            text("url.query", self.query()),
            text("client.address", "10.42.4.68"),
            int("client.port", self.client_port),
            text("user_agent.original", "python-aiohttp/3.12"),
            text("network.protocol.version", "1.1"),
            text("network.peer.address", "10.42.4.68"),
            int("network.peer.port", self.client_port),
            text("http.route", self.route.2),
            int("http.response.status_code", 200),
            text("tenant", format!("tenant-{}", self.number % 40)),
        ];
        Span { start, end, attributes, ..self.span(pod, ids, self.route.0, 2) }
    }

    fn render(&self, pod: usize, ids: [u64; 2], start: u64, end: u64) -> Span {
        let attributes = vec![
            text("code.function.name", "catalog.pages.render"),
            text("code.file.path", "/app/catalog/pages.py"),
            int("code.line.number", 212),
            text("template", "listing.html"),
        ];
        Span { start, end, attributes, ..self.span(pod, ids, "render", 1) }
    }

    fn database(&self, pod: usize, ids: [u64; 2], start: u64, end: u64) -> Span {
        let attributes = vec![
            text("db.system.name", "postgresql"),
            text("db.namespace", "catalog"),
            text("db.collection.name", "products"),
            text("db.operation.name", "SELECT"),
            text("db.query.text", STATEMENTS[self.number as usize % STATEMENTS.len()]),
            text("server.address", "catalog-db.shop.svc.cluster.local"),
            int("server.port", 5432),
            text("network.peer.address", "10.43.9.12"),
            int("network.peer.port", 5432),
            text("db.user", "catalog"),
        ];
        Span { start, end, attributes, ..self.span(pod, ids, "SELECT catalog.products", 3) }
    }
}

/// Name, uid and container id of a pod, and of which workload it is.
pub(crate) struct Names {
    pub(crate) workload: &'static str,
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) container_id: String,
}

pub(crate) fn names(pod: usize) -> Names {
    let workload = if pod < STOREFRONTS { "storefront" } else { "catalog-api" };
    Names {
        workload,
        pod: format!("{workload}-b6dgpjc8-kf2k{pod}"),
        uid: format!("bebafea1-eb56-4b3e-bb34-7ce2f19a000{pod}"),
        container_id: format!("{:064x}", 0xabcd_ef00_u64 + pod as u64),
    }
}

/// What an SDK or the collector says of who sends.
pub(crate) fn resource(pod: usize, of_sdk: bool) -> Vec<Attribute> {
    let Names { workload, pod: name, uid, container_id } = names(pod);
    let mut attributes = vec![
        text("k8s.namespace.name", "shop"),
        text("k8s.pod.name", name),
        text("k8s.pod.uid", uid),
        text("k8s.node.name", "ip-10-0-59-71.eu-central-1.compute.internal"),
        text("k8s.container.name", workload),
        text("k8s.deployment.name", workload),
    ];
    if of_sdk {
        attributes.extend([
            text("telemetry.sdk.language", "python"),
            text("telemetry.sdk.name", "opentelemetry"),
            text("telemetry.sdk.version", "1.45.1"),
            text("service.instance.id", format!("20f96e4a-699f-4e1e-a8d9-6a1a3876{pod:04}")),
            text("service.version", "2.3.1"),
            text("service.namespace", "shop"),
            text("deployment.environment.name", "production"),
            text("service.name", workload),
        ]);
    } else {
        attributes.push(text("container.id", container_id));
    }
    attributes
}
