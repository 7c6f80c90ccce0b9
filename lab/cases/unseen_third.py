"""A third set that nothing is fitted on: apiary, hostel, slopes, brewery, laundry, pottery, refinery, notary, florist, cablecar, embassy, reservoir, fishery, campus.

What the cases are was settled before any of them was recorded, and before any verdict was seen. Sources are poorer than in the
other sets: memory is read every 5 to 60 s, a third have no node agent, some keep a quarter of their traces or have no memory but the container's."""
import random
import re

from _make import case, having, load, pod, span, svc, truth

SET = "lab"

apiary = svc("hive-registry", "hives:3000 harvests:6000 keepers:800", """
GET   /hives/<int:id>              hive         24 tiny  one:hives
GET   /hives                       hives        14 page  sel:hives:60 region=moor|heath|valley
POST  /harvests                    harvest      14 write ins:harvests
GET   /hives/<int:id>/weights      weights      12 list  sel:harvests:60
GET   /keepers/<int:id>            keeper       10 tiny  one:keepers
GET   /diseases/<name>/spread      spread       4  calc  sel:harvests:150 name=mite|foulbrood
GET   /certificates/<int:id>       certificate  3  heavy one:harvests
""")
hostel = svc("bed-desk", "beds:1200 guests:7000", """
GET    /guests/<id>                guest        24 tiny  one:guests
GET    /rooms/<id>/beds            beds         18 page  sel:beds:20
POST   /checkins                   checkin      14 write ins:guests
GET    /availability               availability 12 list  sel:beds:120
GET    /reviews                    reviews      10 page  sel:guests:30 language=en:6|de:3|pt:2
GET    /invoices/<id>              invoice      8  calc  sel:guests:60
DELETE /bookings/<id>              cancel       4  write upd:guests
GET    /roster/<week>              roster       3  heavy sel:beds:200
""")
slopes = svc("lift-pass", "lifts:200 passes:9000", """
GET  /lifts/<int:pk>               lift         24 tiny  one:lifts
GET  /lifts                        lifts        14 list  sel:lifts:80 side=north|south
POST /passes                       sell_pass    12 write ins:passes
GET  /passes/<int:pk>              pass_page    16 page  one:passes
GET  /snow/<station>               snow         10 calc  sel:lifts:60 station=top|mid|base
GET  /webcams/<int:pk>             webcam       6  heavy
GET  /pistes/<int:pk>/report       piste_report 2  list  sel:passes:60
GET  /statistics                   statistics   3  calc  sel:passes:150 seasons=one:6|two:2
""")
brewery = svc("mash-control", "tanks:400 brews:6000", """
GET  /tanks/<id>                   tank         26 tiny  one:tanks
GET  /tanks                        tanks        14 list  sel:tanks:60
POST /readings                     reading      20 write ins:brews kind=temp:6|flow:3|ph:1
GET  /recipes/<id>                 recipe       12 page  one:brews
GET  /brews/<id>/log               brew_log     10 list  sel:brews:50
GET  /labels/<id>                  label        8  page  one:brews
GET  /forecast                     forecast     5  calc  sel:brews:120
GET  /audits/<id>                  audit        3  heavy sel:brews:200
""")
laundry = svc("linen-track", "linens:5000 orders:4000", """
GET  /linens/<id>                  linen        26 tiny  one:linens
GET  /linens                       linens       14 list  sel:linens:60 hotel=a|b|c
POST /orders                       new_order    14 write ins:orders
GET  /orders/<id>                  order        16 page  one:orders
GET  /machines                     machines     12 tiny
GET  /schedule                     schedule     8  calc  sel:orders:100
GET  /invoices/<id>                invoice      3  heavy sel:orders:200
""")
pottery = svc("kiln-tasks", "glazes:2000", """
TASK - mix_glaze          14 calc  one:glazes
TASK - kiln_profile       12 list  sel:glazes:40
TASK - resize_photo       20 page  one:glazes
TASK - notify_buyer       20 tiny
TASK - sync_stock         10 write upd:glazes
TASK - build_catalogue    4  heavy sel:glazes:200
""", queue="kiln")
refinery = svc("blend-ledger", "batches:3000 samples:9000", """
RPC - GetBatch      30 tiny  one:batches
RPC - LogSample     24 write ins:samples
RPC - ListSamples   16 list  sel:samples:80
RPC - Assay         8  calc  sel:samples:150
RPC - Blend         3  page  sel:batches:40
RPC - Certificate   3  heavy sel:samples:220
""", grpc_service="fuel.blend.v2.BlendLedger")
notary = svc("deed-office", "", """
GET  /deeds/<id>                   deed         26 tiny
GET  /deeds                        deeds        14 list  kind=sale|will|lease
POST /signatures                   sign         14 write
GET  /stamps/<id>                  stamp        12 page
GET  /search                       search       10 calc  by=name|parcel
GET  /scans/<id>                   scan         10 page
GET  /registers/<year>             register     3  heavy year=1990..2026
""", downstream="land.registry")
florist = svc("bouquet-shop", "", """
GET  /flowers/<id>                 flower       28 tiny
GET  /bouquets                     bouquets     14 page  season=spring|autumn
POST /orders                       place_order  14 write
GET  /orders/<id>                  order        12 page
GET  /photos/<id>                  photo        10 page  size=s:6|xl:2
GET  /deliveries                   deliveries   10 list
GET  /posters/<id>                 poster       0  page
""", downstream="petals.store")
cablecar = svc("gondola-ops", "", """
POST /v1/rides                     ride         30 write
GET  /v1/cabins/<id>               cabin        26 tiny
GET  /v1/cabins                    cabins       14 list
GET  /v1/tickets/<id>              ticket       12 page
GET  /v1/wind                      wind         8  calc
GET  /v1/plans/<day>               plan         3  heavy day=1..7
""")
embassy = svc("visa-desk", "", """
GET  /visas/<id>                   visa         26 tiny
GET  /visas                        visas        14 list  state=open|granted|refused
POST /applications                 apply        12 write
GET  /documents/<id>               document     12 page
POST /stamps                       add_stamp    10 write
GET  /interviews/<id>              interview    8  calc
GET  /digest                       digest       3  heavy scope=day:6|week:2
""")
reservoir = svc("sluice-feed", "", """
POST /v1/levels                    push_level   30 write
GET  /v1/gauges/<id>               gauge        26 tiny
GET  /v1/gauges/<id>/history       history      12 calc
GET  /v1/gates                     gates        10 page
POST /v1/alarms                    alarm        9  page  basin=north:6|south:3|east:2
GET  /v1/floods/<id>               flood_model  1.5 calc
""")
fishery = svc("catch-worker", "boats:2000 catches:7000", """
MSG - catch.landed      30 tiny  one:boats
MSG - boat.position     22 write upd:boats
MSG - quota.used        14 list  sel:catches:50
MSG - auction.lot       10 page  one:catches
MSG - logbook.closed    8  calc  sel:catches:90
MSG - season.report     3  heavy sel:catches:200
""", queue="catches")
campus = svc("course-admin", "courses:1500 students:9000", """
GET  /courses/<int:id>             course       26 page  one:courses
GET  /courses                      courses      14 list  sel:courses:60 faculty=law|arts|physics
POST /enrolments                   enrol        10 write ins:students
GET  /students/<int:id>/transcript transcript   10 list  sel:students:60
GET  /timetables/<int:id>          timetable    8  calc  sel:courses:120
POST /uploads                      upload       8  write ins:students
POST /diplomas/<int:id>            diploma      3  tiny  one:students format=pdf:5|png:3
""", child=dict(n=2, comm="typesetter"))

