"""Flask, FastAPI, Express and gunicorn services of the harness: clinic, warehouse, weather, payroll, recipes, parking."""
from _make import case, having, load, pod, span, svc, truth

SET = "lab"

clinic = svc("clinic-records", "patients:4000 visits:7000 labs:5000", """
GET  /patients/<int:id>              patient        24 tiny  one:patients
GET  /patients                       find_patients  12 page  sel:patients:60 name=li|novak|okafor|silva
GET  /patients/<int:id>/labs         labs           16 list  sel:labs:40 tenant=north:5|lakeside:3|harbour:2
POST /visits                         open_visit     9  write ins:visits one:patients
GET  /visits/<int:id>/summary        visit_summary  10 calc  sel:visits:80
GET  /patients/<int:id>/history.pdf  history_pdf    3  heavy sel:visits:200
PUT  /visits/<int:id>                edit_visit     6  write upd:visits
""")
clinic_pod = lambda s, limit, **kw: pod(s, "flask", limit, version="4.11.0", **kw)

warehouse = svc("stock-picker", "bins:5000 picks:9000", """
GET   /bins/<id>              bin_contents   22 tiny  one:bins
POST  /picks                  start_pick     14 write ins:picks upd:bins
GET   /picks/<id>/route       pick_route     12 calc  sel:bins:150
PATCH /picks/<id>             confirm_pick   18 write upd:picks
GET   /zones/<zone>/heatmap   heatmap        4  heavy sel:picks:300 zone=a|b|c|d
GET   /replenishment          replenishment  9  list  sel:bins:120
GET   /labels/<id>            label          7  page  one:bins
""")

weather = svc("forecast-tiles", "", """
GET /tiles/<z>/<x>/<y>     tile        30 page  layer=rain|wind|cloud
GET /forecast              forecast    20 list  lat=40..60 lon=1..20
GET /stations/<id>         station     14 tiny
GET /stations/<id>/series  series      10 calc  span=day|week
GET /alerts/<region>       alerts      8  tiny  region=alps|coast|plain
GET /radar/loop            radar_loop  5  heavy
POST /observations         observe     12 write
""", downstream="grib.store")

payroll = svc("payroll-runs", "employees:3000 slips:9000 rates:400", """
GET  /employees/<int:id>          employee     20 tiny  one:employees
GET  /employees/<int:id>/slips    slips        18 page  sel:slips:30
POST /timesheets                  timesheet    12 write ins:slips
GET  /runs/<int:id>/preview       run_preview  8  calc  sel:slips:200
GET  /rates                       rates        9  tiny  sel:rates:30
GET  /tax-tables/<year>           tax_table    7  list  sel:rates:200 year=2021..2026
POST /runs                        start_run    2  heavy sel:slips:300 scope=team:6|site:2
""")

recipes = svc("recipe-book", "recipes:5000 foods:2500", """
GET  /recipes/<int:id>           recipe       26 page  one:recipes
GET  /recipes                    by_tag       16 list  sel:recipes:80 tag=soup|bread|vegan|quick
GET  /foods/<int:id>/nutrition   nutrition    14 tiny  one:foods
POST /plans                      make_plan    6  calc  sel:recipes:120 ins:recipes
GET  /plans/<int:id>/groceries   groceries    9  calc  sel:foods:150
POST /recipes/<int:id>/ratings   rate         8  write upd:recipes
GET  /recipes/<int:id>/print     print_card   4  heavy one:recipes
""")

parking = svc("parking-meter", "spots:2500 stays:8000", """
GET  /zones/<zone>/free         free_spots   28 tiny  sel:spots:20 zone=n1|n2|s1|s4
POST /stays                     start_stay   16 write ins:stays
POST /stays/<id>/stop           stop_stay    14 write upd:stays
GET  /stays/<id>/receipt        receipt      8  page  one:stays
GET  /tariffs                   tariffs      10 tiny
GET  /occupancy                 occupancy    6  list  sel:stays:200 window=hour:8|day:3
GET  /fines/<plate>             fines        5  page  sel:stays:40 plate=100..9000
""")

