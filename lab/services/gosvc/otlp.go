package main

// Spans, metrics and logs as OTLP/JSON, sent as an SDK's batch processors do.

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	mrand "math/rand"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

type obj = map[string]any

type spanRec struct {
	trace, id, parent, name string
	kind                    int
	start                   time.Time
	attrs                   []obj
	status                  int
	method, route           string
}

var (
	qmu      sync.Mutex
	done     []obj
	logs     []obj
	begun    = time.Now()
	hist     = map[string]*histo{}
	bounds   = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	resource obj
)

type histo struct {
	method, route string
	code          int
	n             int
	sum           float64
	buckets       []int
}

func kv(k string, v any) obj {
	switch x := v.(type) {
	case int:
		return obj{"key": k, "value": obj{"intValue": strconv.Itoa(x)}}
	default:
		return obj{"key": k, "value": obj{"stringValue": fmt.Sprint(x)}}
	}
}
func ns(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }
func hexID(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func serverSpan(method, route string, q *http.Request) *spanRec {
	s := &spanRec{trace: hexID(16), id: hexID(8), name: method + " " + route, kind: 2, start: time.Now(), method: method, route: route}
	if tp := strings.Split(q.Header.Get("traceparent"), "-"); len(tp) == 4 {
		s.trace, s.parent = tp[1], tp[2]
	}
	if os.Getenv("OTEL_SEMCONV_STABILITY_OPT_IN") != "" {
		s.attrs = []obj{kv("http.request.method", method), kv("http.route", route), kv("url.path", q.URL.Path), kv("url.scheme", "http"), kv("server.address", q.Host), kv("user_agent.original", q.UserAgent())}
		if q.URL.RawQuery != "" {
			s.attr("url.query", q.URL.RawQuery)
		}
	} else {
		s.attrs = []obj{kv("http.method", method), kv("http.route", route), kv("http.target", q.URL.RequestURI()), kv("http.scheme", "http"), kv("net.host.name", q.Host)}
	}
	return s
}
func (s *spanRec) attr(k string, v any) { s.attrs = append(s.attrs, kv(k, v)) }
func (s *spanRec) child(sql string) *spanRec {
	w := strings.Fields(sql)
	table := ""
	for i, x := range w {
		if x == "FROM" || x == "INTO" || x == "UPDATE" {
			table = w[i+1]
		}
	}
	return &spanRec{trace: s.trace, id: hexID(8), parent: s.id, name: w[0] + " " + table, kind: 3, start: time.Now(),
		attrs: []obj{kv("db.system.name", "postgresql"), kv("db.operation.name", w[0]), kv("db.collection.name", table), kv("db.query.text", sql)}}
}
func (s *spanRec) end() {
	o := obj{"traceId": s.trace, "spanId": s.id, "name": s.name, "kind": s.kind, "startTimeUnixNano": ns(s.start), "endTimeUnixNano": ns(time.Now()), "attributes": s.attrs, "status": obj{}}
	if s.parent != "" {
		o["parentSpanId"] = s.parent
	}
	if s.status != 0 {
		o["status"] = obj{"code": s.status}
	}
	qmu.Lock()
	if len(done) < 2048 {
		done = append(done, o)
	}
	qmu.Unlock()
}
func (s *spanRec) finish(code int) {
	if os.Getenv("OTEL_SEMCONV_STABILITY_OPT_IN") != "" {
		s.attr("http.response.status_code", code)
	} else {
		s.attr("http.status_code", code)
	}
	if code >= 500 {
		s.status = 2
	}
	s.end()
	sec := time.Since(s.start).Seconds()
	key := s.method + s.route + strconv.Itoa(code)
	qmu.Lock()
	h := hist[key]
	if h == nil {
		h = &histo{s.method, s.route, code, 0, 0, make([]int, len(bounds)+1)}
		hist[key] = h
	}
	h.n++
	h.sum += sec
	h.buckets[sort.SearchFloat64s(bounds, sec)]++
	if mrand.Float64() < 0.05 {
		logs = append(logs, obj{"timeUnixNano": ns(time.Now()), "severityNumber": 9, "severityText": "INFO", "body": obj{"stringValue": fmt.Sprintf("%s done in %d ms", s.name, int(sec*1000))}, "traceId": s.trace, "spanId": s.id})
	}
	qmu.Unlock()
}

func send(kind string, o obj) {
	b, _ := json.Marshal(o)
	r, err := http.Post(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")+"/v1/"+kind, "application/json", bytes.NewReader(b))
	if err == nil {
		r.Body.Close()
	}
}

func gauge(name, unit string, v any, mono bool, a ...obj) obj {
	p := obj{"startTimeUnixNano": ns(begun), "timeUnixNano": ns(time.Now()), "asInt": fmt.Sprint(v), "attributes": a}
	return obj{"name": name, "unit": unit, "sum": obj{"aggregationTemporality": 2, "isMonotonic": mono, "dataPoints": []obj{p}}}
}

func metrics() []obj {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	limit := debug.SetMemoryLimit(-1)
	used := gauge("go.memory.used", "By", m.Sys-m.HeapReleased-m.StackSys, false, kv("go.memory.type", "other"))
	stack := gauge("go.memory.used", "By", m.StackSys, false, kv("go.memory.type", "stack"))["sum"].(obj)["dataPoints"].([]obj)
	used["sum"].(obj)["dataPoints"] = append(used["sum"].(obj)["dataPoints"].([]obj), stack...)
	out := []obj{used, gauge("go.memory.limit", "By", limit, false), gauge("go.memory.gc.goal", "By", m.NextGC, false), gauge("go.memory.allocated", "By", m.TotalAlloc, true),
		gauge("go.memory.allocations", "{allocation}", m.Mallocs, true), gauge("go.goroutine.count", "{goroutine}", runtime.NumGoroutine(), false)}
	var pts []obj
	qmu.Lock()
	for _, h := range hist {
		bc := make([]string, len(h.buckets))
		for i, n := range h.buckets {
			bc[i] = strconv.Itoa(n)
		}
		pts = append(pts, obj{"startTimeUnixNano": ns(begun), "timeUnixNano": ns(time.Now()), "count": strconv.Itoa(h.n), "sum": h.sum, "bucketCounts": bc, "explicitBounds": bounds,
			"attributes": []obj{kv("http.request.method", h.method), kv("http.route", h.route), kv("http.response.status_code", h.code)}})
	}
	qmu.Unlock()
	if pts != nil {
		out = append(out, obj{"name": "http.server.request.duration", "unit": "s", "histogram": obj{"aggregationTemporality": 2, "dataPoints": pts}})
	}
	return out
}

func startExport() {
	as := []obj{kv("service.name", os.Getenv("OTEL_SERVICE_NAME")), kv("telemetry.sdk.language", "go"), kv("telemetry.sdk.name", "opentelemetry"), kv("telemetry.sdk.version", "1.38.0"), kv("process.pid", os.Getpid()), kv("process.runtime.name", "go"), kv("process.runtime.version", runtime.Version())}
	for _, x := range strings.Split(os.Getenv("OTEL_RESOURCE_ATTRIBUTES"), ",") {
		if k, v, ok := strings.Cut(x, "="); ok {
			as = append(as, kv(k, v))
		}
	}
	resource = obj{"attributes": as}
	scope := obj{"name": "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "version": "0.63.0"}
	every := func(d time.Duration, f func()) {
		go func() {
			for range time.Tick(d) {
				f()
			}
		}()
	}
	every(5*time.Second, func() {
		qmu.Lock()
		s, l := done, logs
		done, logs = nil, nil
		qmu.Unlock()
		if s != nil {
			send("traces", obj{"resourceSpans": []obj{{"resource": resource, "scopeSpans": []obj{{"scope": scope, "spans": s}}}}})
		}
		if l != nil {
			send("logs", obj{"resourceLogs": []obj{{"resource": resource, "scopeLogs": []obj{{"scope": obj{"name": "slog"}, "logRecords": l}}}}})
		}
	})
	ms, _ := strconv.Atoi(os.Getenv("OTEL_METRIC_EXPORT_INTERVAL"))
	every(time.Duration(max(500, ms))*time.Millisecond, func() {
		send("metrics", obj{"resourceMetrics": []obj{{"resource": resource, "scopeMetrics": []obj{{"scope": scope, "metrics": metrics()}}}}})
	})
}
