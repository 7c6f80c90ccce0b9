// A Go HTTP service described by APP_SPEC (the same JSON as the harness's Python apps).
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

type span2 = []float64 // [lo, hi]

type num struct{ lo, hi float64 }

func (n *num) UnmarshalJSON(b []byte) error {
	var r span2
	if json.Unmarshal(b, &r) == nil && len(r) == 2 {
		n.lo, n.hi = r[0], r[1]
		return nil
	}
	var f float64
	err := json.Unmarshal(b, &f)
	n.lo, n.hi = f, f
	return err
}
func (n num) pick() float64 { return n.lo + rand.Float64()*(n.hi-n.lo) }

type oneOrMany []string

func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var l []string
	if json.Unmarshal(b, &l) == nil {
		*o = l
		return nil
	}
	var s string
	err := json.Unmarshal(b, &s)
	*o = []string{s}
	return err
}

type cond map[string]oneOrMany

func (c cond) holds(p map[string]string) bool {
	for k, vs := range c {
		ok := false
		for _, v := range vs {
			ok = ok || p[k] == v
		}
		if !ok {
			return false
		}
	}
	return true
}

type retain struct {
	Kb        num
	If        cond
	Keys, Cap int
	P         *float64
}
type size struct {
	Mb  num
	S   num `json:"build_s"`
	If  cond
	Big *size
}
// A size's own condition is the keys beside mb and build_s, or "if".
func (s *size) UnmarshalJSON(b []byte) error {
	type plain size
	all := cond{}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	for k, v := range raw {
		if k != "mb" && k != "build_s" && k != "if" && k != "big" {
			var o oneOrMany
			if err := json.Unmarshal(v, &o); err != nil {
				return err
			}
			all[k] = o
		}
	}
	err := json.Unmarshal(b, (*plain)(s))
	if s.If == nil {
		s.If = all
	}
	return err
}

type route struct {
	Method, Path, Op          string
	Ms                        *num
	TmpKb, RespKb, Mb, HoldMb *num
	HoldS                     num `json:"hold_s"`
	Db                        []string
	Retain                    *retain
	Spike                     *size
	Attrs                     map[string]string
	FileKb                    *num `json:"file_kb"`
	Slow                      *num // latency while the database is slow
	Err                       float64
}
type spec struct {
	Service    string
	Routes     []route
	Middleware *retain
	Bg         []struct {
		Name  string
		Every num `json:"every_s"`
		Kb    num
	}
	Slow *struct{ At, Dur float64 }
}

func (r *route) UnmarshalJSON(b []byte) error {
	type plain route
	if err := json.Unmarshal(b, (*plain)(r)); err != nil {
		return err
	}
	var x struct {
		TmpKb  *num `json:"tmp_kb"`
		RespKb *num `json:"resp_kb"`
		HoldMb *num `json:"hold_mb"`
	}
	err := json.Unmarshal(b, &x)
	r.TmpKb, r.RespKb, r.HoldMb = x.TmpKb, x.RespKb, x.HoldMb
	return err
}

var (
	sp    spec
	side  net.Conn
	kept  = map[string][][][]byte{}
	keyed = map[string]map[int]bool{}
	mu    sync.Mutex
	first time.Time // when this pod's first process started
)

func tell(ev, op string, bytes float64) {
	if side == nil {
		return
	}
	m, _ := json.Marshal(map[string]any{"t": float64(time.Now().UnixNano()) / 1e9, "c": os.Getenv("ZOO_CID"), "pid": os.Getpid(), "ev": ev, "op": op, "b": int64(bytes)})
	side.Write(m)
}

func rows(kb float64) [][]byte {
	out := make([][]byte, max(1, int(kb)))
	for i := range out {
		b := make([]byte, 1000)
		for j := range b {
			b[j] = byte(i*31 + j)
		}
		out[i] = b
	}
	return out
}

func keep(op string, s *retain, p map[string]string) {
	if s == nil || !s.If.holds(p) || (s.P != nil && rand.Float64() > *s.P) {
		return
	}
	mu.Lock()
	if s.Keys > 0 {
		k := rand.Intn(s.Keys)
		if keyed[op] == nil {
			keyed[op] = map[int]bool{}
		}
		if keyed[op][k] {
			mu.Unlock()
			return
		}
		keyed[op][k] = true
	}
	mu.Unlock()
	b := rows(s.Kb.pick())
	mu.Lock()
	defer mu.Unlock()
	kept[op] = append(kept[op], b)
	tell("retain", op, float64(len(b))*1048)
	if s.Cap > 0 && len(kept[op]) > s.Cap {
		tell("retain", op, -float64(len(kept[op][0]))*1048)
		kept[op] = kept[op][1:]
	}
}

