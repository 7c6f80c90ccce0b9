"""Eight further services: vineyard, tollway, seedbank, choir, bakery, tugboat, telescope, seismic."""
from _make import case, having, load, pod, span, svc, truth
from native import memlimit, xmx

SET = "lab"

vineyard = svc("cellar-book", "barrels:2500 tastings:5000 vintages:300", """
GET   /barrels/<int:id>             barrel        24 tiny  one:barrels
GET   /barrels/<int:id>/tastings    tastings      16 list  sel:tastings:40
POST  /tastings                     add_tasting   14 write ins:tastings
GET   /vintages/<int:year>          vintage       12 page  one:vintages
GET   /cellars/<name>/climate       climate       10 tiny  name=north|south|cave
POST  /bottlings                    bottling      3  calc  ins:barrels
GET   /vintages/<int:year>/booklet  booklet       3  heavy sel:tastings:200
""")
tollway = svc("toll-gantry", "", """
POST /passages                 passage       36 write
GET  /vehicles/<plate>         vehicle       20 tiny  plate=1000..9000
GET  /vehicles/<plate>/trips   vehicle_trips 12 list  plate=1000..9000 class=car:7|van:2|truck:1
GET  /gantries/<id>            gantry        12 tiny
GET  /invoices/<plate>         toll_invoice  6  calc  plate=1000..9000
GET  /traffic/summary          summary       3  heavy
""", downstream="plates.registry")
seedbank = svc("seed-vault", "accessions:5000 tests:7000 vaults:80", """
GET  /accessions/<int:id>         accession    26 tiny  one:accessions
GET  /accessions                  search       14 list  sel:accessions:70 genus=zea|oryza|vitis
GET  /accessions/<int:id>/tests   tests        14 page  sel:tests:40
POST /tests                       record_test  10 write ins:tests
GET  /vaults/<int:id>/shelves     shelves      8  calc  sel:accessions:200
POST /withdrawals                 withdraw     5  write upd:accessions
GET  /passport/<int:id>.pdf       passport     3  heavy one:accessions
""")
choir = svc("rehearsal-planner", "singers:900 scores:1500 dates:3000", """
GET  /singers/<id>              singer       22 tiny  one:singers
GET  /rehearsals                rehearsals   18 page  sel:dates:40 voice=soprano|alto|tenor|bass
POST /rehearsals/<id>/presence  presence     16 write ins:dates
GET  /scores/<id>/parts         parts        10 list  one:scores
GET  /scores/<id>/audio         audio        5  heavy one:scores
GET  /seating                   seating      6  calc  sel:singers:120
""")
bakery = svc("oven-orders", "", """
POST /orders             order        22 write
GET  /orders/<id>        get_order    24 tiny
GET  /shops/<shop>/plan  shop_plan    12 calc  shop=mill|port|gate
GET  /recipes/<id>       dough        14 page
GET  /deliveries         deliveries   8  list
GET  /reports/waste      waste        3  heavy
""")
tugboat = svc("harbour-pilot", "", """
GET  /vessels/<imo>             vessel     26 tiny  imo=1000..9000
GET  /berths                    berths     16 page
POST /requests                  request    14 write
GET  /vessels/<imo>/track       track      10 calc  imo=1000..9000
GET  /tides/<port>              tides      12 tiny  port=ham|rot|ant
GET  /charts/<id>               chart      4  heavy
""")
telescope = svc("night-log", "targets:3000 frames:9000", """
GET  /targets/<id>           target      22 tiny  one:targets
GET  /targets                targets     14 list  sel:targets:80 filter=u|g|r|i
POST /frames                 add_frame   18 write ins:frames
GET  /frames/<id>            frame       18 page  one:frames
GET  /frames/<id>/histogram  histogram   8  calc  one:frames bins=64:5|256:2
GET  /nights/<date>          night       6  list  sel:frames:150 date=101..131
""")
seismic = svc("quake-feed", "", """
POST /v1/picks            pick       30 write
GET  /v1/events/<id>      event      22 tiny
GET  /v1/events           events     14 list  region=alps|iberia|aegean
GET  /v1/stations/<id>    station    16 tiny
GET  /v1/waveforms/<id>   waveform   8  calc
GET  /v1/bulletin         bulletin   3  heavy
""")

