"""An aiohttp service described by APP_SPEC. Beside what appkit does: `slow` (a time at which a dependency is slow) and `hold_mb` held while waiting."""
import asyncio
import os
import re
import time

import appkit as k
from aiohttp import web

MARK = os.path.join(k.WORK, "first")
if not os.path.exists(MARK):
    open(MARK, "w").write(str(time.time()))
FIRST = float(open(MARK).read())


def slow_now():
    s = k.SPEC.get("slow")
    return s and s["at"] < time.time() - FIRST < s["at"] + s["dur"]


def view(r):
    op = r["op"]

    async def handler(request):
        params = {**request.query, **request.match_info}
        k.maybe_log(op, r, params)
        try:
            s, keep = k.work_a(op, r, params)
            await asyncio.sleep(s + k.uni(r.get("hold_s", 0)))
            if r.get("slow") and slow_now():
                await asyncio.sleep(k.uni(r["slow"]))
            body = k.response(op, r, keep[1])
        finally:
            k.done(op, r)
        return web.json_response(body, status=502 if k.fails(r) else 200)
    handler.__name__ = op
    return handler


async def healthz(_):
    return web.Response(text="ok")


k.start()
app = web.Application(client_max_size=64 << 20)
app.router.add_get("/healthz", healthz)
for r in k.SPEC["routes"]:
    app.router.add_route(r["method"], re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", r["path"]), view(r))
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
