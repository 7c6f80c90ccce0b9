"""More services that nothing is fitted on, recorded after the last change of the model: velodrome, aquarium, glacier, lighthouse, tannery, vault, abacus, pier."""
from _make import case, having, load, pod, span, svc, truth

SET = "lab"

velodrome = svc("lap-timer", "riders:3000 laps:8000", """
GET  /riders/<int:id>          rider       24 tiny  one:riders
GET  /riders/<int:id>/laps     laps        14 list  sel:laps:60
POST /laps                     add_lap     20 write ins:laps
GET  /races                    races       12 page  sel:laps:40 track=inner|outer
GET  /races/<int:id>/table     race_table  7  calc  sel:laps:150
GET  /races/<int:id>/poster    poster      3  heavy one:riders
""")
aquarium = svc("tank-monitor", "tanks:2000 readings:9000", """
GET   /tanks/<id>              tank        26 tiny  one:tanks
GET   /tanks/<id>/history      history     12 list  sel:readings:80
POST  /readings                reading     20 write ins:readings
PATCH /tanks/<id>              set_tank    8  write upd:tanks
GET   /species/<name>          species     10 page  sel:tanks:20 name=eel|ray|cod
GET   /reports/water           water       4  calc  sel:readings:200 range=day:7|week:2
""")
glacier = svc("ice-survey", "", """
GET  /stakes/<id>              stake       26 tiny
GET  /stakes                   stakes      14 list  zone=n|s|e
POST /measurements             measure     16 write
GET  /profiles/<id>            profile     10 calc
GET  /photos/<id>              photo       12 page
GET  /models/<id>              model       3  heavy
""", downstream="ice.store")
lighthouse = svc("beacon-svc", "beacons:2000 passes:9000", """
RPC - GetBeacon    30 tiny  one:beacons
RPC - LogPass      24 write ins:passes
RPC - ListPasses   16 list  sel:passes:80
RPC - Visibility   8  calc  sel:passes:180
RPC - Chart        3  heavy sel:passes:220
""", grpc_service="sea.beacon.v1.Beacon")
tannery = svc("hide-stock", "hides:4000 lots:2000", """
GET  /hides/<int:id>           hide        26 tiny  one:hides
GET  /lots/<int:id>            lot         16 page  sel:hides:30
POST /lots                     new_lot     10 write ins:lots
GET  /lots/<int:id>/grading    grading     10 list  sel:hides:80
GET  /colours                  colours     12 tiny
GET  /stock/report             stock       3  heavy sel:hides:220
""")
vault = svc("key-vault", "", """
GET  /keys/<id>                key         28 tiny
GET  /keys                     keys        12 list  scope=app|user
POST /keys                     new_key     12 write
GET  /audits/<id>              audit       12 page
GET  /certificates/<id>        certificate 10 calc
GET  /exports/<id>             export      3  heavy
""")
abacus = svc("sum-service", "", """
GET  /sheets/<id>              sheet       26 tiny
GET  /sheets/<id>/cells        cells       14 list
POST /sheets/<id>/cells        set_cell    18 write
GET  /formulas/<id>            formula     10 calc
GET  /charts/<id>              chart       12 page
GET  /exports/<id>             export      3  heavy
""")
pier = svc("mooring-worker", "boats:3000 berths:500", """
MSG - boat.moored      30 tiny  one:boats
MSG - boat.cast_off    20 write upd:boats
MSG - fee.due          14 page  one:boats
MSG - survey.done      8  calc  sel:boats:90
MSG - season.closed    3  heavy sel:boats:200
""", queue="moorings")

WAVES = [[0, 11], [60, 19], [120, 10], [190, 18], [210, 13]]
KEY = "messaging.rabbitmq.destination.routing_key"


def leak(name, service, kind, limit, op, kb, desc, caller="front-desk", attributes=None, lo=None, **kw):
    more = {k: kw.pop(k) for k in ("victim",) if k in kw}
    return case(name, desc, [pod(having(service, **{op: dict(retain={"kb": kb})}), kind, limit, **kw)], [lo or load(WAVES, caller)], duration=205, interval=2,
                truth=truth("leak", [span(service, op, kind)], notes="What was answered is kept.", **({"culprit_attributes": attributes} if attributes else {})), **more)


