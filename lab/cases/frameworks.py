"""Django, aiohttp, Koa and Celery services: museum, flights, auction, podcast."""
from _make import case, having, load, pod, span, svc, truth

SET = "lab"

museum = svc("collection-site", "objects:6000 loans:2500 artists:900", """
GET  /objects/<int:pk>              object_page    26 page  one:objects
GET  /objects                       browse         14 list  sel:objects:80 room=east|west|vault
GET  /artists/<int:pk>              artist         14 page  one:artists sel:objects:20
GET  /objects/<int:pk>/provenance   provenance     8  calc  sel:loans:60
POST /loans                         request_loan   5  write ins:loans
GET  /exhibitions/<slug>            exhibition     10 list  sel:objects:40 slug=bronze|paper|glass
GET  /objects/<int:pk>/zoom         zoom           7  heavy
""")
flights = svc("seat-map", "flights:3000 seats:9000 fares:1500", """
GET  /flights/<code>               flight        22 tiny  one:flights code=100..999
GET  /flights/<code>/seats         seats         18 page  sel:seats:180 code=100..999
POST /flights/<code>/seats/<seat>  assign        10 write upd:seats code=100..999 seat=1..40
GET  /fares                        fares         14 list  sel:fares:120 cabin=eco:7|premium:2|first:1
GET  /manifests/<code>             manifest      4  calc  sel:seats:300 code=100..999
GET  /upgrades                     upgrades      8  list  sel:seats:90
GET  /airports/<iata>              airport       14 tiny  iata=VIE|OSL|LIS|WAW
""")
auction = svc("bid-house", "", """
GET  /lots/<id>           lot          28 tiny
GET  /lots                lots         14 page  hall=main|annex
POST /lots/<id>/bids      bid          22 write
GET  /lots/<id>/bids      bid_history  12 list
GET  /lots/<id>/images    lot_images   7  page  size=thumb:6|full:2
GET  /catalogues/<id>     catalogue    4  heavy
GET  /sellers/<id>        seller       9  tiny
""", downstream="lots.store")
podcast = svc("episode-tasks", "episodes:2000", """
TASK - normalize_audio    16 calc  one:episodes
TASK - make_waveform      14 list  one:episodes
TASK - fetch_feed         24 page  sel:episodes:40
TASK - push_notice        18 tiny
TASK - transcribe_chunk   8  heavy one:episodes
TASK - clean_uploads      4  write
""", queue="episodes")

BUSY = dict(mix_var=0.2, surges=[dict(at=84, dur=16, rps=64)])


def tasks(service, limit, threads=1, pool="solo", **kw):
    return pod(service, "celery", limit, threads=threads, env={"POOL": pool}, **kw)


