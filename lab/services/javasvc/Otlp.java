import java.lang.management.*;
import java.net.URI;
import java.net.http.*;
import java.util.*;
import java.util.concurrent.*;

/** Spans and metrics as OTLP/JSON, sent as an SDK's batch processors do. */
final class Otlp {
    static final boolean NEW = !System.getenv().getOrDefault("OTEL_SEMCONV_STABILITY_OPT_IN", "").isEmpty();
    static final double[] BOUNDS = {.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10};
    private static final long BEGUN = now();
    private static final List<Object> DONE = new ArrayList<>();
    private static final Map<String, Histo> HIST = new LinkedHashMap<>();
    private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private static Map<String, Object> resource;

    private static final class Histo {
        String method, route;
        int code, n;
        double sum;
        int[] b = new int[BOUNDS.length + 1];
    }

    static long now() { return System.currentTimeMillis() * 1_000_000L + System.nanoTime() % 1_000_000L; }

    static String id(int bytes) {
        StringBuilder b = new StringBuilder();
        while (b.length() < bytes * 2) b.append(String.format("%016x", ThreadLocalRandom.current().nextLong()));
        return b.substring(0, bytes * 2);
    }

    static Map<String, Object> kv(String k, Object v) {
        return Map.of("key", k, "value", v instanceof Integer || v instanceof Long ? Map.of("intValue", v.toString()) : Map.of("stringValue", v.toString()));
    }

    static final class Span {
        final String trace, id = id(8), parent, name;
        final int kind;
        final long start = now();
        final List<Object> attrs = new ArrayList<>();
        int status;

        Span(String trace, String parent, String name, int kind) {
            this.trace = trace;
            this.parent = parent;
            this.name = name;
            this.kind = kind;
        }

        void end() {
            Map<String, Object> o = new LinkedHashMap<>(Map.of("traceId", trace, "spanId", id, "name", name, "kind", kind, "startTimeUnixNano", "" + start, "endTimeUnixNano", "" + Math.max(now(), start + 1000), "attributes", attrs, "status", status == 0 ? Map.of() : Map.of("code", status)));
            if (parent != null) o.put("parentSpanId", parent);
            synchronized (DONE) {
                if (DONE.size() < 2048) DONE.add(o);
            }
        }

        void finish(String method, String route, int code) {
            attrs.add(kv(NEW ? "http.response.status_code" : "http.status_code", code));
            if (code >= 500) status = 2;
            end();
            double sec = (now() - start) / 1e9;
            synchronized (HIST) {
                Histo h = HIST.computeIfAbsent(method + route + code, k -> new Histo());
                h.method = method;
                h.route = route;
                h.code = code;
                h.n++;
                h.sum += sec;
                int i = 0;
                while (i < BOUNDS.length && sec > BOUNDS[i]) i++;
                h.b[i]++;
            }
        }
    }

    private static void send(String kind, Object o) {
        try {
            HTTP.send(HttpRequest.newBuilder(URI.create(System.getenv("OTEL_EXPORTER_OTLP_ENDPOINT") + "/v1/" + kind)).header("content-type", "application/json").POST(HttpRequest.BodyPublishers.ofString(Json.write(o))).build(), HttpResponse.BodyHandlers.discarding());
        } catch (Exception e) {
            // the next batch will do
        }
    }

    private static Map<String, Object> point(Object value, Object... attrs) {
        return Map.of("startTimeUnixNano", "" + BEGUN, "timeUnixNano", "" + now(), "asInt", value.toString(), "attributes", List.of(attrs));
    }

    private static Map<String, Object> sum(String name, String unit, List<Object> points) {
        return Map.of("name", name, "unit", unit, "sum", Map.of("aggregationTemporality", 2, "isMonotonic", false, "dataPoints", points));
    }