def calm(name, service, kind, limit, desc, heavy, op, kb, keys, lo=None, **kw):
    return case(name, desc, [pod(having(service, **{heavy: dict(tmp_kb=[7000, 13000]), op: dict(retain={"kb": kb, "keys": keys})}), kind, limit, **kw)],
                [lo or load([[0, 8], [70, 19], [140, 11], [185, 15]], "front-desk")], duration=190, truth=truth("none", notes="A bounded cache fills."))


CASES = [
    leak("velodrome-leak", velodrome, "flask", 200, "race_table", [800, 1400], "Laps of a velodrome."),
    calm("velodrome-calm", velodrome, "flask", 250, "Laps of a velodrome.", "poster", "laps", [130, 260], 150),
    case("velodrome-every", "Laps of a velodrome.", [pod(having(velodrome, extra={"middleware": {"kb": [55, 110]}}), "flask", 200)], [load(WAVES, "front-desk")], duration=205, interval=2,
         truth=truth("leak", ["every request"], notes="Something of every request is kept.")),
    case("aquarium-water", "Tanks of an aquarium; somebody asks for ten years.",
         [pod(having(aquarium, water=dict(attrs={"water.range": "range"}, spike={"mb": [6, 15], "build_s": [0.2, 0.6], "if": {"range": ["day", "week"]}, "big": {"range": "decade", "mb": [230, 280], "build_s": [3, 4.5]}})), "fastapi", 240)],
         [load([[0, 14], [160, 15]], "keeper-app", timeout=30, scheduled=[dict(at=66, op="water", fixed={"range": "decade"}), dict(at=125, op="water", fixed={"range": "decade"})])], duration=160,
         truth=truth("operation_spike", [span(aquarium, "water", "fastapi")], culprit_attributes={"water.range": "decade"}, culprit_in_flight=True, onset=66, notes="Ten years are one list in memory.")),
    case("aquarium-feeding", "Tanks of an aquarium at feeding time.", [pod(having(aquarium, history=dict(hold_mb=[3, 5.5], hold_s=[0.9, 1.7])), "fastapi", 240)],
         [load([[0, 12], [150, 13]], "keeper-app", timeout=25, surges=[dict(at=82, dur=14, op="history", rps=42)])], duration=150,
         truth=truth("concurrency_surge", [span(aquarium, "history", "fastapi")], culprit_in_flight=True, onset=82, notes="Many histories at once, each holding 3-5.5 MiB.")),
    leak("glacier-leak", glacier, "express", 300, "profile", [800, 1500], "Ice in Node.", heap_mb=300),
    calm("glacier-calm", glacier, "express", 420, "Ice in Node.", "model", "photo", [50, 100], 280, heap_mb=260),
    leak("lighthouse-leak", lighthouse, "grpc", 200, "ListPasses", [450, 800], "Beacons over gRPC.", lo=load(WAVES, "pilot", kind="grpc")),
    calm("lighthouse-calm", lighthouse, "grpc", 230, "Beacons over gRPC.", "Chart", "GetBeacon", [30, 60], 450, lo=load([[0, 9], [90, 21], [180, 11]], "pilot", kind="grpc")),
    leak("tannery-prefork", tannery, "gunicorn", 330, "grading", [900, 1600], "Hides on a prefork server.", workers=2, threads=4, victim="hide-stock"),
    leak("vault-leak", vault, "go", 150, "audit", [350, 650], "Keys in Go."),
    leak("abacus-leak", abacus, "java", 300, "formula", [800, 1400], "Sheets in Java.", k8s_env={"JAVA_TOOL_OPTIONS": "-Xmx280m"}),
    calm("abacus-calm", abacus, "java", 340, "Sheets in Java.", "export", "chart", [60, 120], 280, k8s_env={"JAVA_TOOL_OPTIONS": "-Xmx180m"}),
    leak("pier-leak", pier, "consumer", 190, "fee.due", [450, 800], "Moorings behind a queue.", lo=load(WAVES, "harbour-master", kind="queue"), attributes={KEY: "fee.due"}, threads=4),
]
