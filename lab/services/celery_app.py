"""A Celery worker whose broker is a folder; tasks are the ops of APP_SPEC. POOL: solo, threads or prefork."""
import http.server
import os
import threading
import time

import appkit as k
from celery import Celery

box = k.WORK + "/broker"
for d in ("queue", "control"):
    os.makedirs(f"{box}/{d}", exist_ok=True)
app = Celery(k.SPEC["service"], broker="filesystem://")
app.conf.update(broker_transport_options=dict(data_folder_in=f"{box}/queue", data_folder_out=f"{box}/queue", control_folder=f"{box}/control"),
                task_default_queue=k.SPEC["queue"], worker_prefetch_multiplier=1, worker_send_task_events=False, broker_connection_retry_on_startup=True, task_ignore_result=True)


def task(r):
    def run(obj=None):
        params = {"object": obj}
        s, keep = k.work_a(r["op"], r, params)
        time.sleep(s)
        k.done(r["op"], r)
        del keep
    run.__name__ = r["op"]
    return app.task(name=r["op"])(run)


for r in k.SPEC["routes"]:
    task(r)


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *a):
        pass


if __name__ == "__main__":
    k.start()
    threading.Thread(target=http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health).serve_forever, daemon=True).start()
    app.worker_main(["worker", "--pool", os.environ.get("POOL", "solo"), "--concurrency", os.environ.get("THREADS", "1"), "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"])
