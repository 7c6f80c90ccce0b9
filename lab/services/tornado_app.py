"""A Tornado service described by APP_SPEC; does what appkit does."""
import asyncio
import os
import re

import appkit as k
import tornado.web


def handler(routes):
    class Handler(tornado.web.RequestHandler):
        async def run(self, **path):
            r = routes[self.request.method]
            op = r["op"]
            params = {**{n: self.get_query_argument(n) for n in self.request.query_arguments}, **path}
            try:
                s, keep = k.work_a(op, r, params)
                await asyncio.sleep(s + k.uni(r.get("hold_s", 0)))
                self.set_status(502 if k.fails(r) else 200)
                self.write(k.response(op, r, keep[1]))
            finally:
                k.done(op, r)
        get = post = put = patch = delete = run
    return Handler


class Healthz(tornado.web.RequestHandler):
    def get(self):
        self.write("ok")


async def main():
    k.start()
    by_path = {}
    for r in k.SPEC["routes"]:
        by_path.setdefault(r["path"], {})[r["method"]] = r
    urls = [(r"/healthz", Healthz)]
    urls += [(re.sub(r"<(?:\w+:)?(\w+)>", r"(?P<\1>[^/]+)", path), handler(routes)) for path, routes in by_path.items()]
    tornado.web.Application(urls).listen(int(os.environ["PORT"]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
