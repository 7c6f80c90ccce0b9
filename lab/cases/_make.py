"""Short notations for services and cases."""
import hashlib
import random
import re

from _lib import R, ins, one, sel, upd

# what an ordinary operation costs: latency, memory while it runs, size of the answer
PROFILES = {
    "tiny": dict(ms=[3, 12], tmp_kb=[10, 50]),
    "page": dict(ms=[8, 30], tmp_kb=[80, 300], resp_kb=[8, 30]),
    "list": dict(ms=[15, 50], tmp_kb=[200, 800], resp_kb=[10, 40]),
    "calc": dict(ms=[30, 90], tmp_kb=[600, 2000]),
    "heavy": dict(ms=[80, 220], tmp_kb=[4000, 11000], resp_kb=[40, 120]),
    "huge": dict(ms=[150, 380], tmp_kb=[14000, 26000], resp_kb=[40, 90]),
    "write": dict(ms=[8, 35], tmp_kb=[10, 60]),
}
DB = {"one": one, "sel": sel, "ins": ins, "upd": upd}


def svc(name, tables, text, **kw):
    """A service from a table of lines `METHOD path op weight profile [db…] [param=a|b|c or param=1..40]`.

    db is `one:table`, `sel:table:rows`, `ins:table`, `upd:table`. Sizes are scaled by a factor of the operation's own."""
    routes = []
    for line in text.strip().splitlines():
        method, path, op, w, prof, *rest = line.split()
        r = R(method, path, op, float(w), **{k: list(v) for k, v in PROFILES[prof].items()})
        f = random.Random(name + op)
        for k in ("ms", "tmp_kb"):
            s = f.uniform(0.6, 1.6)
            r[k] = [round(x * s, 2) for x in r[k]]
        for x in rest:
            if "=" in x:
                k, v = x.split("=")
                if ".." in v:
                    v = [int(y) for y in v.split("..")]
                elif ":" in v:
                    v = {y.split(":")[0]: float(y.split(":")[1]) for y in v.split("|")}
                else:
                    v = v.split("|")
                    v = {v[0]: 1} if len(v) == 1 else v
                where = "path_params" if f"<{k}>" in path or f":{k}>" in path else "query"
                r.setdefault(where, {})[k] = v
            else:
                k, t, *n = x.split(":")
                r.setdefault("db", []).append(DB[k](t, *[int(y) for y in n]))
        routes.append(r)
    tabs = {t.split(":")[0]: int(t.split(":")[1]) for t in tables.split()}
    return dict(service=name, tables=tabs, routes=routes, **kw)


def having(service, extra=None, **faults):
    """A copy of the service in which the operations named have these faults; `extra` goes to the service itself."""
    missing = set(faults) - {r["op"] for r in service["routes"]}
    assert not missing, missing
    return {**service, "routes": [dict(r, **faults.get(r["op"], {})) for r in service["routes"]], **(extra or {})}


def span(service, op, kind="flask"):
    """The operation as its spans are named."""
    r = next(x for x in service["routes"] if x["op"] == op)
    if kind == "grpc":
        return f"/{service['grpc_service']}/{op}"
    if kind == "celery":
        return f"run/{op}"
    if kind == "consumer":
        return f"{service['queue']} process"
    path = r["path"]
    if kind in ("fastapi", "aiohttp", "go", "java", "axum"):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)
    elif kind in ("express", "koa"):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r":\1", path)
    elif kind == "django":
        path = re.sub(r"<(\w+)>", r"<str:\1>", path.lstrip("/"))
    return f"{r['method']} {path}"


def truth(cause, ops=(), inferable=None, **kw):
    ops = list(ops)
    t = dict(cause=cause, culprit_operations=ops, culprit_inferable=bool(ops) if inferable is None else inferable, culprit_in_flight=False, onset="start" if cause != "none" else None, introduced_by=None)
    t.update(kw)
    return t


def case(name, desc, pods, load, truth, duration=180, **kw):
    """What isn't said (intervals, formats, styles) is drawn from the case's name, so that the corpus varies."""
    r = random.Random(hashlib.sha256(name.encode()).hexdigest())
    c = dict(name=name, desc=desc, duration=duration, pods=pods, load=load, truth=truth, ns=name.split("-")[0],
             interval=r.choice([1, 2, 2, 5, 10, 15]), kmsg=r.choice(["raw", "dmesg", "journal"]), cg_style=r.choice(["cgroupfs", "systemd"]),
             pause=r.random() < 0.5, seed=r.randrange(10, 9999), node_agent_interval=r.choice([1.0, 1.0, 2.0]))
    c.update(kw)
    draw = dict(metric_interval=r.choice([1, 2, 5, 5, 10, 15]), semconv=r.choice(["new", "new", "old"]), resource=r.choice(["downward", "downward", "host_only", "container_id", "no_version"]))
    for p in pods:
        for ct in p["containers"]:
            if ct["kind"] != "filler":
                for k, v in draw.items():
                    ct.setdefault(k, v)
    if "interval" not in kw and any(ct.get("metric_interval", 5) >= 10 for p in pods for ct in p["containers"]):
        c["interval"] = min(c["interval"], 5)  # one of the two sources has to be dense
    return c


def pod(service, kind, limit, version="1.0.0", request=None, name=None, **kw):
    """A pod with one container; keys of the pod itself (at, until, rollout…) may be given too."""
    own = {k: kw.pop(k) for k in ("at", "until", "rollout", "revision", "memory_volumes", "ns") if k in kw}
    n = name or service["service"]
    if kind in COMMANDS:
        kw = {**COMMANDS[kind], **kw, "env": {**COMMANDS[kind].get("env", {}), **kw.get("env", {})}}
        kind = "command"
    return dict(deploy=n, version=version, containers=[dict(name=n, kind=kind, spec=service, limit=limit, request=request or int(limit * 0.75), **kw)], **own)


# programs in ../services, run by the harness's kind "command"
COMMANDS = {
    "go": dict(argv=["{bin}/gosvc"], runtime="Go, net/http, spans and metrics by its own exporter"),
    "java": dict(argv=["java", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", "{bin}/javasvc", "Service"], runtime="Java 17, the JDK's HTTP server, spans and metrics by its own exporter"),
    "django": dict(argv=["opentelemetry-instrument", "python", "django_app.py"], runtime="Python 3.11, Django on waitress, `opentelemetry-instrument`", env={"DJANGO_SETTINGS_MODULE": "django_settings"}),
    "aiohttp": dict(argv=["opentelemetry-instrument", "python", "aiohttp_app.py"], runtime="Python 3.11, aiohttp, `opentelemetry-instrument`"),
    "tornado": dict(argv=["opentelemetry-instrument", "python", "tornado_app.py"], runtime="Python 3.11, Tornado, `opentelemetry-instrument`"),
    "celery": dict(argv=["opentelemetry-instrument", "python", "celery_app.py"], runtime="Python 3.11, Celery worker, `opentelemetry-instrument`"),
    "koa": dict(argv=["node", "--require", "{node}/node_modules/@opentelemetry/auto-instrumentations-node/build/src/register.js", "koa_app.js"], env={"NODE_PATH": "{node}/node_modules"}, runtime="Node 20, Koa, `@opentelemetry/auto-instrumentations-node`"),
    "axum": dict(argv=["{bin}/rustsvc"], runtime="Rust, axum, opentelemetry crates"),
}


def load(rps, caller=None, **kw):
    return dict(rps=rps, client_spans=bool(caller), **({"client_service": caller} if caller else {}), **kw)
