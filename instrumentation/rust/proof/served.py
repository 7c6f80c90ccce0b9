"""The example service, killed by the kernel once while `exit137 serve` receives its telemetry, and started again: the requests
that the kill swallowed must arrive at `exit137 serve` as spans, be listed as in flight at the kill, and the verdict that is
served must name the route that leaks. Then the same with `exit137 run`, and with `exit137 diagnose` of the journal that it left.

    served.py SHOP EXIT137    where SHOP is the example service and EXIT137 the program. Needs root and a memory controller.
"""

import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from journal_bytes import in_flight

LIMIT_BYTES = 96 << 20
CLIENTS = 16
SECONDS_MAX = 240
ROUTE = "GET /search"


def wait_for(what, condition, seconds=SECONDS_MAX):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    sys.exit(f"waited {seconds} s for {what}")


class Cgroup:
    """A container of a pod, as the kernel's report shows it."""

    def __init__(self, pod):
        v1 = pathlib.Path("/sys/fs/cgroup/memory")
        root, limit = (v1, "memory.limit_in_bytes") if v1.exists() else (v1.parent, "memory.max")
        self.folders = [root / "kubepods-exit137-served" / f"pod{pod}"]
        self.folders.insert(0, self.folders[0] / f"{random.getrandbits(256):064x}")
        if root == v1.parent:
            for folder in (root, self.folders[1].parent, self.folders[1]):
                folder.mkdir(exist_ok=True)
                (folder / "cgroup.subtree_control").write_text("+memory")
        self.folders[0].mkdir(parents=True, exist_ok=True)
        (self.folders[0] / limit).write_text(str(LIMIT_BYTES))

    def kills(self):
        for name in ("memory.oom_control", "memory.events"):
            file = self.folders[0] / name
            for line in file.read_text().splitlines() if file.exists() else []:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def remove(self):
        for folder in [*self.folders, self.folders[-1].parent]:
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)


def environment(pod, journal, otlp):
    attributes = {
        "k8s.namespace.name": "shop",
        "k8s.deployment.name": "shop",
        "k8s.pod.name": "shop-7d9c-x2x2x",
        "k8s.pod.uid": pod,
        "k8s.container.name": "shop",
    }
    return dict(
        os.environ,
        EXIT137_JOURNAL=str(journal),
        SHOP_ADDRESS="127.0.0.1:0",
        OTEL_RESOURCE_ATTRIBUTES=",".join(f"{key}={value}" for key, value in attributes.items()),
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{otlp}",
        OTEL_BSP_SCHEDULE_DELAY="500",
        OTEL_METRIC_EXPORT_INTERVAL="1000",
    )


def address_of(shop):
    return int(shop.stdout.readline().strip().rsplit(":", 1)[1])