PAIRS = [(5, 5), (5, 10), (10, 5), (10, 10), (10, 15), (15, 15), (15, 30), (30, 30)]  # seconds: container metrics, the app's own
OWN_MEMORY = ("process.", "system.", "cpython.", "jvm.", "v8js.", "nodejs.", "go.")
QUARTER = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
WAVES = [[0, 12], [55, 19], [115, 10], [175, 18], [240, 13]]
CALLER = {"hive-registry": "beekeeper-app", "bed-desk": "booking-web", "lift-pass": "resort-app", "mash-control": "brewhouse-ui", "linen-track": "hotel-portal", "blend-ledger": "control-room",
          "deed-office": "counter-ui", "bouquet-shop": "florist-web", "gondola-ops": "valley-app", "visa-desk": "consulate-web", "sluice-feed": "dam-console", "catch-worker": "port-scale", "course-admin": "student-portal"}


def sources(name, most=30, minute=False, bare=False):
    """How often memory is read, and whether there is a node agent, drawn from the name."""
    r = random.Random("sources of " + name)
    often = (60, 60) if minute else r.choice([p for p in PAIRS if max(p) <= most])
    kw = dict(interval=often[0])
    if r.random() < 0.35 or bare:
        kw["no_node_agent"] = True
    if bare:
        kw["drop_metric_prefixes"] = OWN_MEMORY
    return kw, often[1]


