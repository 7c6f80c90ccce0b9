"""Services that nothing is ever fitted on: orchard, tramway, pharmacy, theatre, grid, harbour, brokerage, genome, fleetlog, ballots.

What is learnt from their records goes into general changes at most; then new ones are made."""
from _make import case, having, load, pod, span, svc, truth

SET = "lab"

orchard = svc("orchard-desk", "trees:4000 picks:6000", """
GET  /trees/<int:id>            tree        24 tiny  one:trees
GET  /trees                     trees       14 page  sel:trees:60 variety=fuji|gala|braeburn
GET  /trees/<int:id>/yield      yields      12 list  sel:picks:50
POST /picks                     pick        12 write ins:picks
GET  /blocks/<name>/forecast    forecast    6  calc  sel:picks:150 name=east|west|hill
GET  /labels/<int:id>           label       9  page  one:trees
GET  /harvest/report            harvest     3  heavy sel:picks:250
""")
tramway = svc("tram-times", "stops:3000 trips:7000", """
GET  /stops/<id>               stop         26 tiny  one:stops
GET  /stops/<id>/next          next_trams   22 page  sel:trips:30
GET  /lines/<line>/map         line_map     8  calc  sel:stops:120 line=1..9
POST /tickets                  buy          9  write ins:trips
GET  /trips/<id>/replay        replay       4  list  sel:trips:80 span=hour:7|day:2
GET  /delays                   delays       12 list  sel:trips:60
""")
pharmacy = svc("dispensary", "", """
GET  /drugs/<id>               drug         26 tiny
GET  /drugs                    find_drug    14 list  q=ibu|amox|stat
POST /prescriptions            prescribe    12 write
GET  /prescriptions/<id>       prescription 18 page
GET  /interactions             interactions 9  calc  with=a|b|c
GET  /stock/<shelf>            shelf        10 page  shelf=1..20
GET  /audit/export             audit        2  heavy
""", downstream="drugs.store")
theatre = svc("box-office", "shows:1500 seats:8000", """
GET  /shows                    shows        18 page  sel:shows:40 genre=play|opera|dance
GET  /shows/<int:id>           show         26 tiny  one:shows
GET  /shows/<int:id>/seats     seats        14 list  sel:seats:120
POST /orders                   order        9  write ins:seats
GET  /orders/<int:id>          get_order    10 tiny  one:seats
GET  /programmes/<int:id>      programme    5  heavy one:shows
GET  /venues/<name>            venue        9  page  sel:shows:20 name=main|studio
""")
grid = svc("grid-control", "meters:4000 events:9000", """
RPC - GetMeter      30 tiny  one:meters
RPC - PushEvent     26 write ins:events
RPC - ListEvents    16 list  sel:events:80
RPC - Forecast      8  calc  sel:events:200
RPC - Snapshot      3  heavy sel:meters:250
RPC - Subscribe     10 page  sel:meters:20
""", grpc_service="power.grid.v1.Grid")
harbour = svc("berth-worker", "ships:3000 berths:200", """
MSG - ship.arrived      30 tiny  one:ships
MSG - ship.left         22 write upd:ships
MSG - cargo.declared    12 list  sel:ships:50
MSG - berth.assigned    14 page  one:berths
MSG - tide.updated      10 calc  sel:berths:60
MSG - invoice.closed    3  heavy sel:ships:200
""", queue="berths")
brokerage = svc("order-router", "", """
GET  /quotes/<symbol>          quote       30 tiny  symbol=1..60
POST /orders                   place       18 write
GET  /orders/<id>              get_order   16 tiny
GET  /portfolios/<id>          portfolio   12 page
GET  /portfolios/<id>/risk     risk        7  calc  model=fast:6|full:2
GET  /statements/<id>          statement   4  heavy
GET  /watchlists/<id>          watchlist   11 list
""")
genome = svc("sequence-index", "", """
GET  /samples/<id>             sample      26 tiny
GET  /samples/<id>/reads       reads       12 list
POST /variants                 add_variant 14 write
GET  /variants/<id>            variant     20 page
GET  /genes/<gene>/coverage    coverage    9  calc  gene=1..30
GET  /cohorts/<id>/matrix      matrix      3  heavy
""")
fleetlog = svc("truck-log", "", """
POST /v1/pings                 push_pings  34 write
GET  /v1/trucks/<id>           truck       24 tiny
GET  /v1/trucks/<id>/route     route       12 calc
GET  /v1/depots                depots      10 tiny
POST /v1/inspections           inspect     9  page  grade=a:6|b:3|c:1
GET  /v1/tachograph            tachograph  4  heavy
""")
ballots = svc("count-room", "ballots:5000 wards:300", """
GET  /wards/<id>               ward        24 tiny  one:wards
GET  /wards/<id>/tally         tally       14 list  sel:ballots:60
POST /ballots                  cast        16 write ins:ballots
GET  /scans/<id>               scan        10 page  one:ballots
GET  /recounts/<ward>          recount     4  heavy sel:ballots:250 ward=1..40
GET  /turnout                  turnout     12 calc  sel:ballots:100
""")


