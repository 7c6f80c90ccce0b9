"""Records with less in them than usual, and shapes that look like faults but are none."""
from _make import case, having, load, pod, span, truth
from extra import bakery, choir, seedbank, seismic, telescope, tollway, tugboat, vineyard
from frameworks import podcast, tasks
from native import xmx
from others import filler

SET = "lab"

CASES = [
    case("vineyard-agent", "A wine cellar's book; the container metrics were not collected.", [pod(having(vineyard, add_tasting=dict(retain={"kb": [520, 900]})), "flask", 200, version="0.10.1", metric_interval=2)],
         [load([[0, 14], [190, 17]], "cellar-app")], duration=195, no_container_metrics=True, node_agent_interval=1.0,
         truth=truth("leak", [span(vineyard, "add_tasting")], notes="Each tasting that was added stays. Only the node agent's samples show the memory.")),
    case("tollway-nonode", "Toll gantries in Node; there is no node agent and no pod is named in the app's telemetry.", [pod(having(tollway, gantry=dict(retain={"kb": [750, 1250]})), "express", 250, version="20.2.0", heap_mb=250, resource="container_id", metric_interval=5)],
         [load([[0, 15], [190, 18]], "toll-edge")], duration=195, interval=5, no_node_agent=True,
         truth=truth("leak", [span(tollway, "gantry", "express")], notes="A cheap lookup keeps a megabyte each time.")),
    case("choir-caller", "A choir's planner without instrumentation; its caller is instrumented.", [pod(having(choir, singer=dict(retain={"kb": [320, 600]})), "fastapi", 190, version="1.1.0", otel=False)],
         [load([[0, 14], [190, 17]], "choir-app")], duration=195, interval=2,
         truth=truth("leak", [span(choir, "singer", "fastapi")], inferable=False, also_acceptable_operations=["GET /api/singers/{id}"], notes="Only the caller's spans tell which operations ran.")),
    case("choir-node", "A choir's planner on a node that fills up.", [pod(choir, "fastapi", 300, version="1.0.8", request=64),
          dict(deploy="search-index", version="6.1", ns="search", containers=[filler("search-index", 500, 500, guaranteed=True, base_mb=80, step_mb=1, every_s=0.35, delay_s=12, max_mb=150)])],
         [load([[0, 13], [140, 14]], "choir-app")], duration=140, node_limit_mb=300, interval=2, victim="rehearsal-planner",
         truth=truth("node_pressure", [], onset=12, notes="search-index grows within its own limit; the node is full first and rehearsal-planner, which asked for least, is killed.")),
    case("seismic-small", "A quake feed in Rust in a small container.", [pod(having(seismic, **{op: dict(tmp_kb=[1500, 3500], ms=[60, 160]) for op in ("event", "events", "station", "waveform", "pick", "bulletin")}), "axum", 30, version="0.3.1", metric_interval=2)],
         [load([[0, 12], [40, 30], [150, 34]], "bulletin-web", mix_var=0.2)], duration=160, interval=1,
         truth=truth("undersized_limit", also_acceptable_causes=["concurrency_surge", "startup_peak"], notes="Nothing is kept: a few ordinary requests at once need more than the container has.")),
    case("podcast-index", "A podcast host's Celery worker; now and then it builds an index.", [tasks(having({**podcast, "routes": podcast["routes"] + [dict(method="TASK", path="-", op="rebuild_index", w=0.25, ms=[20, 60])]}, rebuild_index=dict(spike={"mb": [220, 270], "build_s": [2.5, 4]})), 224, threads=4, pool="threads", version="1.14.0")],
         [load([[0, 7], [190, 8]], kind="celery")], duration=190, interval=1,
         truth=truth("operation_spike", [span({**podcast, "routes": [dict(op="rebuild_index")]}, "rebuild_index", "celery")], inferable=False, culprit_in_flight=True, notes="One rare task builds its index in memory; it never ends, so no span of it is in the record.")),
    case("telescope-step", "An observatory's log in aiohttp; a star catalogue is loaded when it is first asked for.", [pod(having(telescope, targets=dict(w=0), night=dict(w=0, retain={"kb": 62000, "keys": 1})), "aiohttp", 230, version="7.7.1")],
         [load([[0, 14], [180, 17]], "observer-ui", scheduled=[dict(at=a, op="night") for a in (82, 97, 121, 150)])], duration=185,
         truth=truth("none", notes="One step of 60 MiB when the catalogue is read for the first time; it stays, and nothing else grows.")),
    case("tugboat-report", "A harbour's pilots in Java; big charts that fit.", [pod(having(tugboat, chart=dict(query={"scale": {"small": 1}}, attrs={"chart.scale": "scale"}, spike={"mb": [5, 10], "build_s": [0.2, 0.5], "if": {"scale": "small"}, "big": {"scale": "large", "mb": [70, 85], "build_s": [1.5, 2.5]}})), "java", 320, version="2.0.2", **xmx(200))],
         [load([[0, 14], [180, 17]], "pilot-app", timeout=30, scheduled=[dict(at=a, op="chart", fixed={"scale": "large"}) for a in (50, 95, 140)])], duration=185,
         truth=truth("none", notes="Three charts of 70-85 MiB come and go; the heap grows for them and stays below -Xmx200m.")),
    case("bakery-quiet", "A bakery's orders in Go; the app's clock is wrong and intervals are long.", [pod(having(bakery, waste=dict(tmp_kb=[5000, 10000]), get_order=dict(retain={"kb": [15, 35], "cap": 500})), "go", 128, version="4.0.1", metric_interval=15)],
         [load([[0, 10], [60, 22], [120, 9], [185, 20]], "shop-tablet")], duration=190, interval=15, skew={"oven-orders": -41}, readme_notes=["the app's clock is 41 s behind the node's"],
         truth=truth("none", notes="The last 500 orders are remembered; reports return what they take.")),
    case("seedbank-dump", "A seed vault on a prefork server with two workers; somebody dumps all.", [pod(having(seedbank, search=dict(query={"genus": ["zea", "oryza", "vitis"], "limit": {"70": 9, "200": 2}}, attrs={"search.limit": "limit"}, spike={"mb": [2, 6], "build_s": [0.1, 0.2], "if": {"limit": ["70", "200"]}, "big": {"limit": "0", "mb": [240, 300], "build_s": [2.5, 4]}})), "gunicorn", 340, version="3.5.2", workers=2, threads=4)],
         [load([[0, 12], [150, 13]], "curator-ui", timeout=30, scheduled=[dict(at=65, op="search", fixed={"limit": "0"}), dict(at=110, op="search", fixed={"limit": "0"})])], duration=150, victim="seed-vault",
         truth=truth("operation_spike", [span(seedbank, "search")], culprit_attributes={"search.limit": "0"}, culprit_in_flight=True, onset=65, process="gunicorn worker; the master survives", notes="limit=0 means everything; the worker dies, its caller gets an error.")),
]
