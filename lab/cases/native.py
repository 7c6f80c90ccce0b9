"""Go, Java and Rust services: arcade, greenhouse, claims, timetable, metering."""
from _make import case, having, load, pod, span, svc, truth

SET = "lab"

arcade = svc("leaderboard", "", """
GET  /boards/<board>            top_scores     26 page  board=daily|weekly|alltime
POST /boards/<board>/scores     submit_score   30 write board=daily|weekly|alltime
GET  /players/<id>              player         20 tiny
GET  /players/<id>/matches      match_history  12 list
GET  /replays/<id>              replay         6  calc
GET  /seasons/<season>/summary  season_summary 3  heavy season=s1|s2|s3
""")
greenhouse = svc("climate-control", "", """
POST /houses/<house>/readings   post_reading   34 write house=1..12
GET  /houses/<house>/setpoints  setpoints      18 tiny  house=1..12
GET  /houses/<house>/trend      trend          12 calc  house=1..12 days=1:5|7:3|30:1
GET  /valves                    valves         10 page
POST /valves/<id>/open          open_valve     8  write
GET  /forecast/frost            frost          5  list
""")
claims = svc("claims-desk", "", """
GET   /claims/<id>             claim          24 tiny
GET   /claims                  search_claims  14 list  state=open|paid|denied
POST  /claims                  new_claim      8  write
PATCH /claims/<id>/assessment  assess         9  calc
GET   /claims/<id>/photos      photos         12 page
GET   /policies/<id>/coverage  coverage       16 page
GET   /reserves/report         reserves       2  heavy level=branch:5|region:2
""")
timetable = svc("train-times", "", """
GET  /stations/<id>/departures  departures   34 page
GET  /journeys                  plan_journey 16 calc  via=none:6|north:2|coast:1
GET  /trains/<id>/position      position     24 tiny
GET  /disruptions               disruptions  8  list
POST /reservations              reserve      6  write
GET  /stations/<id>/board.svg   board        5  heavy
""")
metering = svc("meter-readings", "", """
POST /v2/readings          push_readings  36 write
GET  /v2/meters/<id>       meter          22 tiny
GET  /v2/meters/<id>/load  load_curve     12 calc  step=15m|1h
GET  /v2/tariff            tariff         10 tiny
POST /v2/validate          validate       12 page  source=amr:5|mbus:2|manual:1
GET  /v2/balance           balance        4  heavy
""")
DB = {"arcade": {"top_scores": ["SELECT * FROM scores ORDER BY points DESC LIMIT 50"], "player": ["SELECT * FROM players WHERE id = $1"], "submit_score": ["INSERT INTO scores VALUES ($1, $2)"], "match_history": ["SELECT * FROM matches WHERE player = $1"]},
      "greenhouse": {"trend": ["SELECT * FROM readings WHERE house = $1"], "setpoints": ["SELECT * FROM setpoints WHERE house = $1"], "post_reading": ["INSERT INTO readings VALUES ($1)"]},
      "claims": {"claim": ["SELECT * FROM claims WHERE id = ?"], "search_claims": ["SELECT * FROM claims WHERE state = ?"], "photos": ["SELECT * FROM photos WHERE claim = ?"], "coverage": ["SELECT * FROM policies WHERE id = ?", "SELECT * FROM riders WHERE policy = ?"], "reserves": ["SELECT * FROM reserves"]},
      "timetable": {"departures": ["SELECT * FROM stops WHERE station = ?"], "plan_journey": ["SELECT * FROM trips", "SELECT * FROM transfers"], "reserve": ["INSERT INTO reservations VALUES (?)"]},
      "metering": {"push_readings": ["INSERT INTO readings VALUES ($1)"], "meter": ["SELECT * FROM meters WHERE id = $1"], "load_curve": ["SELECT * FROM readings WHERE meter = $1"], "validate": ["SELECT * FROM rules"]}}
arcade, greenhouse, claims, timetable, metering = (having(s, **{op: {"db": q} for op, q in DB[n].items()}) for n, s in (("arcade", arcade), ("greenhouse", greenhouse), ("claims", claims), ("timetable", timetable), ("metering", metering)))


def xmx(mb, more=""):
    return {"k8s_env": {"JAVA_TOOL_OPTIONS": f"-Xmx{mb}m {more}".strip()}}


def memlimit(mb):
    return {"k8s_env": {"GOMEMLIMIT": f"{mb}MiB"}}