def xmx(mb):
    return {"k8s_env": {"JAVA_TOOL_OPTIONS": f"-Xmx{mb}m"}}


def memlimit(mb):
    return {"k8s_env": {"GOMEMLIMIT": f"{mb}MiB"}}


GRADE = dict(attrs={"inspection.grade": "grade"}, retain={"kb": [1300, 2200], "if": {"grade": "c"}})
CASES = [
    case("orchard-leak", "An orchard's records.", [pod(having(orchard, yields=dict(retain={"kb": [500, 900]})), "flask", 200, version="1.2.0")],
         [load([[0, 13], [70, 18], [140, 11], [200, 17]], "picker-app")], duration=205,
         truth=truth("leak", [span(orchard, "yields")], notes="Each yield that was shown stays in a dict.")),
    case("orchard-every", "An orchard's records.", [pod(having(orchard, extra={"middleware": {"kb": [70, 150]}}), "flask", 190, version="1.3.0", metric_interval=5)],
         [load([[0, 9], [60, 20], [120, 8], [180, 18], [205, 10]], "picker-app")], duration=205, interval=2,
         truth=truth("leak", ["every request"], notes="A trace of every request is kept, whichever it is.")),
    case("orchard-calm", "An orchard's records in harvest time.", [pod(having(orchard, harvest=dict(tmp_kb=[8000, 15000]), label=dict(retain={"kb": [120, 240], "keys": 140})), "flask", 240, version="1.2.0")],
         [load([[0, 9], [80, 20], [150, 12]], "picker-app")], duration=185,
         truth=truth("none", notes="A cache of 140 labels; reports return what they take.")),
    case("tramway-replay", "A tramway's times; somebody replays a whole year.",
         [pod(having(tramway, replay=dict(attrs={"replay.span": "span"}, spike={"mb": [6, 16], "build_s": [0.2, 0.6], "if": {"span": ["hour", "day"]}, "big": {"span": "year", "mb": [250, 300], "build_s": [3, 4.5]}})), "fastapi", 250, version="7.0.1")],
         [load([[0, 15], [160, 17]], "stop-display", timeout=30, scheduled=[dict(at=72, op="replay", fixed={"span": "year"}), dict(at=130, op="replay", fixed={"span": "year"})])], duration=165,
         truth=truth("operation_spike", [span(tramway, "replay", "fastapi")], culprit_attributes={"replay.span": "year"}, culprit_in_flight=True, onset=72, notes="A year's replay is built in memory at once.")),
    case("tramway-storm", "A tramway's times; a storm stops the lines.",
         [pod(having(tramway, delays=dict(hold_mb=[3, 5.5], hold_s=[0.9, 1.7])), "fastapi", 240, version="7.0.2")],
         [load([[0, 12], [150, 13]], "stop-display", timeout=25, surges=[dict(at=84, dur=14, op="delays", rps=42)])], duration=150,
         truth=truth("concurrency_surge", [span(tramway, "delays", "fastapi")], culprit_in_flight=True, onset=84, notes="Everybody asks for delays; each holds 3-5.5 MiB for over a second.")),
    case("tramway-rare", "A tramway's times; callers are not traced.", [pod(having(tramway, line_map=dict(retain={"kb": [900, 1500]})), "fastapi", 190, version="7.1.0")],
         [load([[0, 14], [200, 17]])], duration=205, interval=2,
         truth=truth("leak", [span(tramway, "line_map", "fastapi")], notes="Maps stay in a dict without bounds.")),
    case("pharmacy-leak", "A dispensary in Node.", [pod(having(pharmacy, interactions=dict(retain={"kb": [900, 1600]})), "express", 300, version="0.9.3", heap_mb=300)],
         [load([[0, 14], [190, 17]], "ward-terminal")], duration=200, interval=2,
         truth=truth("leak", [span(pharmacy, "interactions", "express")], notes="Interactions are kept in a Map.")),
    case("pharmacy-timer", "A dispensary in Node; a timer reads a price list.", [pod(having(pharmacy, extra={"bg": [{"name": "prices", "every_s": 1.2, "kb": [1200, 2000]}]}), "koa", 216, version="0.9.4", metric_interval=5)],
         [load([[0, 7], [70, 19], [130, 6], [190, 17]], "ward-terminal")], duration=195, interval=2,
         truth=truth("leak", ["background"], notes="A timer keeps each price list that it read.")),
    case("pharmacy-day", "A dispensary in Node.", [pod(having(pharmacy, audit=dict(tmp_kb=[14000, 24000]), shelf=dict(retain={"kb": [40, 90], "keys": 300})), "express", 420, version="0.9.2", heap_mb=260)],
         [load([[0, 10], [60, 22], [120, 11], [180, 18]])], duration=185,
         truth=truth("none", notes="Garbage and a bounded cache.")),
    case("theatre-prefork", "A box office on a prefork server with two workers.", [pod(having(theatre, seats=dict(retain={"kb": [800, 1500]})), "gunicorn", 330, version="5.0.0", workers=2, threads=4, metric_interval=5)],
         [load([[0, 13], [200, 15]], "ticket-web")], duration=210, interval=2, victim="box-office",
         truth=truth("leak", [span(theatre, "seats")], process="gunicorn worker", notes="Each worker keeps seat plans.")),
    case("theatre-premiere", "A box office in a small container; a premiere.", [pod(having(theatre, show=dict(tmp_kb=[900, 2400], retain={"kb": [300, 500], "keys": 160}), seats=dict(tmp_kb=[1500, 3500]), venue=dict(tmp_kb=[900, 2500]), shows=dict(tmp_kb=[1200, 3000])), "flask", 186, version="5.0.1", threads=40, env={"MALLOC_ARENA_MAX": "2"})],
         [load([[0, 10], [40, 17], [118, 17], [128, 62], [160, 60], [170, 17]], "ticket-web", mix_var=0.2)], duration=185, interval=2,
         truth=truth("undersized_limit", also_acceptable_causes=["concurrency_surge"], onset=118, notes="A cache fills and stays level near the limit; an ordinary busy time over all pages takes the rest.")),
    case("grid-leak", "A power grid's control over gRPC.", [pod(having(grid, Forecast=dict(retain={"kb": [800, 1400]})), "grpc", 200, version="3.3.0")],
         [load([[0, 14], [190, 16]], "dispatch-console", kind="grpc")], duration=200, interval=2,
         truth=truth("leak", [span(grid, "Forecast", "grpc")], notes="Forecasts stay in memory.")),
    case("grid-quiet", "A power grid's control over gRPC.", [pod(having(grid, Snapshot=dict(tmp_kb=[8000, 14000]), GetMeter=dict(retain={"kb": [30, 60], "keys": 450})), "grpc", 224, version="3.2.9")],
         [load([[0, 9], [90, 22], [170, 11]], "dispatch-console", kind="grpc")], duration=180,
         truth=truth("none", notes="A cache of 450 meters; snapshots return what they take.")),
    case("harbour-leak", "A harbour's queue worker.", [pod(having(harbour, **{"cargo.declared": dict(retain={"kb": [800, 1400]})}), "consumer", 190, version="2.0.0", threads=4)],
         [load([[0, 12], [190, 14]], "port-gateway", kind="queue")], duration=200, interval=2,
         truth=truth("leak", [span(harbour, "cargo.declared", "consumer")], culprit_attributes={"messaging.rabbitmq.destination.routing_key": "cargo.declared"}, notes="Cargo declarations stay after they were handled.")),
    case("brokerage-leak", "A broker's order router in Java.", [pod(having(brokerage, watchlist=dict(retain={"kb": [800, 1400]})), "java", 300, version="14.1.0", **xmx(280))],
         [load([[0, 15], [190, 18]], "trader-ui")], duration=200, interval=2,
         truth=truth("leak", [span(brokerage, "watchlist", "java")], notes="Watch lists stay in a map.")),
    case("brokerage-risk", "A broker's order router in Java; somebody runs the exact model.",
         [pod(having(brokerage, risk=dict(attrs={"risk.model": "model"}, spike={"mb": [5, 14], "build_s": [0.2, 0.5], "if": {"model": ["fast", "full"]}, "big": {"model": "exact", "mb": [230, 280], "build_s": [3, 4]}})), "java", 270, version="14.1.1", **xmx(500))],
         [load([[0, 14], [160, 15]], "trader-ui", timeout=30, scheduled=[dict(at=68, op="risk", fixed={"model": "exact"}), dict(at=125, op="risk", fixed={"model": "exact"})])], duration=160,
         truth=truth("operation_spike", [span(brokerage, "risk", "java")], culprit_attributes={"risk.model": "exact"}, culprit_in_flight=True, onset=68, notes="The exact model's paths are one list in memory.")),
    case("brokerage-calm", "A broker's order router in Java.", [pod(having(brokerage, statement=dict(tmp_kb=[9000, 16000]), portfolio=dict(retain={"kb": [60, 120], "keys": 280})), "java", 330, version="14.0.7", **xmx(180))],
         [load([[0, 12], [80, 26], [140, 12], [190, 20]], "trader-ui")], duration=190,
         truth=truth("none", notes="The heap's sawtooth, and a bounded cache.")),
    case("genome-leak", "An index of sequences in Go.", [pod(having(genome, coverage=dict(retain={"kb": [500, 900]})), "go", 150, version="0.30.0", **memlimit(136))],
         [load([[0, 15], [70, 19], [140, 12], [200, 18]], "lab-ui")], duration=205, interval=2,
         truth=truth("leak", [span(genome, "coverage", "go")], notes="Coverages are kept.")),
    case("genome-writer", "An index of sequences in Go; a goroutine gathers history.", [pod(having(genome, extra={"bg": [{"name": "history", "every_s": [0.2, 0.5], "kb": [220, 420]}]}), "go", 120, version="0.31.0", metric_interval=5)],
         [load([[0, 8], [60, 21], [120, 7], [190, 16]], "lab-ui")], duration=195, interval=2,
         truth=truth("leak", ["background"], notes="A goroutine appends what nobody drops.")),
    case("fleetlog-leak", "A log of trucks in Rust.", [pod(having(fleetlog, route=dict(retain={"kb": [160, 320]})), "axum", 76, version="1.1.0")],
         [load([[0, 17], [70, 22], [130, 14], [190, 21]], "fleet-ui")], duration=195,
         truth=truth("leak", [span(fleetlog, "route", "axum")], notes="Routes stay in a map.")),
    case("fleetlog-grade", "A log of trucks in Rust.", [pod(having(fleetlog, inspect=GRADE), "axum", 84, version="1.1.2", metric_interval=2)],
         [load([[0, 20], [200, 24]], "fleet-ui", mix_var=0.9)], duration=205, interval=2,
         truth=truth("leak", [span(fleetlog, "inspect", "axum")], culprit_attributes={"inspection.grade": "c"}, notes="Only inspections of grade c stay.")),
    case("ballots-leak", "A room where ballots are counted, in Tornado.", [pod(having(ballots, tally=dict(retain={"kb": [450, 800]})), "tornado", 190, version="2.2.0")],
         [load([[0, 13], [190, 16]], "ward-office")], duration=200, interval=2,
         truth=truth("leak", ["GET /wards/{path}/tally"], notes="Tallies stay in a dict. Tornado's instrumentation names path parameters `path`.")),
    case("ballots-rush", "A room where ballots are counted, in Tornado; the polls close.",
         [pod(having(ballots, turnout=dict(hold_mb=[3, 5.5], hold_s=[0.8, 1.6])), "tornado", 230, version="2.2.1")],
         [load([[0, 12], [140, 13]], "ward-office", timeout=25, surges=[dict(at=80, dur=14, op="turnout", rps=42)])], duration=145,
         truth=truth("concurrency_surge", [span(ballots, "turnout", "fastapi")], culprit_in_flight=True, onset=80, notes="Everybody asks for the turnout; each holds 3-5.5 MiB for a second.")),
]