def named(service, op, kind):
    """The operation as its spans are named; Tornado's instrumentation calls every path parameter `path`."""
    if kind == "tornado":
        r = next(x for x in service["routes"] if x["op"] == op)
        return f"{r['method']} " + re.sub(r"<\w+>", "{path}", r["path"])
    return span(service, op, "flask" if kind == "gunicorn" else kind)


def one_pod(name, desc, service, kind, limit, cause, ops, notes, faults=None, extra=None, rps=WAVES, caller=True, sampled=False, seconds=225, most=30, minute=False, bare=False, told=None, traffic=None, of_case=None, **kw):
    """A case of one pod; `ops` are culprits by the service's own names, `sampled`: a quarter of the traces is kept, by the caller if there is one."""
    reads, own = sources(name, most, minute, bare)
    caller = CALLER.get(service["service"]) if caller and kind != "celery" else None
    way = {"grpc": "grpc", "consumer": "queue", "celery": "celery"}.get(kind)
    traffic = dict(traffic or {}, **({"kind": way} if way else {}), **({"env": QUARTER} if sampled and caller else {}))
    if sampled and not caller:
        kw["env"] = {**kw.get("env", {}), **QUARTER}
    names = [x if " " in x or x == "background" else named(service, x, kind) for x in ops]
    changed = having(service, extra=extra, **(faults or {}))
    return case(name, desc, [pod(changed, kind, limit, metric_interval=own, **kw)], [load(rps, caller, **traffic)], duration=seconds, truth=truth(cause, names, notes=notes, **(told or {})), **reads, **(of_case or {}))


def leak(name, desc, service, kind, limit, kb, notes="What was answered is kept.", when=None, decoys=None, **kw):
    """Operations keep so much; `when` is (attribute, parameter, value) if only one value's requests do."""
    faults = {op: dict(retain={"kb": list(size)}) for op, size in kb.items()}
    told = dict(kw.pop("told", {}))
    if when:
        attribute, parameter, value = when
        for f in faults.values():
            f.update(attrs={attribute: parameter})
            f["retain"]["if"] = {parameter: value}
        told["culprit_attributes"] = {attribute: value}
    return one_pod(name, desc, service, kind, limit, "leak", list(kb), notes, {**(decoys or {}), **faults}, told=told, **kw)


def every(name, desc, service, kind, limit, kb, **kw):
    return one_pod(name, desc, service, kind, limit, "leak", ["every request"], "Something of every request is kept, whichever it is.", extra={"middleware": {"kb": kb}}, rps=[[0, 9], [55, 20], [110, 8], [170, 19], [235, 11]], **kw)


