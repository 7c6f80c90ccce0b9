import com.sun.net.httpserver.*;
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.*;

/** An HTTP service described by APP_SPEC (the same JSON as the harness's Python apps). */
@SuppressWarnings("unchecked")
public final class Service {
    static final Map<String, String> ENV = System.getenv();
    static final Map<String, List<Object>> KEPT = new HashMap<>();
    static final Map<String, Set<Integer>> KEYS = new HashMap<>();
    static Map<String, Object> spec;
    static DatagramSocket side;
    static InetSocketAddress to;
    static long first;

    static double pick(Object r) {
        if (r instanceof List<?> l) {
            double a = (Double) l.get(0), b = (Double) l.get(1);
            return a + ThreadLocalRandom.current().nextDouble() * (b - a);
        }
        return (Double) r;
    }

    static double num(Map<String, Object> m, String k, double dflt) { return m.containsKey(k) ? pick(m.get(k)) : dflt; }

    static boolean holds(Object cond, Map<String, String> p) {
        if (cond == null) return true;
        for (var e : ((Map<String, Object>) cond).entrySet()) {
            Object want = e.getValue();
            if (!(want instanceof List<?> l ? l : List.of(want)).contains(p.get(e.getKey()))) return false;
        }
        return true;
    }

    static void tell(String ev, String op, double bytes) {
        try {
            byte[] m = Json.write(new TreeMap<>(Map.of("t", System.currentTimeMillis() / 1e3, "c", ENV.get("ZOO_CID"), "pid", ProcessHandle.current().pid(), "ev", ev, "op", op, "b", (long) bytes))).getBytes();
            side.send(new DatagramPacket(m, m.length, to));
        } catch (IOException e) {
            // not told
        }
    }

    static List<Object> rows(double kb) {
        List<Object> l = new ArrayList<>();
        for (int i = 0; i < Math.max(1, kb); i++) {
            byte[] b = new byte[1000];
            Arrays.fill(b, (byte) (i + 1));
            l.add(b);
        }
        return l;
    }

    static void keep(String op, Map<String, Object> s, Map<String, String> p) {
        if (s == null || !holds(s.get("if"), p) || ThreadLocalRandom.current().nextDouble() > num(s, "p", 1)) return;
        if (s.containsKey("keys")) {
            synchronized (KEYS) {
                if (!KEYS.computeIfAbsent(op, k -> new HashSet<>()).add(ThreadLocalRandom.current().nextInt((int) num(s, "keys", 1)))) return;
            }
        }
        List<Object> b = rows(pick(s.get("kb")));
        synchronized (KEPT) {
            List<Object> l = KEPT.computeIfAbsent(op, k -> new ArrayList<>());
            l.add(b);
            tell("retain", op, b.size() * 1024.0);
            if (s.containsKey("cap") && l.size() > num(s, "cap", 0)) tell("retain", op, -((List<Object>) l.remove(0)).size() * 1024.0);
        }
    }

    static Map<String, Object> size(Map<String, Object> s, Map<String, String> p) {
        if (s == null) return null;
        Map<String, Object> big = (Map<String, Object>) s.get("big");
        if (big != null) {
            Map<String, Object> c = new HashMap<>(big);
            c.keySet().removeAll(List.of("mb", "build_s"));
            if (holds(c, p)) return big;
        }
        return holds(s.get("if"), p) ? s : null;
    }

    static List<Object> build(double mb, double secs) throws InterruptedException {
        List<Object> l = new ArrayList<>();
        for (int i = 0; i < mb * 2; i++) {
            l.addAll(rows(512));
            Thread.sleep((long) (secs * 500 / mb));
        }
        return l;
    }

    static void query(Otlp.Span s, String sql, double ms) throws InterruptedException {
        Matcher m = Pattern.compile("(?:FROM|INTO|UPDATE) (\\w+)").matcher(sql);
        String table = m.find() ? m.group(1) : "", verb = sql.split(" ")[0];
        Otlp.Span c = new Otlp.Span(s.trace, s.id, verb + " " + table, 3);
        c.attrs.addAll(List.of(Otlp.kv("db.system.name", "mysql"), Otlp.kv("db.operation.name", verb), Otlp.kv("db.collection.name", table), Otlp.kv("db.query.text", sql)));
        Thread.sleep((long) ms);
        c.end();
    }

    static String work(Map<String, Object> r, Otlp.Span s, Map<String, String> p) throws Exception {
        String op = (String) r.get("op");
        if (r.get("attrs") instanceof Map<?, ?> as) as.forEach((a, k) -> { if (p.containsKey(k)) s.attrs.add(Otlp.kv((String) a, p.get(k))); });
        double wait = (r.containsKey("ms") ? pick(r.get("ms")) : 6) * (1 + Math.pow(ThreadLocalRandom.current().nextDouble(), 8) * 4);
        List<Object> tmp = r.containsKey("tmp_kb") ? rows(pick(r.get("tmp_kb"))) : new ArrayList<>();
        Map<String, Object> big = size((Map<String, Object>) r.get("spike"), p);
        boolean holding = big != null || r.containsKey("hold_mb");
        if (holding) {
            double mb = pick(big != null ? big.get("mb") : r.get("hold_mb"));
            tell("hold", op, mb * (1 << 20));
            if (big != null) tmp = build(mb, pick(big.get("build_s")));
            else {
                tmp = rows(mb * 1024);
                wait += pick(r.get("hold_s")) * 1000;
            }
        }
        keep(op, (Map<String, Object>) r.get("retain"), p);
        keep("middleware", (Map<String, Object>) spec.get("middleware"), p);
        Map<String, Object> slow = (Map<String, Object>) spec.get("slow");
        double t = (System.currentTimeMillis() - first) / 1e3;
        if (slow != null && r.containsKey("slow") && t > num(slow, "at", 0) && t < num(slow, "at", 0) + num(slow, "dur", 0)) wait += pick(r.get("slow"));
        List<Object> db = (List<Object>) r.getOrDefault("db", List.of());
        for (Object q : db) query(s, (String) q, wait / db.size());
        if (db.isEmpty()) Thread.sleep((long) wait);
        if (holding) tell("hold_end", op, 0);
        return "{\"op\":\"" + op + "\",\"n\":" + tmp.size() + ",\"data\":\"" + "x".repeat((int) (num(r, "resp_kb", 1) * 1024)) + "\"}";
    }