CASES = [
    case("museum-leak", "A museum's collection in Django.", [pod(having(museum, provenance=dict(retain={"kb": [900, 1500]})), "django", 200, version="2024.3", env={"MALLOC_ARENA_MAX": "2"})],
         [load([[0, 13], [190, 17]], "kiosk")], duration=200,
         truth=truth("leak", [span(museum, "provenance", "django")], notes="Each provenance that was shown stays; zooms take far more and give it back.")),
    case("museum-room", "A museum's collection in Django; nobody upstream is instrumented.", [pod(having(museum, browse=dict(attrs={"room.name": "room"}, retain={"kb": [1300, 2200], "if": {"room": "vault"}})), "django", 216, version="2024.4", metric_interval=2)],
         [load([[0, 18], [200, 20]], mix_var=0.9)], duration=210, interval=2,
         truth=truth("leak", [span(museum, "browse", "django")], culprit_attributes={"room.name": "vault"}, notes="Only pages of the vault are kept.")),
    case("museum-together", "A museum's collection in Django; the page of an object always fetches its provenance.",
         [pod(having(museum, provenance=dict(w=0, retain={"kb": [350, 600]})), "django", 200, version="2024.4")],
         [load([[0, 12], [190, 14]], "kiosk", sequences=[dict(after="object_page", do="provenance", delay=[0.01, 0.05])])], duration=195, interval=2,
         truth=truth("leak", [span(museum, "provenance", "django")], inferable="weak", also_acceptable_operations=[span(museum, "object_page", "django")], notes="Each object's page is followed at once by its provenance, which is never asked for otherwise: counts can't tell the two apart.")),
    case("museum-alive", "A museum's collection in Django.", [pod(having(museum, exhibition=dict(retain={"kb": [140, 260]})), "django", 320, version="2024.5", metric_interval=5)],
         [load([[0, 14], [230, 18]], "kiosk")], duration=240, interval=2,
         truth=truth("leak", [span(museum, "exhibition", "django")], notes="A slow leak; the limit is far away and nothing is killed in the window.")),
    case("museum-deploy", "A museum's collection in Django; a healthy version is rolled out.",
         [pod(museum, "django", 224, version="2024.3", until=82, revision=7, resource="downward"), pod(having(museum, artist=dict(retain={"kb": [40, 90], "keys": 250})), "django", 224, version="2024.4", at=72, rollout=True, revision=8, resource="downward")],
         [load([[0, 13], [180, 15]], "kiosk", targets=[dict(pod=0, to=76, **{"from": 0}), dict(pod=1, **{"from": 76})])], duration=200, interval=2,
         truth=truth("none", notes="The new version has a cache of 250 artists, which warms up; nothing else changes.")),
    case("flights-slow", "Seat maps in aiohttp; a fare service is slow for a while.",
         [pod(having(flights, extra={"slow": {"at": 92, "dur": 40}}, fares=dict(hold_mb=[4, 6.5], hold_s=[0.05, 0.2], slow=[11, 15])), "aiohttp", 196, version="3.1.0")],
         [load([[0, 16], [160, 16]], "check-in", timeout=20)], duration=160, interval=2,
         truth=truth("concurrency_surge", [span(flights, "fares", "aiohttp")], culprit_in_flight=True, onset=92, notes="As much traffic as always; fares wait ten seconds for what they call, with 4-6 MiB each in hand.")),
    case("flights-rush", "Seat maps in aiohttp; a holiday sale sends everybody.",
         [pod(having(flights, **{op: dict(hold_mb=[1.2, 2.6], hold_s=[0.7, 1.4]) for op in ("flight", "seats", "fares", "upgrades", "airport", "assign", "manifest")}), "aiohttp", 256, version="3.1.1")],
         [load([[0, 11], [150, 11]], "check-in", timeout=25, **BUSY)], duration=150, interval=1,
         truth=truth("concurrency_surge", [], culprit_in_flight=True, onset=84, also_acceptable_causes=["undersized_limit"], notes="Six times the traffic over all operations in the usual mix; each request holds a little for a second.")),
    case("flights-cabin", "Seat maps in aiohttp.", [pod(having(flights, fares=dict(attrs={"cabin.class": "cabin"}, retain={"kb": [2600, 4400], "if": {"cabin": "first"}})), "aiohttp", 224, version="3.2.0", metric_interval=2)],
         [load([[0, 20], [200, 24]], "check-in", mix_var=0.9)], duration=210, interval=2,
         truth=truth("leak", [span(flights, "fares", "aiohttp")], culprit_attributes={"cabin.class": "first"}, notes="Only fares of the first class are kept: one in ten.")),
    case("flights-metrics", "Seat maps in aiohttp; the traces were not collected.", [pod(having(flights, upgrades=dict(retain={"kb": [800, 1400]})), "aiohttp", 208, version="3.2.1", metric_interval=1, semconv="new", resource="downward")],
         [load([[0, 15], [200, 18]])], duration=200, interval=1, drop=["traces"],
         truth=truth("leak", [span(flights, "upgrades", "aiohttp")], inferable="weak", notes="Only the request histogram of the metrics tells operations apart.")),
    case("flights-quiet", "Seat maps in aiohttp over a quiet and a busy hour.", [pod(having(flights, manifest=dict(tmp_kb=[4000, 7000]), seats=dict(retain={"kb": [60, 120], "keys": 260})), "aiohttp", 288, version="3.1.0")],
         [load([[0, 6], [70, 28], [120, 30], [160, 7]], "check-in")], duration=190,
         truth=truth("none", notes="A cache of 260 seat maps and traffic that rises and falls.")),
    case("auction-images", "An auction house in Koa.", [pod(having(auction, lot_images=dict(attrs={"image.size": "size"}, retain={"kb": [3000, 4800], "if": {"size": "full"}})), "koa", 256, version="5.4.0")],
         [load([[0, 17], [190, 20]], "bid-app")], duration=205, interval=2,
         truth=truth("leak", [span(auction, "lot_images", "koa")], culprit_attributes={"image.size": "full"}, notes="Full-size images stay as Buffers outside the V8 heap; thumbnails are innocent.")),
    case("auction-catalogue", "An auction house in Koa; a catalogue is drawn up.", [pod(having(auction, catalogue=dict(query={"format": {"html": 5, "txt": 2}}, attrs={"catalogue.format": "format"}, spike={"mb": [6, 14], "build_s": [0.2, 0.5], "if": {"format": ["html", "txt"]}, "big": {"format": "print", "mb": [260, 310], "build_s": [3, 5]}})), "koa", 240, version="5.3.2")],
         [load([[0, 14], [170, 14]], "bid-app", timeout=30, scheduled=[dict(at=58, op="catalogue", fixed={"format": "print"}), dict(at=122, op="catalogue", fixed={"format": "print"})])], duration=170,
         truth=truth("operation_spike", [span(auction, "catalogue", "koa")], culprit_attributes={"catalogue.format": "print"}, culprit_in_flight=True, onset=58, notes="The print edition puts all pictures into Buffers first.")),
    case("auction-feed", "An auction house in Koa; a timer reads a feed.", [pod(having(auction, extra={"bg": [{"name": "feed", "every_s": 1.3, "kb": [1200, 2200]}]}), "koa", 224, version="5.4.1", metric_interval=5)],
         [load([[0, 6], [70, 20], [120, 6], [190, 18]], "bid-app")], duration=195, interval=2,
         truth=truth("leak", ["background"], notes="A timer keeps what it read in Buffers; requests have no part in it.")),
    case("auction-healthy", "An auction house in Koa.", [pod(having(auction, catalogue=dict(tmp_kb=[12000, 20000]), lot_images=dict(retain={"kb": [150, 260], "keys": 160}), bid_history=dict(tmp_kb=[1500, 4000])), "koa", 288, version="5.3.2")],
         [load([[0, 10], [60, 22], [130, 12], [185, 20]], "bid-app")], duration=190,
         truth=truth("none", notes="160 images are kept as Buffers, the rest is garbage.")),
    case("podcast-leak", "A podcast host's Celery worker.", [tasks(having(podcast, make_waveform=dict(retain={"kb": [900, 1600]})), 208, threads=6, pool="threads", version="1.13.0")],
         [load([[0, 8], [190, 11]], kind="celery")], duration=200, interval=2,
         truth=truth("leak", [span(podcast, "make_waveform", "celery")], notes="Each waveform stays in a module-level dict. transcribe_chunk takes much more and gives it back.")),
    case("podcast-prefork", "A podcast host's Celery worker with two processes.", [tasks(having(podcast, fetch_feed=dict(retain={"kb": [500, 900]})), 300, threads=2, pool="prefork", version="1.13.1", metric_interval=5)],
         [load([[0, 9], [200, 11]], kind="celery")], duration=205, interval=2, victim="episode-tasks",
         truth=truth("leak", [span(podcast, "fetch_feed", "celery")], process="a pool process of the worker; the parent survives", notes="Each pool process keeps the feeds that it fetched.")),
    case("podcast-healthy", "A podcast host's Celery worker.", [tasks(having(podcast, transcribe_chunk=dict(tmp_kb=[9000, 16000]), fetch_feed=dict(retain={"kb": [100, 200], "keys": 120})), 240, threads=4, pool="threads", version="1.12.6")],
         [load([[0, 5], [180, 10]], kind="celery")], duration=185,
         truth=truth("none", notes="120 feeds are cached; chunks return what they take.")),
]
