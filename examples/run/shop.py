"""A small shop with one mistake, to be killed by `exit137 run`.

    exit137 run --memory 200MiB -- python3 examples/run/shop.py --load

Flask serves it, and the stock OpenTelemetry packages trace it: install.sh beside this file has them. With `--load` the
shop has customers, and is out of memory in about half a minute. Nothing in here knows exit137.
"""

import logging
import random
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor


def instrument():
    """What `opentelemetry-instrument` does before it starts a program."""
    try:
        from opentelemetry import trace
        from opentelemetry.instrumentation.auto_instrumentation import initialize
    except ImportError:
        return  # It sells without, too.
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        initialize()


instrument()

from flask import Flask, request  # noqa: E402  (after it can be traced)
from werkzeug.serving import make_server  # noqa: E402

app = Flask("shop")
catalog = {number: f"product {number}" for number in range(500)}
seen_searches = {}


@app.get("/products/<int:number>")
def product(number):
    return catalog.get(number, "sold out")


@app.get("/search")
def search():
    words = request.args.get("q", "")
    # The mistake: every search is new, and none is ever forgotten.
    if words not in seen_searches:
        seen_searches[words] = [f"{words} {hit}" for hit in range(14_000)]
    return str(len(seen_searches[words]))


@app.get("/reports/<int:month>")
def report(month):
    # Large, but given back.
    rows = [f"{month} {row}" for row in range(20_000)]
    return str(len(rows))


@app.post("/orders")
def order():
    return "thank you"


def customers(port):
    """Twenty requests a second, one in five of them a search."""
    kinds = ["/products/{}", "/search?q=shoes+{}", "/orders", "/reports/{}"]
    dice = random.Random(137)

    def visit(path):
        try:
            method = "POST" if path == "/orders" else "GET"
            urllib.request.urlopen(
                urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=10
            ).read()
        except OSError:
            pass

    with ThreadPoolExecutor(4) as pool:
        while True:
            pool.submit(visit, dice.choices(kinds, [10, 4, 4, 2])[0].format(dice.randrange(10_000)))
            time.sleep(0.05)


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # A line a request is too many here.
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"the shop is open on http://127.0.0.1:{server.server_port}", flush=True)
    if "--load" in sys.argv:
        threading.Thread(target=customers, args=(server.server_port,), daemon=True).start()
    server.serve_forever()
