"""A small shop: `GET /search` keeps what it found, the others do not. Uninstrumented; OpenTelemetry comes from outside."""
import sys

from flask import Flask

app = Flask(__name__)
kept = []


@app.get("/search")
def search():
    kept.append(bytearray(1_200_000))
    return {"found": len(kept)}


@app.get("/items/<int:number>")
def item(number):
    scratch = bytearray(400_000)
    return {"item": number, "bytes": len(scratch)}


@app.get("/health")
def health():
    return "ok"


app.run(host="127.0.0.1", port=int(sys.argv[1]), threaded=True)
