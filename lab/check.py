#!/usr/bin/env python3
"""Is a record's truth true? check.py DIR… prints a line a record; --ready lists those fit for use in the file READY beside the
folder of records; --new skips what is listed already.
--table prints them as a Markdown table instead.

Beside the harness's validate.py: for a leak the culprits' kept memory, for a spike or surge what requests hold, for a child what it was
asked for, for files what was written has to make up most of what lies between the service's base and the limit; nothing may be killed
in healthy records. Evidence about requests in flight is recomputed from the run's side.json (see README, "Evidence").
"""
import contextlib
import datetime as dt
import gzip
import io
import json
import os
import sys

import yaml

TMP = os.environ.get("ZOO_TMP", "/tmp/zoo")
sys.path.insert(0, os.path.join(os.environ["LAB_HARNESS"], "harness"))
sys.dont_write_bytecode = True
import validate  # noqa: E402

MIB = 1 << 20
SHARE = {"leak": 0.45, "operation_spike": 0.5, "concurrency_surge": 0.45, "tmpfs_or_page_cache": 0.6, "child_process": 0.5, "startup_peak": 0.6}


def ts(s):
    return dt.datetime.fromisoformat(s.replace("Z", "+00:00")).timestamp()


def lines(p):
    f = gzip.open(p + ".gz", "rt") if os.path.exists(p + ".gz") else open(p) if os.path.exists(p) else []
    return [json.loads(x) for x in f]


def samples(d):
    """What the node agent read; without one, the container metrics in its words."""
    return lines(f"{d}/cgroup/samples.jsonl") or from_metrics(lines(f"{d}/otlp/metrics.jsonl"))


def from_metrics(metrics):
    out = []
    for r in (r for m in metrics for r in m["resourceMetrics"]):
        of = {a["key"]: next(iter(a["value"].values())) for a in r["resource"]["attributes"]}
        points = {m["name"]: m["gauge"]["dataPoints"][0] for s in r["scopeMetrics"] for m in s.get("metrics", []) if m["name"].startswith("container.memory.")}
        if "container.memory.rss" not in points:
            continue
        value = {n: int(p["asInt"]) for n, p in points.items()}
        when = dt.datetime.fromtimestamp(int(points["container.memory.rss"]["timeUnixNano"]) / 1e9, dt.timezone.utc).isoformat()
        limit = value["container.memory.available"] + value["container.memory.working_set"] if "container.memory.available" in value else None
        out.append(dict(time=when, container=of["k8s.container.name"], container_id=of["container.id"], rss=value["container.memory.rss"], limit=limit, procs=[]))
    return out


def in_flight(side, t, cid, before):
    """What requests held at t: of several in flight of one operation, the smallest ended first. `before`: kills till then."""
    mine = [e for e in side if e["c"] == cid]
    last = {}
    for e in mine:
        last[e["pid"]] = max(e["t"], last.get(e["pid"], 0))
    dead = {p for p, x in last.items() if any(x < b + 1 for b in before)}  # workers that were killed earlier
    hold = {}
    for e in mine:
        if e["t"] > t or e["pid"] in dead:
            continue
        h = hold.setdefault((e["op"], e["pid"]), [])
        if e["ev"] == "hold":
            h.append(e["b"])
        elif e["ev"] == "hold_end" and h:
            h.remove(min(h))
    out = {}
    for (op, _), h in hold.items():
        if h:
            o = out.setdefault(op, {"requests": 0, "mib": 0.0})
            o["requests"] += len(h)
            o["mib"] = round(o["mib"] + sum(h) / MIB, 1)
    return out


def kept(side, cid, until=float("inf")):
    k = {}
    for e in side:
        if e["c"] == cid and e["ev"] == "retain" and e["t"] <= until:
            k[e["op"]] = k.get(e["op"], 0) + e["b"]
    return {o: round(v / MIB, 1) for o, v in sorted(k.items(), key=lambda x: -x[1])}


def told(d):
    """What the run's programs told aside, if it is still there."""
    p = f"{TMP}/runs/{os.path.basename(d)}/side.json"
    return json.load(open(p)) if os.path.exists(p) else None


def amend(d, tr):
    """Recompute in-flight evidence; say what a leak that nobody was killed for has kept at the end."""
    side = told(d)
    if side is None:
        return
    for k in tr["kills"]:
        k["evidence"]["held_mib_in_flight"] = in_flight(side, ts(k["time"]), k["container_id"], [ts(o["time"]) for o in tr["kills"] if o["container_id"] == k["container_id"] and ts(o["time"]) < ts(k["time"]) - 0.1])
    if not tr["kills"] and tr["cause"] == "leak" and "evidence_at_end" not in tr:
        last = {}
        for s in samples(d):
            last[s["container"]] = s["container_id"]
        tr["evidence_at_end"] = {c: {"kept_mib": kept(side, cid), "held_mib_in_flight": {}} for c, cid in last.items()}
    with open(f"{d}/truth.yaml", "w") as f:
        f.write(yaml.safe_dump(tr, sort_keys=False, width=140))