CASES = [
    case("clinic-leak", "A clinic's patient records.", [clinic_pod(having(clinic, labs=dict(retain={"kb": [350, 650]})), 192)],
         [load([[0, 14], [180, 18]], "reception-web")], duration=200,
         truth=truth("leak", [span(clinic, "labs")], notes="Every lab list that was shown stays in a module-level dict. history_pdf allocates much more a call and gives it back.")),
    case("clinic-tenant", "A clinic's patient records; three hospitals share it.",
         [clinic_pod(having(clinic, labs=dict(attrs={"tenant.id": "tenant"}, retain={"kb": [1200, 2000], "if": {"tenant": "harbour"}})), 224, metric_interval=2, resource="downward")],
         [load([[0, 16], [190, 20]], "portal-gateway", mix_var=0.9)], duration=215, interval=2,
         truth=truth("leak", [span(clinic, "labs")], culprit_attributes={"tenant.id": "harbour"}, notes="Only labs of the tenant harbour are kept.")),
    case("clinic-healthy", "A clinic's patient records on a normal day.",
         [clinic_pod(having(clinic, labs=dict(retain={"kb": [200, 400], "keys": 80}), history_pdf=dict(tmp_kb=[9000, 16000])), 256)],
         [load([[0, 8], [60, 18], [120, 11], [180, 17]], "reception-web")], duration=185,
         truth=truth("none", notes="A cache of at most 80 lab lists warms up; PDFs take 9-16 MiB each and give it back.")),
    case("clinic-print", "A clinic's patient records; somebody prints a whole archive.",
         [clinic_pod(having(clinic, history_pdf=dict(query={"years": {"1": 6, "5": 2}}, attrs={"pdf.years": "years"},
                     spike={"mb": [8, 22], "build_s": [0.3, 0.8], "if": {"years": ["1", "5"]}, "big": {"years": "all", "mb": [230, 280], "build_s": [3, 4.5]}})), 256)],
         [load([[0, 12], [150, 14]], "reception-web", timeout=30, scheduled=[dict(at=70, op="history_pdf", fixed={"years": "all"})])], duration=140,
         truth=truth("operation_spike", [span(clinic, "history_pdf")], culprit_attributes={"pdf.years": "all"}, culprit_in_flight=True, onset=70, notes="One history over all years is built in memory at once. The server span is lost; the caller's span with years=all ends in an error.")),
    case("warehouse-surge", "A warehouse's pick service; a shift begins.",
         [pod(having(warehouse, pick_route=dict(hold_mb=[3.5, 6], hold_s=[0.9, 1.8])), "fastapi", 256, version="2.2.7")],
         [load([[0, 11], [140, 12]], "handheld-bff", timeout=25, surges=[dict(at=82, dur=14, op="pick_route", rps=40)])], duration=150,
         truth=truth("concurrency_surge", [span(warehouse, "pick_route", "fastapi")], culprit_in_flight=True, onset=82, notes="Each route holds 3.5-6 MiB for a second or two; forty a second are too many at once.")),
    case("warehouse-middleware", "A warehouse's pick service.",
         [pod(having(warehouse, extra={"middleware": {"kb": [60, 140]}}), "fastapi", 176, version="2.3.0", metric_interval=5)],
         [load([[0, 12], [70, 20], [110, 9], [160, 19], [200, 12]], "handheld-bff")], duration=200, interval=2,
         truth=truth("leak", ["every request"], notes="An audit hook keeps something of every request, whichever it is.")),
    case("warehouse-tight", "A warehouse's pick service, near its limit on a normal day.",
         [pod(having(warehouse, heatmap=dict(tmp_kb=[2000, 4000]), pick_route=dict(tmp_kb=[500, 1500]), bin_contents=dict(retain={"kb": [60, 100], "keys": 500})), "fastapi", 150, version="2.2.7", metric_interval=5)],
         [load([[0, 12], [60, 16], [190, 15]], "handheld-bff")], duration=190,
         truth=truth("none", notes="A cache of 500 bins fills to about 40 MiB and stays; the plateau is close to the limit but nothing is killed.")),
    case("warehouse-cramped", "A warehouse's pick service in a small container.",
         [pod(having(warehouse, **{op: dict(tmp_kb=[1500, 4500]) for op in ("bin_contents", "start_pick", "pick_route", "replenishment", "label", "heatmap")}), "fastapi", 124, version="2.2.6", metric_interval=2)],
         [load([[0, 14], [60, 34], [170, 36]], "handheld-bff", mix_var=0.2)], duration=180, interval=2,
         truth=truth("undersized_limit", also_acceptable_causes=["concurrency_surge", "startup_peak"], notes="Nothing is kept and nothing is unusual: the runtime and a few ordinary requests at once need more than 124 MiB.")),
    case("weather-leak", "A forecast service in Node.",
         [pod(having(weather, series=dict(retain={"kb": [1100, 1900]})), "express", 300, version="0.31.2", heap_mb=300)],
         [load([[0, 14], [180, 17]])], duration=190,
         truth=truth("leak", [span(weather, "series", "express")], notes="Series are kept in a Map for ever; tiles are far more frequent and radar loops far bigger.")),
    case("weather-two", "A forecast service in Node.",
         [pod(having(weather, forecast=dict(retain={"kb": [300, 500]}), alerts=dict(retain={"kb": [900, 1500]})), "express", 288, version="0.32.0", heap_mb=288, metric_interval=5)],
         [load([[0, 13], [180, 15]], "app-bff")], duration=190, interval=1,
         truth=truth("leak", [span(weather, "forecast", "express"), span(weather, "alerts", "express")], notes="Two operations keep what they answered, about as much each.")),
    case("weather-sawtooth", "A forecast service in Node on a windy day.",
         [pod(having(weather, radar_loop=dict(tmp_kb=[14000, 24000]), tile=dict(tmp_kb=[1500, 4000], retain={"kb": [20, 50], "keys": 700})), "express", 448, version="0.31.2", heap_mb=260)],
         [load([[0, 10], [50, 24], [110, 10], [170, 20]])], duration=185,
         truth=truth("none", notes="Garbage collection's sawtooth over a tile cache of 700 entries.")),
    case("payroll-prefork", "Payroll on a prefork server with three workers.",
         [pod(having(payroll, tax_table=dict(retain={"kb": [1600, 2800]})), "gunicorn", 420, version="9.0.3", workers=3, threads=3, metric_interval=5)],
         [load([[0, 14], [200, 16]], "hr-portal")], duration=215, interval=2, victim="payroll-runs",
         truth=truth("leak", [span(payroll, "tax_table")], process="gunicorn worker; the master (PID 1) survives and forks another, so Kubernetes sees no restart", notes="Each worker keeps each tax table that it read, once per request.")),
    case("payroll-run", "Payroll on a prefork server with two workers; month's end.",
         [pod(having(payroll, start_run=dict(attrs={"payroll.scope": "scope"}, spike={"mb": [10, 30], "build_s": [0.3, 0.8], "if": {"scope": ["team", "site"]}, "big": {"scope": "group", "mb": [260, 320], "build_s": [2.5, 4]}})), "gunicorn", 360, version="9.0.1", workers=2, threads=4)],
         [load([[0, 10], [160, 12]], "hr-portal", timeout=30, scheduled=[dict(at=60, op="start_run", fixed={"scope": "group"}), dict(at=118, op="start_run", fixed={"scope": "group"})])], duration=165, victim="payroll-runs",
         truth=truth("operation_spike", [span(payroll, "start_run")], culprit_attributes={"payroll.scope": "group"}, culprit_in_flight=True, onset=60, process="gunicorn worker; the master survives", notes="A run over the whole group is computed in memory; the worker dies, its caller gets an error.")),
    case("recipes-rollout", "A recipe site's API; a new version comes during the window.",
         [pod(recipes, "flask", 200, version="1.9.4", until=74, revision=31, resource="downward"),
          pod(having(recipes, groceries=dict(retain={"kb": [1000, 1700]})), "flask", 200, version="1.10.0", at=64, rollout=True, revision=32, resource="downward")],
         [load([[0, 13], [220, 15]], "kitchen-app", targets=[dict(pod=0, to=68, **{"from": 0}), dict(pod=1, **{"from": 68})])], duration=225, interval=2,
         truth=truth("leak", [span(recipes, "groceries")], onset=68, introduced_by="1.10.0", notes="1.9.4 is healthy; 1.10.0 keeps every grocery list.")),
    case("recipes-busy", "A recipe site's API on a Sunday.",
         [pod(having(recipes, recipe=dict(tmp_kb=[500, 1000], retain={"cache": "pages", "kb": [300, 600], "keys": 130}), by_tag=dict(tmp_kb=[1200, 3000]), print_card=dict(tmp_kb=[3000, 6000]), groceries=dict(tmp_kb=[1500, 3500])), "flask", 168, version="1.9.2", threads=40, env={"MALLOC_ARENA_MAX": "2"}, metric_interval=2)],
         [load([[0, 8], [30, 15], [110, 15], [120, 62], [158, 62], [168, 15]], "kitchen-app", mix_var=0.2)], duration=185, interval=2,
         truth=truth("undersized_limit", onset=112, also_acceptable_causes=["concurrency_surge"], notes="The page cache (130 keys) is warm and level near the limit; an ordinary busy time over all operations needs the rest.")),
    case("recipes-background", "A recipe site's API; a thread refreshes prices.",
         [pod(having(recipes, extra={"bg": [{"name": "price-refresh", "every_s": [0.8, 1.6], "kb": [1300, 2300]}]}), "flask", 208, version="1.10.2", metric_interval=5)],
         [load([[0, 6], [60, 18], [110, 5], [160, 17], [200, 8]], "kitchen-app")], duration=205, interval=2,
         truth=truth("leak", ["background"], notes="A thread keeps each price list that it fetched; requests have no part in it.")),
    case("parking-startup", "A city's parking meters; the service builds its map first.",
         [pod(having(parking, extra={"startup": [dict(name="build_map", mb=[210, 225], s=5, keep=0.3)]}), "fastapi", 208, version="3.3.3", request=208)],
         [load([[0, 8], [100, 8]], "meter-gw")], duration=105, load_after=5, backoff=[8, 15, 30],
         truth=truth("startup_peak", notes="Building the map needs more than the limit; the process is never ready.")),
    case("parking-steady", "A city's parking meters through a rush hour.",
         [pod(having(parking, occupancy=dict(hold_mb=[1.5, 3], hold_s=[0.3, 0.8]), free_spots=dict(retain={"kb": [8, 20], "keys": 300})), "fastapi", 288, version="3.3.1")],
         [load([[0, 8], [60, 34], [95, 36], [130, 12], [170, 9]], "meter-gw")], duration=175,
         truth=truth("none", notes="Traffic quadruples and returns; memory follows it a little and stays far from the limit.")),
    case("parking-export", "A city's parking meters; nobody upstream is instrumented.",
         [pod(having(parking, occupancy=dict(attrs={"occupancy.window": "window"}, spike={"mb": [6, 16], "build_s": [0.2, 0.5], "if": {"window": ["hour", "day"]}, "big": {"window": "year", "mb": [300, 360], "build_s": [3.5, 5]}})), "fastapi", 272, version="3.3.1")],
         [load([[0, 12], [180, 14]], timeout=30, scheduled=[dict(at=a, op="occupancy", fixed={"window": "year"}) for a in (52, 102, 156)])], duration=190, backoff=[5, 5, 5],
         truth=truth("operation_spike", [span(parking, "occupancy", "fastapi")], inferable=False, culprit_in_flight=True, onset=52, notes="A year's occupancy is built in memory, three times. The guilty spans are lost with the process, and no caller is instrumented; shorter windows succeed and use little.")),
]
