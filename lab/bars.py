#!/usr/bin/env python3
"""How long `exit137 serve` takes for what people wait for, asked from outside over HTTP:

- a verdict on a container with a million stored spans (bar: 2 s),
- the list of ten thousand incidents, as JSON and as a page (bar: 50 ms).

    EXIT137=target/release/exit137 LOAD=target/release/examples/load lab/bars.py [FOLDER]

Makes its own data: spans over an hour with memory that climbs, a kernel report, and the incident copied ten thousand times
with other names, times and causes. Prints the median and the slowest of twenty questions each, the CPU time of the server
beside, and fails when a bar is missed.
"""

import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime, timedelta, timezone

SPANS = int(os.environ.get("SPANS", "1000000"))
INCIDENTS = 10_000
HOUR = 3600
CONTAINER = "00000000a3f1c95d7be2480f9c6b1d7e3a5f2c4b8d90e1f6a7b3c5d2e4f8091a"
POD = "00000000-5d2f-4c1e-9c53-7a1f0d9b2e11"
LIMIT = 512 << 20


class Server:
    def __init__(self, folder, *arguments):
        self.log = open(f"{folder}/serve.log", "ab")
        self.kernel_log = f"{folder}/kernel.log"
        open(self.kernel_log, "ab").close()
        command = [os.environ["EXIT137"], "serve", "--data-dir", f"{folder}/data", "--listen", "127.0.0.1:0"]
        command += ["--otlp-http", "127.0.0.1:0", "--otlp-grpc", "off", "--no-kubernetes", "--log-format", "json"]
        command += ["--kernel-log", self.kernel_log, *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for line in self.process.stderr:
            self.log.write(line)
            said = json.loads(line)
            if said.get("message") == "ready":
                self.pages, self.otlp = said["pages"], said["otlp_http"]
                break
        else:
            sys.exit(f"not ready: see {folder}/serve.log")
        subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=self.log)

    def ask(self, path, method="GET"):
        began = time.perf_counter()
        request = urllib.request.Request(f"http://{self.pages}{path}", method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            body = answer.read()
        return body, time.perf_counter() - began

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return {name: int(re.search(rf"{name}:\s+(\d+)", status)[1]) >> 10 for name in ("VmRSS", "VmHWM")}

    def end(self):
        self.process.terminate()
        self.process.wait()


def send_memory(server, now):
    """Memory that climbs to its limit within the hour, a sample in ten seconds, from the process and from the kubelet."""
    points = []
    for second in range(-HOUR, 0, 10):
        used = int(LIMIT * (0.3 + 0.7 * (second + HOUR) / HOUR))
        points.append({"timeUnixNano": str(now + second * 10**9), "asInt": str(used)})
    names = {"k8s.namespace.name": "shop", "k8s.pod.name": "checkout-api-00000000", "k8s.pod.uid": POD,
             "k8s.deployment.name": "checkout-api", "k8s.container.name": "api", "container.id": CONTAINER}
    process = {**names, "service.name": "checkout-api", "service.namespace": "shop", "service.version": "2.3.1",
               "host.name": "checkout-api-00000000"}
    resources = []
    for metric, names in [("container.memory.working_set", names), ("process.memory.usage", process)]:
        attributes = [{"key": key, "value": {"stringValue": value}} for key, value in names.items()]
        gauge = {"name": metric, "unit": "By", "gauge": {"dataPoints": points}}
        resources.append({"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": [gauge]}]})
    request = urllib.request.Request(f"http://{server.otlp}/v1/metrics", json.dumps({"resourceMetrics": resources}).encode(),
                                     {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()


def kill(server):
    at = datetime.now(timezone.utc)
    cgroup = f"/kubepods/burstable/pod{POD}/{CONTAINER}"
    lines = [
        "python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        f"memory: usage {LIMIT >> 10}kB, limit {LIMIT >> 10}kB, failcnt 92",
        f"Memory cgroup stats for {cgroup}:",
        f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={cgroup},"
        f"task_memcg={cgroup},task=python,pid=7,uid=0",
        f"Memory cgroup out of memory: Killed process 7 (python) total-vm:900000kB, anon-rss:{LIMIT >> 10}kB, "
        "file-rss:2kB, shmem-rss:1kB, UID:0 pgtables:1kB oom_score_adj:0",
    ]
    with open(server.kernel_log, "a") as log:
        for number, line in enumerate(lines):
            stamp = (at + timedelta(microseconds=number)).isoformat(timespec="microseconds")
            log.write(f"{stamp} node-7 kernel: {line}\n")


def wait_for_incident(server):
    for _ in range(600):
        incidents = json.loads(server.ask("/api/v1/incidents")[0])["incidents"]
        if incidents and incidents[0]["settled"]:
            return incidents[0]
        time.sleep(0.2)
    sys.exit("no incident")


def measure(server, what, path, bar, method="GET", count=20):
    times, before = [], server.cpu_seconds()
    for _ in range(count):
        body, seconds = server.ask(path, method)
        times.append(seconds)
    cpu = (server.cpu_seconds() - before) / count
    times.sort()
    print(f"{what}: median {times[count // 2] * 1e3:.1f} ms, slowest {times[-1] * 1e3:.1f} ms, "
          f"CPU {cpu * 1e3:.1f} ms each, {len(body)} bytes")
    return times[count // 2] <= bar


def verdict(folder):
    # A verdict as soon as everything is there, and settled then: what is measured is one that is asked for.
    config = f"{folder}/config.toml"
    with open(config, "w") as file:
        file.write('[verdict]\nsettle = "5s"\n' + os.environ.get("VERDICT", ""))
    server = Server(folder, "--config", config)
    now = time.time_ns()
    subprocess.run([os.environ["LOAD"], "--http", server.otlp, "--spans", str(SPANS), "--resources", "1", "--seconds", "600",
                    "--past", str(HOUR)], check=True)
    send_memory(server, now)
    print("memory before:", server.memory())
    kill(server)
    incident = wait_for_incident(server)
    print(f"{incident['headline']}")
    well = measure(server, f"verdict of {SPANS} spans", f"/api/v1/incidents/{incident['id']}/recompute", 2.0, "POST", 10)
    document = json.loads(server.ask(f"/api/v1/incidents/{incident['id']}/verdict")[0])
    for gap in document["incidents"][0]["gaps"]:
        print("gap:", gap["missing"])
    print("memory after:", server.memory())
    server.end()
    return well


def copy_incidents(folder):
    database = sqlite3.connect(f"{folder}/data/exit137.sqlite")
    database.row_factory = sqlite3.Row
    row = dict(database.execute("SELECT * FROM incident LIMIT 1").fetchone())
    document = database.execute("SELECT json FROM verdict LIMIT 1").fetchone()[0]
    summary = json.loads(row["summary"])
    row.pop("id")
    chance = random.Random(7)
    causes = ["leak", "operation_spike", "concurrency_surge", "undersized_limit", "startup_peak", "unknown"]
    for number in range(INCIDENTS - 1):
        ago = chance.randrange(80 * 86_400)
        last = datetime.now(timezone.utc) - timedelta(seconds=ago)
        stamp = last.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        name = f"service-{number % 700}"
        one = {**summary, "id": f"copy-{number:06}", "title": f"team-{number % 40}/{name}", "namespace": f"team-{number % 40}",
               "workload": name, "cause": causes[number % len(causes)], "kill_count": 1 + number % 90,
               "last_at": stamp, "first_at": stamp, "probability": chance.random(), "operations": [f"GET /things/{number}"]}
        nanos = int(last.timestamp() * 1e9)
        columns = {**row, "key": one["id"], "namespace": one["namespace"], "workload": name, "cause": one["cause"],
                   "operation": one["operations"][0], "kills": one["kill_count"], "first_nanos": nanos, "last_nanos": nanos,
                   "probability": one["probability"], "summary": json.dumps(one)}
        marks = ", ".join("?" * len(columns))
        database.execute(f"INSERT INTO incident ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))
        database.execute("INSERT INTO verdict (incident, json) VALUES (?, ?)", (one["id"], document))
    database.commit()
    database.close()


def lists(folder):
    copy_incidents(folder)
    server = Server(folder)
    well = True
    for query in ["", "?sort=-kills", "?sort=where&offset=5000", "?namespace=team-7&cause=leak", "?q=things+99", "?limit=500"]:
        for what, path in [("API", "/api/v1/incidents"), ("page", "/")]:
            well &= measure(server, f"{what}{query}", path + query, 0.050)
    print("memory:", server.memory())
    server.end()
    return well


def main():
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        well = verdict(folder)
        well &= lists(folder)
    sys.exit(0 if well else 1)


main()
