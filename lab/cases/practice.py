"""More records to learn from, of kinds that were rare: quarry, ferry, archive, kiosk, atlas, foundry."""
from _make import case, having, load, pod, span, svc, truth

SET = "lab"

quarry = svc("stone-yard", "", """
POST /loads                    add_load     30 write
GET  /loads/<id>               get_load     24 tiny
GET  /pits/<pit>/plan          pit_plan     10 calc  pit=1..9
GET  /prices                   prices       12 tiny
GET  /trucks/<id>/log          truck_log    12 page
GET  /surveys/<id>             survey       4  heavy
""")
ferry = svc("ferry-desk", "", """
GET  /sailings                 sailings     22 list  port=a|b|c
GET  /sailings/<id>            sailing      24 tiny
POST /bookings                 book         14 write
GET  /bookings/<id>            booking      14 page
GET  /decks/<id>/plan          deck_plan    7  calc
GET  /manifests/<id>           manifest     3  heavy
""")
archive = svc("paper-archive", "", """
GET  /boxes/<id>               box          26 tiny
GET  /boxes                    boxes        14 list  room=1..5
POST /scans                    add_scan     12 write
GET  /scans/<id>               scan         16 page
GET  /scans/<id>/text          scan_text    8  calc
GET  /inventories/<id>         inventory    3  heavy
""")
kiosk = svc("news-kiosk", "papers:4000 sales:6000", """
GET  /papers/<int:id>          paper        24 tiny  one:papers
GET  /papers                   papers       16 page  sel:papers:60 shelf=a|b|c
POST /sales                    sale         18 write ins:sales
GET  /sales/today              today        9  list  sel:sales:80
GET  /returns/<int:id>         returns      7  calc  sel:sales:120
GET  /reports/<int:id>         report       3  heavy sel:sales:200
""")
atlas = svc("map-sheets", "", """
GET  /sheets/<id>              sheet        26 tiny
GET  /sheets                   sheets       14 list  scale=25|50|100
GET  /sheets/<id>/legend       legend       12 page
GET  /sheets/<id>/hills        hills        8  calc
POST /notes                    add_note     12 write
GET  /prints/<id>              print_sheet  3  heavy
""")

DAY = [[0, 15], [60, 22], [120, 12], [180, 20], [210, 15]]


def leak(name, service, kind, limit, ops, desc, kb, caller="front", **kw):
    faults = {op: dict(retain={"kb": list(x)}) for op, x in zip(ops, kb)}
    return case(name, desc, [pod(having(service, **faults), kind, limit, **kw)], [load(DAY, caller)], duration=205, interval=2,
                truth=truth("leak", [span(service, op, kind) for op in ops], notes="What was answered is kept."))


def bg(name, service, kind, limit, kb, desc, **kw):
    return case(name, desc, [pod(having(service, extra={"bg": [{"name": "gather", "every_s": [0.5, 1.1], "kb": kb}]}), kind, limit, **kw)],
                [load([[0, 8], [60, 22], [120, 7], [200, 18]], "front")], duration=205, interval=2, truth=truth("leak", ["background"], notes="A task beside the requests keeps what it gathered."))


def every(name, service, kind, limit, kb, desc, **kw):
    return case(name, desc, [pod(having(service, extra={"middleware": {"kb": kb}}), kind, limit, **kw)],
                [load([[0, 9], [60, 21], [120, 8], [200, 18]], "front")], duration=205, interval=2, truth=truth("leak", ["every request"], notes="Something of every request is kept, whichever it is."))


XMX = {"k8s_env": {"JAVA_TOOL_OPTIONS": "-Xmx300m"}}
CASES = [
    leak("quarry-leak", quarry, "axum", 76, ["truck_log"], "A stone yard in Rust.", [(150, 300)]),
    leak("quarry-pair", quarry, "axum", 80, ["get_load", "pit_plan"], "A stone yard in Rust.", [(40, 90), (110, 220)]),
    bg("quarry-gather", quarry, "axum", 72, [150, 300], "A stone yard in Rust."),
    every("quarry-every", quarry, "axum", 70, [14, 30], "A stone yard in Rust."),
    leak("ferry-leak", ferry, "go", 150, ["booking"], "Ferries in Go.", [(240, 460)]),
    leak("ferry-alive", ferry, "go", 480, ["deck_plan"], "Ferries in Go; nothing is killed yet.", [(260, 480)], metric_interval=5),
    bg("ferry-gather", ferry, "go", 120, [500, 900], "Ferries in Go."),
    every("ferry-every", ferry, "go", 130, [40, 90], "Ferries in Go."),
    leak("archive-leak", archive, "java", 300, ["scan_text"], "An archive in Java.", [(900, 1600)], **XMX),
    every("archive-every", archive, "java", 280, [60, 130], "An archive in Java.", **XMX),
    bg("archive-gather", archive, "java", 280, [900, 1700], "An archive in Java.", **XMX),
    every("kiosk-every", kiosk, "flask", 180, [60, 130], "A kiosk in Flask."),
    bg("kiosk-gather", kiosk, "flask", 180, [700, 1300], "A kiosk in Flask."),
    leak("kiosk-pair", kiosk, "flask", 190, ["today", "returns"], "A kiosk in Flask.", [(300, 550), (380, 700)]),
    leak("atlas-pair", atlas, "express", 300, ["legend", "hills"], "Map sheets in Node.", [(420, 800), (620, 1100)], heap_mb=300),
    every("atlas-every", atlas, "express", 290, [80, 160], "Map sheets in Node.", heap_mb=300),
]
# Healthy services whose memory rises for a while: caches that fill, load that grows.
for n, (service, kind, limit, cache) in enumerate([
        (kiosk, "flask", 260, ("paper", 90, 170, 160)), (kiosk, "flask", 280, ("returns", 150, 280, 180)),
        (atlas, "express", 420, ("legend", 60, 110, 280)), (quarry, "axum", 128, ("truck_log", 60, 120, 300)),
        (ferry, "go", 220, ("booking", 50, 100, 300)), (archive, "java", 360, ("scan", 70, 130, 300)), (kiosk, "fastapi", 260, ("paper", 70, 140, 220)),
        (kiosk, "flask", 300, ("report", 300, 600, 400))]):
    op, low, high, keys = cache
    heavy = next(r["op"] for r in service["routes"] if r["ms"][0] >= 45 and r["w"] <= 4)
    changes = {heavy: dict(tmp_kb=[7000, 14000])} if heavy != op else {}
    if n == 7:  # a slow, rare cache
        changes = {op: dict(tmp_kb=[5000, 9000], w=3)}
    changes[op] = {**changes.get(op, {}), "retain": {"kb": [low, high], "keys": keys}}
    more = XMX if kind == "java" else dict(heap_mb=260) if kind == "express" else {}
    name = {quarry["service"]: "quarry", ferry["service"]: "ferry", archive["service"]: "archive", kiosk["service"]: "kiosk", atlas["service"]: "atlas"}[service["service"]]
    CASES.append(case(f"{name}-calm{n}", "An ordinary day.", [pod(having(service, **changes), kind, limit, **more)],
                      [load([[0, 8], [50, 12 + n], [120, 20], [190, 20]] if n % 2 else [[0, 9], [80, 21], [150, 12]], "front")], duration=190, truth=truth("none", notes="A bounded cache fills.")))