def beside(name, desc, service, kind, limit, every_s, kb, **kw):
    return one_pod(name, desc, service, kind, limit, "leak", ["background"], "A task beside the requests keeps what it gathered.", extra={"bg": [{"name": "gather", "every_s": every_s, "kb": kb}]}, rps=[[0, 8], [60, 21], [120, 7], [180, 19], [235, 9]], **kw)


def spike(name, desc, service, kind, limit, op, attribute, parameter, usual, big, mb, at, **kw):
    """One value of a parameter takes `mb`; the usual ones come and go."""
    faults = {op: dict(attrs={attribute: parameter}, spike={"mb": [6, 16], "build_s": [0.2, 0.6], "if": {parameter: usual}, "big": {parameter: big, "mb": mb, "build_s": [3, 4.5]}})}
    return one_pod(name, desc, service, kind, limit, "operation_spike", [op], "The whole answer is built in memory.", faults, rps=[[0, 13], [170, 15]], most=15, told=dict(culprit_attributes={attribute: big}, culprit_in_flight=True, onset=at[0]),
                   traffic=dict(timeout=30, scheduled=[dict(at=a, op=op, fixed={parameter: big}) for a in at]), **kw)


def surge(name, desc, service, kind, limit, op, mb, hold_s, at, rps, **kw):
    return one_pod(name, desc, service, kind, limit, "concurrency_surge", [op], "Many at once, each holding its part for a second or two.", {op: dict(hold_mb=mb, hold_s=hold_s)}, rps=[[0, 12], [150, 13]], seconds=155, most=10,
                   told=dict(culprit_in_flight=True, onset=at), traffic=dict(timeout=25, surges=[dict(at=at, dur=14, op=op, rps=rps)]), **kw)


def calm(name, desc, service, kind, limit, faults, notes, rps=((0, 8), (70, 19), (140, 11), (195, 16)), seconds=200, **kw):
    return one_pod(name, desc, service, kind, limit, "none", [], notes, faults, rps=[list(x) for x in rps], seconds=seconds, **kw)


def xmx(mb):
    return {"JAVA_TOOL_OPTIONS": f"-Xmx{mb}m"}