func pickSize(s *size, p map[string]string) *size {
	if s == nil {
		return nil
	}
	if s.Big != nil && s.Big.If.holds(p) {
		return s.Big
	}
	if s.If.holds(p) {
		return s
	}
	return nil
}

func build(mb, secs float64) [][]byte {
	var out [][]byte
	for i := 0; i < int(mb*4); i++ {
		out = append(out, rows(256)...)
		time.Sleep(time.Duration(secs / (mb * 4) * 1e9))
	}
	return out
}

func slowNow() bool {
	t := time.Since(first).Seconds()
	return sp.Slow != nil && t > sp.Slow.At && t < sp.Slow.At+sp.Slow.Dur
}

func handle(r route, s *spanRec, p map[string]string) (int, []byte) {
	for a, k := range r.Attrs {
		if v, ok := p[k]; ok {
			s.attr(a, v)
		}
	}
	ms := num{2, 10}
	if r.Ms != nil {
		ms = *r.Ms
	}
	wait := ms.pick() * (1 + math.Pow(rand.Float64(), 8)*4)
	var tmp [][]byte
	if r.TmpKb != nil {
		tmp = rows(r.TmpKb.pick())
	}
	if r.HoldMb != nil {
		mb := r.HoldMb.pick()
		tell("hold", r.Op, mb*(1<<20))
		defer tell("hold_end", r.Op, 0)
		tmp = rows(mb * 1024)
		wait += r.HoldS.pick() * 1000
	}
	if b := pickSize(r.Spike, p); b != nil {
		mb := b.Mb.pick()
		tell("hold", r.Op, mb*(1<<20))
		defer tell("hold_end", r.Op, 0)
		tmp = build(mb, b.S.pick())
	}
	keep(r.Op, r.Retain, p)
	keep("middleware", sp.Middleware, p)
	if r.FileKb != nil {
		kb := r.FileKb.pick()
		f := filepath.Join(os.Getenv("ZOO_VOLUME"), fmt.Sprintf("%s-%d.part", r.Op, time.Now().UnixNano()))
		os.WriteFile(f, make([]byte, int(kb*1024)), 0o600)
		tell("file", r.Op, kb*1024)
	}
	if r.Slow != nil && slowNow() {
		wait += r.Slow.pick()
	}
	for _, q := range r.Db {
		c := s.child(q)
		time.Sleep(time.Duration(wait / float64(len(r.Db)) * 1e6))
		c.end()
	}
	if len(r.Db) == 0 {
		time.Sleep(time.Duration(wait * 1e6))
	}
	runtime.KeepAlive(tmp) // held until here, as by a caller that still needs it
	kb := 1.0
	if r.RespKb != nil {
		kb = r.RespKb.pick()
	}
	if rand.Float64() < r.Err {
		return 502, []byte(`{"error":"upstream unavailable"}`)
	}
	return 200, []byte(fmt.Sprintf(`{"op":%q,"n":%d,"data":%q}`, r.Op, len(tmp), strings.Repeat("x", int(kb*1024))))
}

func main() {
	b, err := os.ReadFile(os.Getenv("APP_SPEC"))
	if err == nil {
		err = json.Unmarshal(b, &sp)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	side, _ = net.Dial("udp", os.Getenv("ZOO_SIDE"))
	mark := filepath.Join(os.Getenv("ZOO_WORK"), "first")
	first = time.Now()
	if old, err := os.ReadFile(mark); err == nil {
		n, _ := strconv.ParseInt(string(old), 10, 64)
		first = time.Unix(0, n)
	} else {
		os.WriteFile(mark, []byte(strconv.FormatInt(first.UnixNano(), 10)), 0o600)
	}
	startExport()
	for _, g := range sp.Bg {
		go func() {
			for {
				time.Sleep(time.Duration(g.Every.pick() * 1e9))
				keep("background:"+g.Name, &retain{Kb: g.Kb}, nil)
			}
		}()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) })
	par := regexp.MustCompile(`<(?:\w+:)?(\w+)>`)
	for _, r := range sp.Routes {
		pat := par.ReplaceAllString(r.Path, "{$1}")
		names := par.FindAllStringSubmatch(r.Path, -1)
		mux.HandleFunc(r.Method+" "+pat, func(w http.ResponseWriter, q *http.Request) {
			p := map[string]string{}
			for k, v := range q.URL.Query() {
				p[k] = v[0]
			}
			for _, n := range names {
				p[n[1]] = q.PathValue(n[1])
			}
			s := serverSpan(r.Method, pat, q)
			code, body := handle(r, s, p)
			w.Header().Set("content-type", "application/json")
			w.WriteHeader(code)
			w.Write(body)
			s.finish(code)
		})
	}
	fmt.Println(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux))
}