def ask(port, unanswered, stop):
    """One client: searches for ever new words, until the service is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        while not stop.is_set():
            trace = f"{random.getrandbits(128):032x}"
            headers = {"traceparent": f"00-{trace}-{random.getrandbits(64):016x}-01"}
            unanswered.add(trace)
            path = f"/search?q={trace * 4}" if random.random() < 0.5 else "/health"
            try:
                connection.request("GET", path, headers=headers)
                connection.getresponse().read()
            except TimeoutError:
                # At its limit a process may wait for its own pages for long; it is not gone.
                connection.close()
                continue
            unanswered.discard(trace)
    except (OSError, http.client.HTTPException):
        pass


def load(port):
    """Until nobody answers."""
    clients = [threading.Thread(target=ask, args=(port, set(), threading.Event())) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


def load_until_gone(shop, port):
    unanswered, stop = set(), threading.Event()
    clients = [threading.Thread(target=ask, args=(port, unanswered, stop)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_for("the kill", lambda: shop.poll() is not None)
    stop.set()
    for client in clients:
        client.join()
    return unanswered


class Server:
    """`exit137 serve` on ports of its own."""

    def __init__(self, program, folder):
        free = "127.0.0.1:0"
        arguments = ["serve", "--listen", free, "--otlp-http", free, "--otlp-grpc", free, "--no-kubernetes"]
        arguments += ["--kernel-log", "/dev/kmsg", "--log-format", "json", "--data-dir", str(folder / "data")]
        self.process = subprocess.Popen([program, *arguments], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            record = json.loads(line)
            if record.get("message") == "ready":
                self.pages, self.otlp = record["pages"], record["otlp_http"]
                break
        threading.Thread(target=lambda: all(True for _ in self.process.stderr), daemon=True).start()

    def get(self, path):
        connection = http.client.HTTPConnection(self.pages, timeout=30)
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())

    def verdict_of(self, pod):
        """The incident of the pod in its latest verdict."""
        for row in self.get("/api/v1/incidents")["incidents"]:
            incident = self.get(f"/api/v1/incidents/{row['id']}/verdict")["incidents"][0]
            if incident["container"].get("pod_uid") == pod:
                return incident
        return None


def check(incident, what, probability_min):
    """Whether the route that leaks is named first, this surely."""
    cause, first = incident["cause"], (incident["operations"] or [{}])[0]
    print(f"{what}: {cause['name']} {cause['probability']:.2f}, {first.get('names')} {first.get('probability', 0):.2f},"
          f" {len(incident['kills'])} kill, {len(incident['in_flight'])} in flight; {first.get('summary', '')}")
    return first.get("names") == [ROUTE] and first["probability"] >= probability_min


def served(shop_program, program, folder):
    pod, journal = str(uuid.uuid4()), folder / "journals"
    journal.mkdir()
    server, cgroup, processes = Server(program, folder), Cgroup(pod), []
    try:
        into = f'echo $$ > "{cgroup.folders[0]}/cgroup.procs" && exec "$0"'
        start = {"env": environment(pod, journal, server.otlp), "stdout": subprocess.PIPE, "text": True}
        shop = subprocess.Popen(["sh", "-c", into, shop_program], **start)
        processes.append(shop)
        unanswered = load_until_gone(shop, address_of(shop))
        assert shop.returncode == -signal.SIGKILL and cgroup.kills() == 1, (shop.returncode, cgroup.kills())
        wanted = in_flight(journal / "exit137.journal")
        known = {trace for trace, _, _ in wanted}
        print(f"killed by the kernel: {len(unanswered)} requests without an answer, {len(known)} in the journal")
        assert wanted, "nothing was in flight"
        wait_for("the incident", lambda: server.verdict_of(pod))
        check(server.verdict_of(pod), "served before the restart", 0)
        again = subprocess.Popen(["sh", "-c", into, shop_program], **start)
        processes.append(again)
        address_of(again)

        def arrived():
            listed = {(request["trace_id"], request["span_id"]) for request in server.verdict_of(pod)["in_flight"]
                      if request["recovered_from"] == "journal"}
            return {(trace, span) for trace, span, _ in wanted} <= listed and listed

        listed = wait_for(f"{len(wanted)} recovered requests in the verdict", arrived)
        assert len(listed) == len(wanted), f"invented: {listed}"
        print(f"recovered: {len(listed)} of {len(wanted)} are in the verdict that is served, with their ids, 0 invented")
        # Who held the heap comes as a log record, in its own time.
        wait_for("the verdict with the journal", lambda: server.verdict_of(pod)["operations"]
                 and "MiB live" in server.verdict_of(pod)["operations"][0]["summary"])
        incident = server.verdict_of(pod)
        assert check(incident, "served after the restart", 0.7), incident["operations"]
        assert incident["cause"]["name"] == "leak" and incident["cause"]["probability"] >= 0.7, incident["cause"]
        again.send_signal(signal.SIGINT)
        again.wait()
    finally:
        for process in processes:
            process.kill()
        server.process.kill()
        cgroup.remove()


def diagnosed(shop_program, program, folder):
    """`exit137 run` sets all of the environment itself; what it recorded is read again by `exit137 diagnose`."""
    record, answer = folder / "record", folder / "verdict.json"
    command = [program, "run", "--memory", f"{LIMIT_BYTES >> 20}MiB", "--save", str(record)]
    command += ["--output", "json", "--out", str(answer), "--", shop_program]
    run = subprocess.Popen(command, env=dict(os.environ, SHOP_ADDRESS="127.0.0.1:0"), stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    lines = []
    while True:
        line = run.stdout.readline()
        if "http://127.0.0.1:" in line:
            port = int(line.strip().rsplit(":", 1)[1])
            break
        lines.append(line)
        if run.poll() is not None or len(lines) > 20:
            sys.exit(f"exit137 run did not start the service: {lines}")
    load_until_gone(run, port)
    verdict = json.loads(answer.read_text())
    assert check(verdict["incidents"][0], "exit137 run", 0.9), verdict["incidents"][0]["operations"]
    output = subprocess.run([program, "diagnose", "--output", "json", str(record)], stdout=subprocess.PIPE, check=True)
    assert check(json.loads(output.stdout)["incidents"][0], "exit137 diagnose of what it recorded", 0.9)
    journals = [file for file in (record / "journals").rglob("*") if file.is_file()]
    shown = subprocess.run([program, "journal", str(journals[0])], stdout=subprocess.PIPE, text=True, check=True).stdout
    # Places are named only where the debug information fits below the limit: here it may not.
    assert f"MiB by {ROUTE}" in shown, shown
    print(shown.splitlines()[0])


def repeated(shop_program, program, folder):
    """Life after life: each one's journal stays, and is what its kill is explained with."""
    record, answer = folder / "repeated", folder / "repeated.json"
    command = [program, "run", "--memory", f"{LIMIT_BYTES >> 20}MiB", "--save", str(record), "--repeat", "3"]
    command += ["--output", "json", "--out", str(answer), "--", shop_program]
    run = subprocess.Popen(command, env=dict(os.environ, SHOP_ADDRESS="127.0.0.1:0"), stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True)
    lives = 0
    for line in run.stdout:
        if "http://127.0.0.1:" in line:
            lives += 1
            load(int(line.strip().rsplit(":", 1)[1]))
    run.wait()
    incident = json.loads(answer.read_text())["incidents"][0]
    journals = sorted(file for file in (record / "journals").rglob("*") if file.is_file())
    print(f"exit137 run --repeat 3: {lives} lives, journals {[str(file.relative_to(record)) for file in journals]}")
    assert lives == 3 and [file.parent.name for file in journals] == ["1", "2", "3"], journals
    assert len(incident["kills"]) == 3, incident["kills"]
    assert check(incident, "exit137 run --repeat 3", 0.9), incident["operations"]
    # Each life alone is explained by its own journal.
    for journal in journals:
        shown = subprocess.run([program, "journal", str(journal)], stdout=subprocess.PIPE, text=True, check=True).stdout
        assert f"MiB by {ROUTE}" in shown, shown