def explained(tr, k):
    e = k["evidence"]
    cause = tr["cause"]
    held = sum(v["mib"] for v in e.get("held_mib_in_flight", {}).values())
    if cause == "leak":
        return sum(e.get("kept_mib", {}).values())
    if cause == "tmpfs_or_page_cache":
        return sum(e.get("written_to_volume_mib_since_pod_start", {}).values())
    if cause == "child_process":
        return sum(e.get("asked_of_child_mib_in_flight", {}).values())
    return held + sum(e.get("kept_mib", {}).values())


def judge(d):
    tr = yaml.safe_load(open(f"{d}/truth.yaml"))
    amend(d, tr)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        bad = set(validate.check(d))
    kills, cause = tr["kills"], tr["cause"]
    if cause == "leak" and "alive" in os.path.basename(d):  # a leak that the window doesn't see the end of
        bad.discard("NO KILL")
    ss = samples(d)
    facts = []
    for k in kills:
        mine = [s for s in ss if s["container_id"] == k["container_id"]]
        if not mine:
            facts.append("no samples")
            continue
        limit = (mine[0]["limit"] or 0) / MIB
        t0 = ts(mine[0]["time"])
        first = next((s for s in mine if ts(s["time"]) > t0 + 6), mine[0])
        base = first["rss"] / MIB
        if not os.path.isdir(f"{d}/cgroup"):  # read so rarely that much was kept by then
            base = max(0, base - sum(kept(told(d) or [], k["container_id"], ts(first["time"])).values()))
        e = explained(tr, k)
        if cause == "child_process":  # what children kept is seen from outside only
            until = [s for s in mine if ts(s["time"]) <= ts(k["time"])] or mine[:1]
            main = until[-1]["procs"][0]["comm"] if until[-1]["procs"] else ""
            e = max(e, sum(p["rss"] for p in until[-1]["procs"] if p["comm"] != main) / MIB)
        if cause == "startup_peak":
            base = 30
        gap = max(1.0, limit - base)
        facts.append(f"{k.get('seconds_since_start', '-')}s {e:.0f} of {gap:.0f} (base {base:.0f}, limit {limit:.0f})")
        k["_share"] = e / gap
    want = SHARE.get(cause)
    shares = [k.get("_share", 1) for k in kills]
    if want and kills and max(shares) < want:
        bad.add(f"explains too little: {max(shares):.2f}")
    return tr, bad, facts


def table(dirs):
    """The records as a Markdown table."""
    print("| case | runtime | cause | culprit | inferable | kills |\n|---|---|---|---|---|---|")
    for d in dirs:
        tr = yaml.safe_load(open(f"{d}/truth.yaml"))
        line = next(x for x in open(f"{d}/README.md") if ", container `" in x)
        runtime = line.split("`: ")[1].split(";")[0].split(",")[:2]
        runtime = ", ".join(x.strip() for x in runtime if "opentelemetry" not in x and "exporter" not in x).replace("Python 3.11, ", "").replace("Java 17, the JDK's HTTP server", "Java")
        ops = " and ".join(f"`{x}`" for x in tr["culprit_operations"]) + "".join(f" where `{k}` = `{v}`" for k, v in (tr.get("culprit_attributes") or {}).items())
        inferable = {True: "yes", False: "no"}.get(tr["culprit_inferable"], tr["culprit_inferable"]) if ops else ""
        print(f"| {tr['case']} | {runtime} | {tr['cause']} | {ops} | {inferable} | {len(tr['kills'])} |")


if __name__ == "__main__":
    dirs = [a.rstrip("/") for a in sys.argv[1:] if not a.startswith("--")]
    if "--table" in sys.argv:
        sys.exit(table(sorted(dirs)))
    listed = os.path.join(os.path.dirname(dirs[0]), "..", "READY")
    good, since = [], 0
    if "--new" in sys.argv and os.path.exists(listed):
        good, since = open(listed).read().split(), os.path.getmtime(listed)
    for d in sorted(dirs):
        if os.path.basename(d) in good and os.path.getmtime(f"{d}/README.md") < since:
            continue
        try:
            tr, bad, facts = judge(d)
        except Exception as e:  # a record that isn't finished
            print(f"{os.path.basename(d):24} cannot be read: {e!r}")
            continue
        print(f"{os.path.basename(d):24} {tr['cause']:20} kills={len(tr['kills'])} {tr['culprit_operations']} {'; '.join(facts)} {tr.get('evidence_at_end', '')}")
        for b in sorted(bad):
            print("     !!", b[:200])
        if not bad:
            good.append(os.path.basename(d))
    if "--ready" in sys.argv:
        with open(listed, "w") as f:
            f.write("\n".join(sorted(set(good))) + "\n")