    private static List<Object> metrics() {
        List<Object> used = new ArrayList<>(), comm = new ArrayList<>(), lim = new ArrayList<>(), after = new ArrayList<>();
        for (MemoryPoolMXBean p : ManagementFactory.getMemoryPoolMXBeans()) {
            Object t = kv("jvm.memory.type", p.getType() == MemoryType.HEAP ? "heap" : "non_heap"), n = kv("jvm.memory.pool.name", p.getName());
            used.add(point(p.getUsage().getUsed(), t, n));
            comm.add(point(p.getUsage().getCommitted(), t, n));
            if (p.getUsage().getMax() > 0) lim.add(point(p.getUsage().getMax(), t, n));
            if (p.getCollectionUsage() != null) after.add(point(p.getCollectionUsage().getUsed(), t, n));
        }
        List<Object> out = new ArrayList<>(List.of(sum("jvm.memory.used", "By", used), sum("jvm.memory.committed", "By", comm), sum("jvm.memory.limit", "By", lim), sum("jvm.memory.used_after_last_gc", "By", after),
            sum("jvm.thread.count", "{thread}", List.of(point(ManagementFactory.getThreadMXBean().getThreadCount(), kv("jvm.thread.daemon", "false")))),
            sum("jvm.class.count", "{class}", List.of(point(ManagementFactory.getClassLoadingMXBean().getLoadedClassCount())))));
        List<Object> pts = new ArrayList<>();
        synchronized (HIST) {
            for (Histo h : HIST.values()) {
                List<Object> bc = new ArrayList<>(), bo = new ArrayList<>();
                for (int n : h.b) bc.add("" + n);
                for (double b : BOUNDS) bo.add(b);
                pts.add(Map.of("startTimeUnixNano", "" + BEGUN, "timeUnixNano", "" + now(), "count", "" + h.n, "sum", h.sum, "bucketCounts", bc, "explicitBounds", bo, "attributes", List.of(kv("http.request.method", h.method), kv("http.route", h.route), kv("http.response.status_code", h.code))));
            }
        }
        if (!pts.isEmpty()) out.add(Map.of("name", "http.server.request.duration", "unit", "s", "histogram", Map.of("aggregationTemporality", 2, "dataPoints", pts)));
        return out;
    }

    static void start() {
        List<Object> as = new ArrayList<>(List.of(kv("service.name", System.getenv("OTEL_SERVICE_NAME")), kv("telemetry.sdk.language", "java"), kv("telemetry.sdk.name", "opentelemetry"), kv("telemetry.sdk.version", "1.55.0"), kv("process.pid", ProcessHandle.current().pid()), kv("process.runtime.name", "OpenJDK Runtime Environment"), kv("process.runtime.version", System.getProperty("java.runtime.version"))));
        for (String x : System.getenv().getOrDefault("OTEL_RESOURCE_ATTRIBUTES", "").split(",")) {
            int e = x.indexOf('=');
            if (e > 0) as.add(kv(x.substring(0, e), x.substring(e + 1)));
        }
        resource = Map.of("attributes", as);
        ScheduledExecutorService ex = Executors.newScheduledThreadPool(2, r -> {
            Thread t = new Thread(r, "otel-export");
            t.setDaemon(true);
            return t;
        });
        ex.scheduleAtFixedRate(() -> {
            List<Object> s;
            synchronized (DONE) {
                s = new ArrayList<>(DONE);
                DONE.clear();
            }
            if (!s.isEmpty()) send("traces", Map.of("resourceSpans", List.of(Map.of("resource", resource, "scopeSpans", List.of(Map.of("scope", Map.of("name", "io.opentelemetry.java-http-server", "version", "2.20.0-alpha"), "spans", s))))));
        }, 5, 5, TimeUnit.SECONDS);
        long ms = Long.parseLong(System.getenv().getOrDefault("OTEL_METRIC_EXPORT_INTERVAL", "5000"));
        ex.scheduleAtFixedRate(() -> send("metrics", Map.of("resourceMetrics", List.of(Map.of("resource", resource, "scopeMetrics", List.of(Map.of("scope", Map.of("name", "io.opentelemetry.runtime-telemetry-java8", "version", "2.20.0-alpha"), "metrics", metrics())))))), ms, ms, TimeUnit.MILLISECONDS);
    }
}