CASES = [
    case("arcade-leak", "A game's leaderboard in Go.", [pod(having(arcade, replay=dict(retain={"kb": [500, 900]})), "go", 128, version="1.40.2", **memlimit(116))],
         [load([[0, 15], [190, 18]], "lobby")], duration=195,
         truth=truth("leak", [span(arcade, "replay", "go")], inferable="weak", notes="Replays are kept. GOMEMLIMIT makes the collector work harder near the limit, and doesn't save it.")),
    case("arcade-often", "A game's leaderboard in Go, without a memory limit for its collector.", [pod(having(arcade, submit_score=dict(retain={"kb": [40, 90]})), "go", 112, version="1.41.0", metric_interval=5)],
         [load([[0, 16], [60, 24], [110, 10], [190, 20]])], duration=200, interval=2,
         truth=truth("leak", [span(arcade, "submit_score", "go")], notes="A little of each score that is submitted stays. Without GOMEMLIMIT the heap is about twice what is live.")),
    case("arcade-season", "A game's leaderboard in Go; the season ends.", [pod(having(arcade, season_summary=dict(tmp_kb=[300, 900], hold_mb=[4, 7], hold_s=[1.0, 2.0])), "go", 208, version="1.40.2")],
         [load([[0, 14], [150, 14]], "lobby", timeout=20, surges=[dict(at=88, dur=16, op="season_summary", rps=34)])], duration=150,
         truth=truth("concurrency_surge", [span(arcade, "season_summary", "go")], culprit_in_flight=True, onset=88, notes="Everybody asks for the season's summary at once; each holds 4-7 MiB for one or two seconds.")),
    case("arcade-healthy", "A game's leaderboard in Go on a weekend.", [pod(having(arcade, season_summary=dict(tmp_kb=[7000, 14000]), player=dict(retain={"kb": [15, 40], "keys": 600})), "go", 160, version="1.40.2", **memlimit(140))],
         [load([[0, 10], [70, 26], [120, 12], [180, 22]], "lobby")], duration=190,
         truth=truth("none", notes="The collector's sawtooth over a cache of 600 players.")),
    case("greenhouse-trend", "Climate control of greenhouses in Go.", [pod(having(greenhouse, trend=dict(attrs={"trend.days": "days"}, retain={"kb": [3500, 5500], "if": {"days": "30"}})), "go", 144, version="0.8.1", resource="downward", metric_interval=2, **memlimit(130))],
         [load([[0, 18], [190, 20]], "grower-app")], duration=205, interval=2,
         truth=truth("leak", [span(greenhouse, "trend", "go")], culprit_attributes={"trend.days": "30"}, notes="Only trends over 30 days are kept, rare and big; the others are innocent.")),
    case("greenhouse-slow", "Climate control of greenhouses in Go; its database is slow for a while.",
         [pod(having(greenhouse, extra={"slow": {"at": 85, "dur": 45}}, trend=dict(hold_mb=[2, 3.5], hold_s=[0.05, 0.15], slow=[9000, 14000])), "go", 160, version="0.8.0")],
         [load([[0, 18], [160, 18]], "grower-app", timeout=20)], duration=165, interval=2,
         truth=truth("concurrency_surge", [span(greenhouse, "trend", "go")], culprit_in_flight=True, onset=85, notes="Traffic is as always; answers of the database take ten seconds for a while, and trends, each holding 2-3.5 MiB, pile up.")),
    case("greenhouse-queue", "Climate control of greenhouses in Go; nothing limits what waits to be written.", [pod(having(greenhouse, extra={"bg": [{"name": "history-writer", "every_s": [0.2, 0.5], "kb": [200, 420]}]}), "go", 120, version="0.8.3", metric_interval=5)],
         [load([[0, 8], [60, 22], [120, 6], [190, 16]], "grower-app")], duration=195, interval=2,
         truth=truth("leak", ["background"], notes="A goroutine appends history that is never dropped, whatever is asked.")),
    case("greenhouse-calm", "Climate control of greenhouses in Go.", [pod(having(greenhouse, trend=dict(tmp_kb=[3000, 9000]), post_reading=dict(retain={"kb": [10, 30], "cap": 400})), "go", 96, version="0.8.0", **memlimit(84))],
         [load([[0, 12], [180, 15]])], duration=185,
         truth=truth("none", notes="A ring of the last 400 readings; then level, near the limit that GOMEMLIMIT keeps to.")),
    case("claims-leak", "An insurer's claims desk in Java.", [pod(having(claims, photos=dict(retain={"kb": [700, 1300]})), "java", 300, version="6.2.0", **xmx(280))],
         [load([[0, 14], [200, 18]], "agent-portal")], duration=215,
         truth=truth("leak", [span(claims, "photos", "java")], notes="Photos stay in a static map. The heap may grow beyond what the container has.")),
    case("claims-report", "An insurer's claims desk in Java; a report over everything.",
         [pod(having(claims, reserves=dict(attrs={"report.level": "level"}, spike={"mb": [8, 20], "build_s": [0.3, 0.8], "if": {"level": ["branch", "region"]}, "big": {"level": "world", "mb": [300, 360], "build_s": [3, 5]}})), "java", 300, version="6.1.4", **xmx(420))],
         [load([[0, 12], [150, 13]], "agent-portal", timeout=30, scheduled=[dict(at=74, op="reserves", fixed={"level": "world"})])], duration=140,
         truth=truth("operation_spike", [span(claims, "reserves", "java")], culprit_attributes={"report.level": "world"}, culprit_in_flight=True, onset=74, notes="The world's reserves are one list in memory; -Xmx allows more than the container has.")),
    case("claims-heap", "An insurer's claims desk in Java, in a container smaller than its heap may be.", [pod(having(claims, search_claims=dict(tmp_kb=[2500, 6000]), reserves=dict(tmp_kb=[9000, 16000]), photos=dict(tmp_kb=[1500, 3000])), "java", 150, version="6.2.1", **xmx(512, "-Xms16m"))],
         [load([[0, 20], [200, 26]], "agent-portal", mix_var=0.2)], duration=200, interval=2,
         truth=truth("undersized_limit", notes="Nothing is kept: -Xmx512m lets garbage lie until the heap is larger than the container's 150 MiB.")),
    case("claims-healthy", "An insurer's claims desk in Java on a normal day.", [pod(having(claims, search_claims=dict(tmp_kb=[2500, 6000]), coverage=dict(retain={"kb": [60, 120], "keys": 300})), "java", 320, version="6.1.4", **xmx(180))],
         [load([[0, 12], [80, 26], [140, 12], [190, 20]], "agent-portal")], duration=195,
         truth=truth("none", notes="The heap's sawtooth below -Xmx180m; a cache of 300 policies.")),
    case("timetable-leak", "A railway's timetable in Java.", [pod(having(timetable, plan_journey=dict(attrs={"journey.via": "via"}, retain={"kb": [2600, 4200], "if": {"via": "coast"}})), "java", 260, version="12.0.1", resource="no_version", metric_interval=5, **xmx(240))],
         [load([[0, 24], [200, 28]], "travel-app")], duration=210, interval=2,
         truth=truth("leak", [span(timetable, "plan_journey", "java")], culprit_attributes={"journey.via": "coast"}, notes="Only journeys over the coast line are kept.")),
    case("timetable-pile", "A railway's timetable in Java; its database is slow for a while.",
         [pod(having(timetable, extra={"slow": {"at": 80, "dur": 40}}, plan_journey=dict(hold_mb=[2.5, 4], hold_s=[0.05, 0.1], slow=[8000, 12000]), departures=dict(tmp_kb=[100, 300])), "java", 280, version="12.0.0", threads=120, **xmx(400))],
         [load([[0, 22], [150, 22]], "travel-app", timeout=25)], duration=150, interval=2,
         truth=truth("concurrency_surge", [span(timetable, "plan_journey", "java")], culprit_in_flight=True, onset=80, notes="Journeys wait for a slow database with 2.5-4 MiB each in hand.")),
    case("timetable-start", "A railway's timetable in Java; it reads all trips when it starts.", [pod(having(timetable, extra={"startup": [dict(name="read_trips", mb=[260, 280], s=6, keep=0.35)]}), "java", 230, version="12.1.0", request=230, **xmx(400))],
         [load([[0, 10], [100, 10]], "travel-app")], duration=105, load_after=6, backoff=[8, 16, 30],
         truth=truth("startup_peak", notes="Reading all trips needs more than the container has; it never gets ready.")),
    case("metering-leak", "Smart meters' readings in Rust.", [pod(having(metering, validate=dict(retain={"kb": [130, 260]})), "axum", 72, version="2.9.0")],
         [load([[0, 18], [190, 22]], "head-end")], duration=195,
         truth=truth("leak", [span(metering, "validate", "axum")], notes="Each validation's rows stay in a map.")),
    case("metering-source", "Smart meters' readings in Rust.", [pod(having(metering, validate=dict(attrs={"reading.source": "source"}, retain={"kb": [900, 1700], "if": {"source": "manual"}})), "axum", 80, version="2.9.1", metric_interval=2)],
         [load([[0, 20], [200, 24]], "head-end", mix_var=0.9)], duration=205, interval=2,
         truth=truth("leak", [span(metering, "validate", "axum")], culprit_attributes={"reading.source": "manual"}, notes="Only readings typed in by hand are kept.")),
    case("metering-surge", "Smart meters' readings in Rust; a month closes.", [pod(having(metering, load_curve=dict(hold_mb=[2, 3.5], hold_s=[0.8, 1.6])), "axum", 96, version="2.8.0")],
         [load([[0, 16], [140, 16]], "head-end", timeout=20, surges=[dict(at=78, dur=14, op="load_curve", rps=40)])], duration=140,
         truth=truth("concurrency_surge", [span(metering, "load_curve", "axum")], culprit_in_flight=True, onset=78, notes="Forty load curves a second, each holding 2-3.5 MiB for a second.")),
    case("metering-steady", "Smart meters' readings in Rust.", [pod(having(metering, balance=dict(tmp_kb=[6000, 12000]), meter=dict(retain={"kb": [30, 60], "keys": 500})), "axum", 128, version="2.8.0")],
         [load([[0, 12], [90, 30], [170, 14]])], duration=175,
         truth=truth("none", notes="A cache of 500 meters, about 22 MiB, and balances that return what they take.")),
]
