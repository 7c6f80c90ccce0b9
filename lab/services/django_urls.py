"""The routes of APP_SPEC as Django views."""
import re
import time

import appkit as k
from django.http import HttpResponse, JsonResponse
from django.urls import path

k.start()


def one(r, request, params):
    k.maybe_log(r["op"], r, params)
    try:
        s, keep = k.work_a(r["op"], r, params)
        time.sleep(s)
        body = k.response(r["op"], r, keep[1])
    finally:
        k.done(r["op"], r)
    if k.fails(r):
        return JsonResponse({"error": "upstream unavailable"}, status=502)
    return JsonResponse(body)


def view(by_method):
    def handle(request, **kw):
        r = by_method.get(request.method)
        if r is None:
            return HttpResponse(status=405)
        return one(r, request, {**request.GET.dict(), **{a: str(b) for a, b in kw.items()}})
    handle.csrf_exempt = True
    return handle


by_path = {}
for r in k.SPEC["routes"]:
    p = re.sub(r"<(\w+)>", r"<str:\1>", r["path"].lstrip("/"))
    by_path.setdefault(p, {})[r["method"]] = r
urlpatterns = [path("healthz", lambda request: HttpResponse("ok"))] + [path(p, view(m), name="_".join(x["op"] for x in m.values())) for p, m in by_path.items()]
