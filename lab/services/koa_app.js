// A Koa service described by APP_SPEC (same JSON as the Python apps).
'use strict';
const fs = require('fs');
const http = require('http');
const dgram = require('dgram');
const Koa = require('koa');
const Router = require('@koa/router');
const { trace } = require('@opentelemetry/api');
const SPEC = JSON.parse(fs.readFileSync(process.env.APP_SPEC));
const CID = process.env.ZOO_CID || '';
const [sh, sp] = process.env.ZOO_SIDE.split(':');
const sock = dgram.createSocket('udp4'); sock.unref();
const side = (ev, op, b = 0) => sock.send(JSON.stringify({ t: Date.now() / 1000, c: CID, pid: process.pid, ev, op, b: Math.round(b) }), Number(sp), sh, () => {});
const uni = r => Array.isArray(r) ? r[0] + Math.random() * (r[1] - r[0]) : r;
const sleep = ms => new Promise(r => setTimeout(r, ms));
const holds = (c, p) => Object.entries(c || {}).every(([k, v]) => (Array.isArray(v) ? v : [v]).includes(String(p[k])));
const KEPT = {};
let n = 0;

// What is kept or held is outside the V8 heap here: Buffers, as for bodies and files.
const buffers = kb => Array.from({ length: Math.max(1, Math.round(kb / 16)) }, () => Buffer.alloc(16384, 1 + (n++ % 250)));
const objects = kb => Array.from({ length: Math.max(1, Math.round(kb)) }, () => ({ id: n++, v: 'k'.padEnd(900, 'abc' + n).split('').join('') }));

function keep(op, s, p) {
  if (!s || !holds(s.if, p) || Math.random() > (s.p ?? 1)) return;
  const m = KEPT[op] = KEPT[op] || new Map();
  const key = s.keys ? Math.floor(Math.random() * s.keys) : ++n;
  if (m.has(key)) return;
  const kb = uni(s.kb);
  m.set(key, s.heap ? objects(kb) : buffers(kb));
  side('retain', op, kb * 1024);
  if (s.cap && m.size > s.cap) { m.delete(m.keys().next().value); side('retain', op, -kb * 1024); }
}

async function build(mb, secs) {
  const parts = [];
  for (let i = 0; i < mb * 2; i++) { parts.push(buffers(512)); if (i % 4 === 0) await sleep(secs * 2000 / mb); }
  return parts;
}

function down(path) {
  return new Promise(res => http.get({ host: '127.0.0.1', port: Number(process.env.ZOO_STUB), path, headers: { host: `${SPEC.downstream || 'backend'}:8080` } }, r => { r.resume(); r.on('end', res); }).on('error', res));
}

const app = new Koa();
const router = new Router();
router.get('/healthz', c => { c.body = 'ok'; });
for (const r of SPEC.routes) {
  router.register(r.path.replace(/<(?:\w+:)?(\w+)>/g, ':$1'), [r.method.toLowerCase()], async function operation(c) {
    const p = { ...c.query, ...c.params };
    for (const [a, k] of Object.entries(r.attrs || {})) if (p[k] !== undefined) trace.getActiveSpan()?.setAttribute(a, String(p[k]));
    for (const d of r.down || []) await down(d);
    let tmp = r.tmp_kb ? objects(uni(r.tmp_kb)) : [];
    let sz = r.spike && holds(r.spike.if, p) ? r.spike : null;
    if (r.spike?.big) { const { mb, build_s, ...cond } = r.spike.big; if (holds(cond, p)) sz = r.spike.big; }
    const held = sz || r.hold_mb;
    const mb = sz ? uni(sz.mb) : uni(r.hold_mb || 0);
    if (held) side('hold', r.op, mb * 1048576);
    if (sz) tmp = await build(mb, uni(sz.build_s));
    else if (held) { tmp = buffers(mb * 1024); await sleep(uni(r.hold_s) * 1000); }
    keep(r.op, r.retain, p);
    keep('middleware', SPEC.middleware, p);
    await sleep(uni(r.ms || [2, 10]) * (1 + Math.random() ** 8 * 4));
    c.body = { op: r.op, n: tmp.length, data: 'x'.repeat(uni(r.resp_kb || 1) * 1024) };
    if (held) side('hold_end', r.op);
  });
}
app.use(router.routes());
for (const g of SPEC.bg || []) setInterval(() => keep('background:' + g.name, { kb: g.kb, heap: g.heap }, {}), uni(g.every_s) * 1000);
app.listen(Number(process.env.PORT), '127.0.0.1');