KEY = "messaging.rabbitmq.destination.routing_key"
CASES = [
    # apiary: Flask on waitress
    leak("apiary-leak", "A registry of beehives.", apiary, "flask", 210, dict(weights=[450, 800]), decoys=dict(certificate=dict(tmp_kb=[10000, 18000])), seconds=235, version="3.1.0"),
    leak("apiary-deltas", "A registry of beehives; the team measures RSS around each request by itself.", apiary, "flask", 220, dict(keeper=[500, 850]), "Keepers are kept; the hand-made deltas blame certificates, which give back what they take.",
         decoys=dict(certificate=dict(tmp_kb=[9000, 16000])), extra={"naive_memory": {"label": "request", "high_mb": 4}}, caller=False, seconds=235, version="3.1.1"),
    calm("apiary-calm", "A registry of beehives in summer.", apiary, "flask", 250, dict(certificate=dict(tmp_kb=[8000, 14000]), hives=dict(retain={"kb": [150, 290], "keys": 150})), "A cache of 150 lists fills; certificates return what they take.", sampled=True, version="3.0.4"),
    # hostel: FastAPI on uvicorn
    surge("hostel-nights", "A hostel's bed desk; a concert is announced.", hostel, "fastapi", 255, "availability", [3.5, 6], [0.9, 1.7], 86, 44, version="5.2.0"),
    leak("hostel-language", "A hostel's bed desk.", hostel, "fastapi", 212, dict(reviews=[2200, 3800]), "Only reviews in one language are kept.", when=("review.language", "language", "pt"), rps=[[0, 19], [235, 22]], traffic=dict(mix_var=0.9), version="5.3.0", seconds=235),
    case("hostel-rollout", "A hostel's bed desk; a new version comes during the window.",
         [pod(hostel, "fastapi", 205, version="5.3.2", until=76, revision=14, resource="downward", metric_interval=10), pod(having(hostel, invoice=dict(retain={"kb": [900, 1500]})), "fastapi", 205, version="5.4.0", at=66, rollout=True, revision=15, resource="downward", metric_interval=10)],
         [load([[0, 14], [240, 17]], "booking-web", targets=[dict(pod=0, to=70, **{"from": 0}), dict(pod=1, **{"from": 70})])], duration=245, interval=10,
         truth=truth("leak", [span(hostel, "invoice", "fastapi")], onset=70, introduced_by="5.4.0", notes="5.3.2 is healthy; 5.4.0 keeps each invoice.")),
    calm("hostel-busy", "A hostel's bed desk on a Friday evening.", hostel, "fastapi", 280, dict(availability=dict(hold_mb=[1, 2], hold_s=[0.3, 0.8]), guest=dict(retain={"kb": [40, 80], "keys": 250})), "Traffic quadruples in a step and stays; a cache of 250 guests.",
         rps=((0, 8), (78, 8), (84, 33), (170, 34), (200, 32)), version="5.2.0"),
    # slopes: Django on waitress
    leak("slopes-rare", "Lift passes of a ski resort.", slopes, "django", 210, dict(piste_report=[2600, 4600]), "A rare report is kept, some megabytes each time.", rps=[[0, 15], [235, 18]], seconds=235, version="2026.1"),
    leak("slopes-leak", "Lift passes of a ski resort; a quarter of the traces is kept.", slopes, "django", 205, dict(pass_page=[330, 600]), sampled=True, seconds=230, version="2026.2"),
    spike("slopes-statistics", "Lift passes of a ski resort; somebody asks for all seasons.", slopes, "django", 240, "statistics", "statistics.seasons", "seasons", ["one", "two"], "all", [230, 280], (66, 128), seconds=165, version="2026.2"),
    # brewery: aiohttp
    leak("brewery-pair", "A brewery's control.", brewery, "aiohttp", 205, dict(recipe=[260, 460], brew_log=[340, 600]), "Two operations keep what they answered.", caller=False, seconds=230, traffic=dict(mix_var=0.9), version="0.9.0"),
    leak("brewery-sensor", "A brewery's control; memory is known from the container alone.", brewery, "aiohttp", 210, dict(reading=[2600, 4200]), "Only readings of one kind are kept.", when=("reading.kind", "kind", "ph"), bare=True, most=15, rps=[[0, 18], [235, 22]], traffic=dict(mix_var=0.9), seconds=235, version="0.9.1"),
    one_pod("brewery-slow", "A brewery's control; its database is slow for a while.", brewery, "aiohttp", 200, "concurrency_surge", ["recipe"], "As much traffic as always; recipes wait a dozen seconds with 4-6 MiB each in hand.",
            dict(recipe=dict(hold_mb=[4, 6.5], hold_s=[0.05, 0.2], slow=[11, 15])), extra={"slow": {"at": 92, "dur": 40}}, rps=[[0, 17], [160, 17]], seconds=165, most=10, told=dict(culprit_in_flight=True, onset=92), traffic=dict(timeout=20), version="0.8.7"),
    calm("brewery-fill", "A brewery's control.", brewery, "aiohttp", 200, dict(audit=dict(tmp_kb=[5000, 9000]), brew_log=dict(retain={"kb": [180, 340], "keys": 200})), "A cache of 200 logs fills slowly, to 50 MiB.", rps=((0, 10), (195, 15)), caller=False, version="0.8.7"),
    # laundry: Tornado
    every("laundry-every", "A laundry's linen.", laundry, "tornado", 200, [70, 150], seconds=235, version="1.12.0"),
    leak("laundry-often", "A laundry's linen; memory is read once a minute.", laundry, "tornado", 190, dict(linen=[90, 190]), "The most frequent operation leaves a little each time.", minute=True, caller=False, rps=[[0, 12], [80, 17], [160, 10], [240, 16], [330, 12]], seconds=335, version="1.12.1"),
    # pottery: a Celery worker
    leak("pottery-prefork", "A pottery's Celery worker with two processes.", pottery, "celery", 300, dict(kiln_profile=[700, 1300]), "Each pool process keeps profiles.", rps=[[0, 10], [230, 13]], seconds=235, env={"POOL": "prefork"}, threads=2, told=dict(process="a pool process of the worker; the parent survives"), of_case=dict(victim="kiln-tasks"), version="0.4.0"),
    leak("pottery-leak", "A pottery's Celery worker.", pottery, "celery", 205, dict(resize_photo=[400, 720]), "Resized photos stay; catalogues take more and give it back.", rps=[[0, 8], [230, 11]], seconds=235, env={"POOL": "threads"}, threads=5, version="0.4.1"),
    # refinery: gRPC
    leak("refinery-blend", "A refinery's ledger over gRPC.", refinery, "grpc", 205, dict(Blend=[1800, 3200]), "A rare, cheap call keeps its blend.", rps=[[0, 14], [230, 17]], seconds=230, version="2.0.3"),
    one_pod("refinery-start", "A refinery's ledger over gRPC; it loads its batches when it starts.", refinery, "grpc", 230, "startup_peak", [], "Loading needs more than the limit; the service never answers.", extra={"startup": [dict(name="load_batches", mb=[250, 270], s=7, keep=0.3)]},
            rps=[[0, 8], [110, 8]], seconds=100, most=10, request=230, of_case=dict(load_after=6, backoff=[15, 40, 60]), version="2.1.0"),
    calm("refinery-calm", "A refinery's ledger over gRPC.", refinery, "grpc", 230, dict(Certificate=dict(tmp_kb=[8000, 14000]), GetBatch=dict(retain={"kb": [40, 80], "keys": 420})), "A cache of 420 batches; certificates return what they take.", rps=((0, 9), (90, 21), (190, 11)), version="2.0.2"),
    # notary: Express
    leak("notary-leak", "A notary's deeds in Node; memory is known from the container alone.", notary, "express", 290, dict(scan=[1400, 2400]), decoys=dict(register=dict(tmp_kb=[12000, 20000])), bare=True, most=15, seconds=240, heap_mb=300, version="11.0.1"),
    leak("notary-pair", "A notary's deeds in Node; a quarter of the traces is kept.", notary, "express", 290, dict(stamp=[600, 1100], search=[800, 1400]), "Two operations keep what they answered.", sampled=True, seconds=240, heap_mb=300, version="11.0.2"),
    calm("notary-sawtooth", "A notary's deeds in Node.", notary, "express", 430, dict(register=dict(tmp_kb=[14000, 24000]), deeds=dict(tmp_kb=[1500, 4000]), scan=dict(retain={"kb": [50, 100], "keys": 280})), "Garbage collection's sawtooth over a bounded cache.", heap_mb=260, version="11.0.0"),
    # florist: Koa
    leak("florist-photo", "A florist's shop in Koa.", florist, "koa", 256, dict(photo=[3000, 4800]), "Large photos stay as Buffers; small ones are innocent.", when=("photo.size", "size", "xl"), rps=[[0, 18], [235, 21]], seconds=235, version="6.6.0"),
    beside("florist-timer", "A florist's shop in Koa; a timer reads prices.", florist, "koa", 220, 0.9, [1300, 2300], seconds=235, version="6.6.1"),
    one_pod("florist-poster", "A florist's shop in Koa; posters are drawn now and then.", florist, "koa", 240, "operation_spike", ["poster"], "A poster needs its pictures in memory all at once.", dict(poster=dict(spike={"mb": [240, 290], "build_s": [3, 4.5]})), rps=[[0, 14], [175, 14]], seconds=175, most=15,
            told=dict(culprit_in_flight=True, onset=60, also_acceptable_operations=["GET /api/posters/{id}"]), traffic=dict(timeout=30, scheduled=[dict(at=60, op="poster"), dict(at=132, op="poster")]), version="6.5.9"),
    # cablecar: Go
    leak("cablecar-leak", "A cable car's operations in Go; memory is read once a minute.", cablecar, "go", 165, dict(ticket=[180, 360]), minute=True, told=dict(culprit_inferable="weak"), rps=[[0, 14], [90, 20], [180, 12], [260, 19], [345, 15]], seconds=350, k8s_env={"GOMEMLIMIT": "150MiB"}, version="1.3.0"),
    surge("cablecar-rush", "A cable car's operations in Go; the wind rises.", cablecar, "go", 200, "wind", [5, 9], [1.0, 2.0], 84, 40, version="1.2.8"),
    beside("cablecar-writer", "A cable car's operations in Go.", cablecar, "go", 125, [0.2, 0.5], [230, 430], seconds=225, caller=False, version="1.3.1"),
    one_pod("cablecar-tight", "A cable car's operations in Go in a small container, on a busy Sunday.", cablecar, "go", 72, "undersized_limit", [], "GOGC=300 lets garbage grow; an ordinary busy time in the usual mix is enough. Nothing is kept.",
            {op: dict(tmp_kb=kb) for op, kb in dict(ride=[900, 2200], cabin=[600, 1500], cabins=[1500, 3500], ticket=[1500, 3500], wind=[900, 2200], plan=[3000, 6000]).items()}, rps=[[0, 12], [88, 16], [98, 110], [150, 118], [160, 14]], seconds=165, most=10,
            told=dict(onset=90, also_acceptable_causes=["concurrency_surge"]), traffic=dict(mix_var=0.2), of_case=dict(backoff=[30, 60]), k8s_env={"GOGC": "300"}, version="1.2.8"),
    # embassy: Java
    leak("embassy-leak", "An embassy's visas in Java; memory is known from the container alone.", embassy, "java", 300, dict(interview=[900, 1600]), decoys=dict(digest=dict(tmp_kb=[9000, 16000])), bare=True, most=15, seconds=240, k8s_env=xmx(280), version="8.1.0"),
    every("embassy-every", "An embassy's visas in Java.", embassy, "java", 260, [80, 160], seconds=235, k8s_env=xmx(245), version="8.2.0"),
    spike("embassy-digest", "An embassy's visas in Java; somebody asks for everything.", embassy, "java", 280, "digest", "digest.scope", "scope", ["day", "week"], "all", [250, 300], (70, 128), seconds=165, k8s_env=xmx(500), version="8.1.1"),
    calm("embassy-calm", "An embassy's visas in Java; memory is read once a minute.", embassy, "java", 340, dict(digest=dict(tmp_kb=[9000, 16000]), visas=dict(tmp_kb=[2000, 5000]), document=dict(retain={"kb": [60, 120], "keys": 280})), "The heap's sawtooth over a bounded cache.",
         minute=True, rps=((0, 10), (90, 22), (180, 11), (290, 19)), seconds=300, k8s_env=xmx(190), version="8.0.9"),
    # reservoir: Rust
    leak("reservoir-flood", "A reservoir's sluices in Rust.", reservoir, "axum", 90, dict(flood_model=[1800, 3200]), "A rare model keeps its grid.", rps=[[0, 18], [225, 22]], seconds=225, version="0.20.0"),
    beside("reservoir-pump", "A reservoir's sluices in Rust; a quarter of the traces is kept.", reservoir, "axum", 80, [0.2, 0.5], [200, 380], seconds=220, sampled=True, version="0.20.1"),
    leak("reservoir-basin", "A reservoir's sluices in Rust.", reservoir, "axum", 84, dict(alarm=[1300, 2200]), "Only alarms of one basin are kept.", when=("alarm.basin", "basin", "east"), caller=False, rps=[[0, 20], [230, 24]], traffic=dict(mix_var=0.9), seconds=230, version="0.20.2"),
    calm("reservoir-calm", "A reservoir's sluices in Rust.", reservoir, "axum", 110, dict(gates=dict(tmp_kb=[1000, 3000]), history=dict(retain={"kb": [60, 120], "keys": 320})), "A cache of 320 histories fills, to 30 MiB.", rps=((0, 9), (80, 26), (150, 12), (195, 20)), version="0.19.5"),
    # fishery: a queue's consumer
    leak("fishery-logbook", "A fishery's queue worker; it keeps a quarter of its traces, and publishers have none.", fishery, "consumer", 195, {"logbook.closed": [900, 1600]}, "Closed logbooks are never dropped.", told=dict(culprit_attributes={KEY: "logbook.closed"}), sampled=True, caller=False, rps=[[0, 12], [210, 15]], seconds=215, threads=4, version="4.4.0"),
    # campus: gunicorn, and Flask on waitress
    leak("campus-prefork", "A campus's courses on a prefork server with two workers.", campus, "gunicorn", 340, dict(transcript=[900, 1600]), "Each worker keeps transcripts.", seconds=235, workers=2, threads=4, told=dict(process="gunicorn worker; the master survives"), of_case=dict(victim="course-admin"), version="17.0.0"),
    one_pod("campus-diploma", "A campus's courses; a helper typesets diplomas.", campus, "flask", 290, "child_process", ["diploma"], "One format makes the typesetter use over 260 MiB.",
            dict(diploma=dict(attrs={"diploma.format": "format"}, child={"mb": [15, 40], "s": 0.5, "if": {"format": ["pdf", "png"]}, "big": {"format": "tiff", "mb": [265, 310], "s": 3}})), rps=[[0, 11], [170, 12]], seconds=170, most=10,
            told=dict(culprit_attributes={"diploma.format": "tiff"}, culprit_in_flight=True, onset=64, process="typesetter (a child); the app survives"), traffic=dict(timeout=30, scheduled=[dict(at=64, op="diploma", fixed={"format": "tiff"}), dict(at=124, op="diploma", fixed={"format": "tiff"})]), of_case=dict(victim="course-admin"), version="17.0.1"),
    one_pod("campus-upload", "A campus's courses; uploads are put on a volume in memory.", campus, "flask", 215, "tmpfs_or_page_cache", ["upload"], "The volume is an emptyDir of medium Memory without a sizeLimit; nothing removes the files.", dict(upload=dict(file_kb=[900, 1800])), rps=[[0, 13], [170, 15]], seconds=160, most=15,
            memory_volumes=[dict(name="uploads", path="/var/uploads")], of_case=dict(backoff=[25, 60]), version="17.1.0"),
    one_pod("campus-term", "A campus's courses in a small container; the term begins.", campus, "flask", 170, "undersized_limit", [], "A cache fills and stays level near the limit; an ordinary busy time over all pages takes the rest.",
            dict(course=dict(tmp_kb=[900, 2400], retain={"kb": [300, 500], "keys": 160}), courses=dict(tmp_kb=[1500, 3500]), transcript=dict(tmp_kb=[1200, 3000]), timetable=dict(tmp_kb=[1500, 3500]), enrol=dict(tmp_kb=[500, 1200])), rps=[[0, 10], [40, 17], [118, 17], [128, 62], [165, 60], [175, 17]], seconds=185, most=10,
            told=dict(onset=118, also_acceptable_causes=["concurrency_surge"]), traffic=dict(mix_var=0.2), of_case=dict(backoff=[30, 60]), threads=40, env={"MALLOC_ARENA_MAX": "2"}, version="17.0.2"),
]