    record Route(Map<String, Object> r, String method, String path, Pattern re, List<String> names) {}

    static void serve(HttpExchange x, List<Route> routes) throws IOException {
        String path = x.getRequestURI().getPath();
        for (Route r : routes) {
            Matcher m = r.re.matcher(path);
            if (!r.method.equals(x.getRequestMethod()) || !m.matches()) continue;
            Map<String, String> p = new HashMap<>();
            String q = x.getRequestURI().getRawQuery();
            if (q != null) for (String kv : q.split("&")) p.put(kv.split("=")[0], URLDecoder.decode(kv.substring(kv.indexOf('=') + 1), StandardCharsets.UTF_8));
            for (int i = 0; i < r.names.size(); i++) p.put(r.names.get(i), m.group(i + 1));
            String tp = x.getRequestHeaders().getFirst("traceparent");
            Otlp.Span s = tp == null ? new Otlp.Span(Otlp.id(16), null, r.method + " " + r.path, 2) : new Otlp.Span(tp.split("-")[1], tp.split("-")[2], r.method + " " + r.path, 2);
            s.attrs.addAll(Otlp.NEW ? List.of(Otlp.kv("http.request.method", r.method), Otlp.kv("http.route", r.path), Otlp.kv("url.path", path), Otlp.kv("url.scheme", "http"), Otlp.kv("url.query", q == null ? "" : q))
                : List.of(Otlp.kv("http.method", r.method), Otlp.kv("http.route", r.path), Otlp.kv("http.target", x.getRequestURI().toString())));
            s.attrs.add(Otlp.kv("thread.name", Thread.currentThread().getName()));
            int code = 200;
            String body;
            x.getRequestBody().readAllBytes();
            try {
                body = work(r.r, s, p);
            } catch (Exception | OutOfMemoryError e) {
                code = 500;
                body = "{}";
                System.err.println(e);
            }
            s.finish(r.method, r.path, code);
            x.getResponseHeaders().set("content-type", "application/json");
            x.sendResponseHeaders(code, body.length());
            try (OutputStream o = x.getResponseBody()) { o.write(body.getBytes()); }
            return;
        }
        boolean ok = path.equals("/healthz");
        x.sendResponseHeaders(ok ? 200 : 404, -1);
        x.close();
    }

    public static void main(String[] a) throws Exception {
        spec = (Map<String, Object>) Json.parse(Files.readString(Path.of(ENV.get("APP_SPEC"))));
        side = new DatagramSocket();
        String[] hp = ENV.get("ZOO_SIDE").split(":");
        to = new InetSocketAddress(hp[0], Integer.parseInt(hp[1]));
        Path mark = Path.of(ENV.get("ZOO_WORK"), "first");
        if (!Files.exists(mark)) Files.writeString(mark, "" + System.currentTimeMillis());
        first = Long.parseLong(Files.readString(mark));
        for (Object st : (List<Object>) spec.getOrDefault("startup", List.of())) {
            var m = (Map<String, Object>) st;
            double mb = pick(m.get("mb"));
            tell("hold", "startup:" + m.get("name"), mb * (1 << 20));
            List<Object> l = build(mb, pick(m.get("s")));
            KEPT.put("startup", new ArrayList<>(l.subList(0, (int) (l.size() * num(m, "keep", 0)))));
            tell("hold_end", "startup:" + m.get("name"), 0);
            tell("retain", "startup:" + m.get("name"), mb * (1 << 20) * num(m, "keep", 0));
        }
        Otlp.start();
        for (Object g : (List<Object>) spec.getOrDefault("bg", List.of())) {
            var m = (Map<String, Object>) g;
            Thread t = new Thread(() -> {
                while (true) {
                    try {
                        Thread.sleep((long) (pick(m.get("every_s")) * 1000));
                    } catch (InterruptedException e) {
                        return;
                    }
                    keep("background:" + m.get("name"), Map.of("kb", m.get("kb")), Map.of());
                }
            }, (String) m.get("name"));
            t.setDaemon(true);
            t.start();
        }
        List<Route> routes = new ArrayList<>();
        for (Object o : (List<Object>) spec.get("routes")) {
            var r = (Map<String, Object>) o;
            String path = ((String) r.get("path")).replaceAll("<(?:\\w+:)?(\\w+)>", "{$1}");
            List<String> names = new ArrayList<>();
            Matcher m = Pattern.compile("\\{(\\w+)\\}").matcher(path);
            while (m.find()) names.add(m.group(1));
            routes.add(new Route(r, (String) r.get("method"), path, Pattern.compile(path.replace(".", "\\.").replaceAll("\\{\\w+\\}", "([^/]+)")), names));
        }
        HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(ENV.get("PORT"))), 128);
        s.setExecutor(Executors.newFixedThreadPool(Integer.parseInt(ENV.getOrDefault("THREADS", "12"))));
        s.createContext("/", x -> serve(x, routes));
        s.start();
    }
}