CASES = [
    case("vineyard-leak", "A wine cellar's book.", [pod(having(vineyard, climate=dict(retain={"kb": [700, 1200]})), "flask", 190, version="0.9.12", metric_interval=10)],
         [load([[0, 13], [200, 16]])], duration=205, interval=2,
         truth=truth("leak", [span(vineyard, "climate")], notes="A cheap operation keeps a megabyte each time; booklets take more and give it back.")),
    case("vineyard-two", "A wine cellar's book.", [pod(having(vineyard, tastings=dict(retain={"kb": [280, 460]}), vintage=dict(retain={"kb": [380, 640]})), "flask", 208, version="0.10.0", metric_interval=2)],
         [load([[0, 13], [200, 16]], "cellar-app", mix_var=0.9)], duration=205, interval=2,
         truth=truth("leak", [span(vineyard, "tastings"), span(vineyard, "vintage")], notes="Two operations leak about as much each.")),
    case("vineyard-healthy", "A wine cellar's book in harvest time.", [pod(having(vineyard, vintage=dict(retain={"kb": [180, 320], "keys": 120})), "flask", 240, version="0.9.8")],
         [load([[0, 5], [60, 12], [120, 20], [185, 21]], "cellar-app")], duration=190,
         truth=truth("none", notes="Traffic grows all the time and with it what is in flight; a cache of 120 vintages.")),
    case("tollway-trucks", "Toll gantries in Node.", [pod(having(tollway, vehicle_trips=dict(attrs={"vehicle.class": "class"}, retain={"kb": [3200, 5200], "if": {"class": "truck"}})), "express", 280, version="20.1.1", heap_mb=280, metric_interval=2)],
         [load([[0, 22], [200, 26]], "toll-edge", mix_var=0.9)], duration=205, interval=2,
         truth=truth("leak", [span(tollway, "vehicle_trips", "express")], culprit_attributes={"vehicle.class": "truck"}, notes="Only trips of trucks are kept.")),
    case("tollway-jam", "Toll gantries in Node; a jam begins.", [pod(having(tollway, toll_invoice=dict(hold_mb=[2.5, 4.5], hold_s=[0.9, 1.8])), "express", 172, version="20.1.0", heap_mb=500)],
         [load([[0, 16], [140, 16]], "toll-edge", timeout=20, surges=[dict(at=79, dur=15, op="toll_invoice", rps=38)])], duration=140, interval=1,
         truth=truth("concurrency_surge", [span(tollway, "toll_invoice", "express")], culprit_in_flight=True, onset=79, notes="Forty invoices a second, each with 2.5-4.5 MiB for one or two seconds.")),
    case("seedbank-prefork", "A seed vault on a prefork server with two workers; callers are not instrumented.", [pod(having(seedbank, withdraw=dict(retain={"kb": [1500, 2700]})), "gunicorn", 310, version="3.5.1", workers=2, threads=4, metric_interval=5)],
         [load([[0, 14], [200, 17]])], duration=205, interval=2, victim="seed-vault",
         truth=truth("leak", [span(seedbank, "withdraw")], process="gunicorn worker; the master survives", notes="Each worker keeps the withdrawals that it handled.")),
    case("seedbank-healthy", "A seed vault on a prefork server with two workers.", [pod(having(seedbank, passport=dict(tmp_kb=[8000, 14000]), accession=dict(retain={"kb": [30, 60], "keys": 300})), "gunicorn", 330, version="3.5.0", workers=2, threads=4)],
         [load([[0, 16], [70, 9], [130, 20], [185, 12]], "curator-ui")], duration=190,
         truth=truth("none", notes="Two workers, each with a cache of 300 accessions.")),
    case("choir-decoys", "A choir's planner.", [pod(having(choir, presence=dict(retain={"kb": [330, 560]}), audio=dict(tmp_kb=[9000, 14000]), seating=dict(tmp_kb=[3000, 6000])), "fastapi", 216, version="1.0.7", metric_interval=5)],
         [load([[0, 14], [200, 17]], "choir-app")], duration=205, interval=2,
         truth=truth("leak", [span(choir, "presence", "fastapi")], notes="A write keeps a third of a megabyte each time; audio and seating take far more and give it back.")),
    case("choir-concert", "A choir's planner; everybody hears the recording.", [pod(having(choir, parts=dict(hold_mb=[3.5, 6], hold_s=[1.0, 2.0])), "fastapi", 264, version="1.0.6")],
         [load([[0, 13], [150, 13]], timeout=20, surges=[dict(at=68, dur=12, op="parts", rps=38), dict(at=112, dur=12, op="parts", rps=38)])], duration=150, interval=1,
         truth=truth("concurrency_surge", [span(choir, "parts", "fastapi")], inferable="weak", culprit_in_flight=True, onset=68, notes="Twice a surge of one operation; the callers are not instrumented, what was in flight is lost.")),
    case("choir-healthy", "A choir's planner.", [pod(having(choir, audio=dict(tmp_kb=[6000, 11000]), rehearsals=dict(retain={"kb": [50, 110], "cap": 150})), "fastapi", 224, version="1.0.6")],
         [load([[0, 20], [60, 8], [120, 18], [185, 10]], "choir-app")], duration=190,
         truth=truth("none", notes="The last 150 lists are remembered.")),
    case("bakery-limit", "A bakery's orders in Go with a busy morning.", [pod(having(bakery, order=dict(tmp_kb=[900, 2200]), get_order=dict(tmp_kb=[600, 1500]), dough=dict(tmp_kb=[900, 2200]), shop_plan=dict(tmp_kb=[1500, 3500]), deliveries=dict(tmp_kb=[1500, 3500]), waste=dict(tmp_kb=[3000, 6000])), "go", 72, version="4.0.0", metric_interval=2, k8s_env={"GOGC": "300"})],
         [load([[0, 12], [90, 16], [100, 110], [150, 120], [160, 14]], "shop-tablet", mix_var=0.2)], duration=175, interval=1,
         truth=truth("undersized_limit", onset=92, also_acceptable_causes=["concurrency_surge"], notes="GOGC=300 lets garbage grow to four times what is live; an ordinary busy morning in the usual mix is enough. Nothing is kept.")),
    case("bakery-ramp", "A bakery's orders in Go.", [pod(having(bakery, shop_plan=dict(tmp_kb=[1500, 4000]), dough=dict(retain={"kb": [30, 70], "keys": 350})), "go", 110, version="4.0.0", **memlimit(96))],
         [load([[0, 5], [185, 34]], "shop-tablet")], duration=190,
         truth=truth("none", notes="Traffic grows steadily and a cache of 350 recipes fills; neither is a leak.")),
    case("bakery-alive", "A bakery's orders in Go.", [pod(having(bakery, deliveries=dict(retain={"kb": [250, 450]})), "go", 420, version="4.1.0", metric_interval=5, **memlimit(380))],
         [load([[0, 14], [230, 18]], "shop-tablet")], duration=235, interval=2,
         truth=truth("leak", [span(bakery, "deliveries", "go")], notes="Deliveries are kept; the window ends long before the limit.")),
    case("tugboat-session", "A harbour's pilots in Java.", [pod(having(tugboat, extra={"middleware": {"kb": [60, 130]}}), "java", 230, version="2.0.3", metric_interval=5, **xmx(210))],
         [load([[0, 18], [60, 8], [120, 26], [200, 12]], "pilot-app")], duration=210, interval=2,
         truth=truth("leak", ["every request"], notes="A ThreadLocal-like registry keeps a context for every request.")),
    case("tugboat-chart", "A harbour's pilots in Java; nobody upstream is instrumented.", [pod(having(tugboat, chart=dict(query={"scale": {"1:50k": 5, "1:25k": 2}}, attrs={"chart.scale": "scale"}, spike={"mb": [6, 14], "build_s": [0.2, 0.5], "if": {"scale": ["1:50k", "1:25k"]}, "big": {"scale": "1:1k", "mb": [250, 300], "build_s": [3, 4.5]}})), "java", 270, version="2.0.1", **xmx(400))],
         [load([[0, 14], [165, 14]], timeout=30, scheduled=[dict(at=60, op="chart", fixed={"scale": "1:1k"}), dict(at=120, op="chart", fixed={"scale": "1:1k"})])], duration=165,
         truth=truth("operation_spike", [span(tugboat, "chart", "java")], inferable=False, culprit_in_flight=True, onset=60, notes="A chart of a fine scale is drawn in memory; its span is lost and no caller tells of it.")),
    case("tugboat-healthy", "A harbour's pilots in Java.", [pod(having(tugboat, chart=dict(tmp_kb=[9000, 16000]), track=dict(tmp_kb=[2000, 5000]), vessel=dict(retain={"kb": [20, 50], "keys": 500})), "java", 280, version="2.0.1", **xmx(150))],
         [load([[0, 16], [100, 26], [185, 14]], "pilot-app")], duration=190,
         truth=truth("none", notes="The heap's sawtooth below -Xmx150m with a cache of 500 vessels.")),
    case("telescope-histogram", "An observatory's log in aiohttp under busy traffic.", [pod(having(telescope, histogram=dict(attrs={"histogram.bins": "bins"}, spike={"mb": [3, 8], "build_s": [0.1, 0.2], "if": {"bins": ["64", "256"]}, "big": {"bins": "65536", "mb": [240, 280], "build_s": [2, 3]}})), "aiohttp", 236, version="7.7.0")],
         [load([[0, 26], [160, 30]], "observer-ui", timeout=30, scheduled=[dict(at=61, op="histogram", fixed={"bins": "65536"}), dict(at=117, op="histogram", fixed={"bins": "65536"})])], duration=160,
         truth=truth("operation_spike", [span(telescope, "histogram", "aiohttp")], culprit_attributes={"histogram.bins": "65536"}, culprit_in_flight=True, onset=61, notes="A histogram with 65536 bins of a full frame is built in memory; the event loop stands still meanwhile.")),
    case("telescope-nights", "An observatory's log in aiohttp.", [pod(having(telescope, night=dict(retain={"kb": [1200, 2100]})), "aiohttp", 200, version="7.8.0", metric_interval=5)],
         [load([[0, 16], [200, 19]])], duration=205, interval=2, drop=["logs"],
         truth=truth("leak", [span(telescope, "night", "aiohttp")], notes="Each night's list is kept.")),
    case("seismic-buffer", "A quake feed in Rust; a thread buffers what it streams.", [pod(having(seismic, extra={"bg": [{"name": "stream-buffer", "every_s": [0.15, 0.4], "kb": [130, 260]}]}), "axum", 76, version="0.3.3", metric_interval=5)],
         [load([[0, 10], [60, 28], [110, 8], [190, 24]], "bulletin-web")], duration=195, interval=2,
         truth=truth("leak", ["background"], notes="A thread's buffer is never drained.")),
    case("seismic-shock", "A quake feed in Rust; the earth shakes and everybody looks.", [pod(having(seismic, **{op: dict(hold_mb=[0.6, 1.4], hold_s=[0.6, 1.2]) for op in ("event", "events", "station", "waveform", "pick", "bulletin")}), "axum", 88, version="0.3.2")],
         [load([[0, 14], [140, 14]], "bulletin-web", timeout=20, mix_var=0.2, surges=[dict(at=82, dur=15, rps=90)])], duration=140, interval=1,
         truth=truth("concurrency_surge", [], culprit_in_flight=True, onset=82, also_acceptable_causes=["undersized_limit"], notes="Seven times the traffic over all operations; each request holds a little.")),
    case("seismic-calm", "A quake feed in Rust.", [pod(having(seismic, bulletin=dict(tmp_kb=[5000, 9000]), events=dict(retain={"kb": [60, 120], "keys": 150})), "axum", 96, version="0.3.2")],
         [load([[0, 10], [80, 26], [160, 12]])], duration=170,
         truth=truth("none", notes="150 event lists are cached; bulletins return what they take.")),
]