def profiled(shop_program, folder):
    """The live heap on request, read by the tool that the format is made for."""
    if not shutil.which("go"):
        print("no `go tool pprof` here: the profile was not read")
        return
    journal = folder / "profiled.journal"
    shop = subprocess.Popen([shop_program], env=environment(str(uuid.uuid4()), journal, "127.0.0.1:1"),
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = address_of(shop)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(2000):
            connection.request("GET", f"/search?q={number:0100}")
            connection.getresponse().read()
        connection.request("GET", "/debug/heap")
        profile = folder / "heap.pb"
        profile.write_bytes(connection.getresponse().read())
    finally:
        shop.kill()
        shop.wait()

    def pprof(*arguments):
        return subprocess.run(["go", "tool", "pprof", *arguments, str(profile)], stdout=subprocess.PIPE, check=True,
                              stderr=subprocess.DEVNULL, text=True, env=dict(os.environ, HOME=str(folder))).stdout

    tags = pprof("-tags", "-sample_index=inuse_space")
    assert ROUTE in tags, tags
    top = pprof("-top", "-cum", "-sample_index=inuse_space", f"-tagfocus=operation={ROUTE}")
    assert " remember" in top, top
    print("go tool pprof reads the profile:", next(line.strip() for line in tags.splitlines() if ROUTE in line))


def main():
    shop_program, program = sys.argv[1], sys.argv[2]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="exit137-served-"))
    try:
        served(shop_program, program, folder)
        diagnosed(shop_program, program, folder)
        repeated(shop_program, program, folder)
        profiled(shop_program, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
