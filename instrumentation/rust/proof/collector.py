"""Kills the example service with SIGKILL and starts it again, with rotel as its collector: the requests that were in flight
must come out of the collector as spans with the ids that they would have had.

    collector.py PROGRAM    where PROGRAM is the example service `shop`

What was in flight is taken from the bytes of the journal, as JOURNAL.md describes them, and from what the clients sent;
what arrives is decoded with OpenTelemetry's own protobuf classes. Wants `rotel` and `opentelemetry-proto`.
"""

import gzip
import http.client
import http.server
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import rotel
from journal_bytes import in_flight
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CLIENTS = 40
KILLS = 3
SECONDS_MAX = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition):
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    sys.exit(f"waited {SECONDS_MAX} s for {what}")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Backend(http.server.BaseHTTPRequestHandler):
    """What the collector sends to."""

    spans, logs = [], []
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        if self.path.endswith("/v1/traces"):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        elif self.path.endswith("/v1/logs"):
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                self.logs.extend(record for scope in resource.scope_logs for record in scope.log_records)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def start_collector(backend_port):
    grpc_port, http_port = free_port(), free_port()
    agent = pathlib.Path(rotel.__file__).with_name("rotel-agent")
    arguments = {
        "--otlp-grpc-endpoint": f"127.0.0.1:{grpc_port}",
        "--otlp-http-endpoint": f"127.0.0.1:{http_port}",
        "--exporter": "otlp",
        "--otlp-exporter-endpoint": f"http://127.0.0.1:{backend_port}",
        "--otlp-exporter-protocol": "http",
        "--otlp-exporter-compression": "none",
        "--batch-timeout": "100ms",
    }
    flat = [part for pair in arguments.items() for part in pair]
    collector = subprocess.Popen([agent, "start", *flat], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("the collector", lambda: listens(http_port))
    return collector, http_port


def start_shop(program, journal, collector_port):
    environment = dict(
        os.environ,
        EXIT137_JOURNAL=str(journal),
        SHOP_ADDRESS="127.0.0.1:0",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector_port}",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    shop = subprocess.Popen([program], env=environment, stdout=subprocess.PIPE, text=True)
    address = shop.stdout.readline().strip()
    return shop, int(address.rsplit(":", 1)[1])


def ask(port, unanswered, stop):
    """One client: a request after the other, each with a trace of its own, until the service is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        while not stop.is_set():
            trace, parent = f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}"
            unanswered[trace] = parent
            connection.request("GET", f"/search?q={trace[:8]}", headers={"traceparent": f"00-{trace}-{parent}-01"})
            connection.getresponse().read()
            del unanswered[trace]
    except (OSError, http.client.HTTPException):
        pass


def recovered(spans):
    def is_recovered(span):
        return any(pair.key == "exit137.recovered" and pair.value.bool_value for pair in span.attributes)

    return [span for span in spans if is_recovered(span)]


def heap_of_latest(since):
    """The body of the record that tells who held the memory."""
    bodies = (record.body.string_value for record in Backend.logs[since:] if record.event_name == "exit137.journal")
    return next((json.loads(body) for body in bodies), None)


def kill_once(program, folder, collector_port):
    """Kills the service under load. Returns what was in flight."""
    shop, port = start_shop(program, folder, collector_port)
    unanswered, stop = {}, threading.Event()
    clients = [threading.Thread(target=ask, args=(port, unanswered, stop)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(1 + random.random())
    shop.send_signal(signal.SIGKILL)
    shop.wait()
    stop.set()
    for client in clients:
        client.join()
    wanted = in_flight(folder / "exit137.journal")
    for trace, _, parent in wanted:
        # A client may have got the answer of a request whose end was not yet written down; never the other way.
        assert trace in unanswered or parent, f"invented: {trace}"
        assert unanswered.get(trace, parent) == parent, f"wrong parent: {trace}"
    known = {trace for trace, _, _ in wanted}
    print(f"killed: {len(unanswered)} requests without an answer, {len(known & set(unanswered))} of them in the journal")
    return wanted


def main():
    program = sys.argv[1]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="exit137-collector-"))
    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    collector, collector_port = start_collector(backend.server_address[1])
    try:
        for _ in range(KILLS):
            already = {span.span_id for span in recovered(Backend.spans)}
            already_told = len(Backend.logs)
            wanted = kill_once(program, folder, collector_port)
            assert wanted, "nothing was in flight: more clients are needed"
            shop, _ = start_shop(program, folder, collector_port)

            def arrived():
                new = [span for span in recovered(Backend.spans) if span.span_id not in already]
                return new if len(new) >= len(wanted) else None

            spans = wait_for(f"{len(wanted)} recovered spans", arrived)
            got = {(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) for span in spans}
            assert got == wanted, f"missing {wanted - got}, invented {got - wanted}"
            for span in spans:
                assert span.name == "GET /search" and span.kind == span.SPAN_KIND_SERVER, span
                assert span.status.code == span.status.STATUS_CODE_ERROR, span
                assert span.start_time_unix_nano <= span.end_time_unix_nano, span
            told = wait_for("the log record of the heap", lambda: heap_of_latest(already_told))
            print(f"told: {told['live_bytes']} bytes live, {told['heap'][:1]}")
            assert told["operations"] and told["started_unix_nanos"] <= told["seen_unix_nanos"], told
            assert any("was killed with" in record.body.string_value for record in Backend.logs)
            left = [file for file in folder.iterdir() if "previous" in file.name]
            wait_for("the old journal to go", lambda: not any(file.exists() for file in left))
            shop.send_signal(signal.SIGINT)
            shop.wait()
            print(f"recovered: {len(got)} of {len(wanted)} spans came out of rotel with their ids, 0 invented")
        print(json.dumps({"recovered": len(recovered(Backend.spans)), "other spans": len(Backend.spans)}))
    finally:
        collector.kill()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
