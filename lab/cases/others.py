"""Consumers, gRPC, files in memory, child processes, neighbours and sidecars: courier, fraud, ledger, mailroom, render, contracts, sounds, billing."""
from _make import case, having, load, pod, span, svc, truth

SET = "lab"

courier = svc("parcel-worker", "parcels:6000 routes:800", """
MSG - parcel.scanned    34 tiny  one:parcels depot=d1|d2|d3
MSG - parcel.delivered  20 write upd:parcels
MSG - route.planned     8  calc  sel:routes:80
MSG - label.requested   14 page  one:parcels
MSG - manifest.closed   4  heavy sel:parcels:250
MSG - customs.declared  10 list  sel:parcels:40
""", queue="parcels")
fraud = svc("risk-scorer", "cards:4000 rules:300", """
MSG - payment.made      40 tiny  one:cards merchant=1..50
MSG - card.added        12 write ins:cards
MSG - chargeback.filed  8  list  sel:cards:60
MSG - rules.changed     3  calc  sel:rules:200
MSG - batch.settled     4  heavy sel:cards:300
""", queue="risk-events")
ledger = svc("ledger-svc", "accounts:4000 entries:9000", """
RPC - GetAccount    30 tiny  one:accounts
RPC - Post          24 write ins:entries upd:accounts
RPC - ListEntries   16 list  sel:entries:100
RPC - Reconcile     5  calc  sel:entries:300
RPC - Statement     4  heavy sel:entries:250
RPC - Balance       18 tiny  one:accounts
""", grpc_service="bank.ledger.v1.Ledger")
mailroom = svc("letter-intake", "letters:3000", """
POST /letters                 receive      14 write ins:letters kind=post:6|fax:3
GET  /letters/<int:id>        letter       22 tiny  one:letters
GET  /letters                 inbox        16 page  sel:letters:50 box=in|out|legal
POST /letters/<int:id>/stamp  stamp        8  write upd:letters
GET  /letters/<int:id>/scan   scan         10 list  one:letters
""")
render = svc("plot-render", "", """
POST /plots             draw        12 calc
GET  /plots/<id>        plot        24 page
GET  /palettes          palettes    10 tiny
POST /plots/<id>/share  share       6  write
GET  /gallery           gallery     8  list
""")
contracts = svc("contract-desk", "contracts:3000 clauses:6000", """
GET  /contracts/<int:id>          contract       24 page  one:contracts
GET  /contracts                   find_contract  14 list  sel:contracts:60 party=acme|orion|delta
POST /contracts                   draft          6  write ins:contracts
GET  /clauses/<int:id>            clause         16 tiny  one:clauses
POST /contracts/<int:id>/export   export         3  tiny  one:contracts format=docx:5|odt:3
""", child=dict(n=2, comm="soffice.bin"))
sounds = svc("sound-lab", "samples:2500", """
GET  /samples/<int:id>            sample    26 page  one:samples
GET  /samples                     samples   14 list  sel:samples:60
POST /samples/<int:id>/stretch    stretch   3  tiny  one:samples quality=draft:5|good:2
POST /samples/<int:id>/tags       tag       10 write upd:samples
GET  /presets                     presets   10 tiny
""", child=dict(n=2, comm="sox"))
billing = svc("invoice-run", "invoices:5000 customers:2000", """
GET  /invoices/<int:id>         invoice        24 tiny  one:invoices
GET  /customers/<int:id>        customer       18 tiny  one:customers
GET  /customers/<int:id>/dues   dues           12 list  sel:invoices:50
POST /invoices                  issue          10 write ins:invoices
GET  /aging                     aging          4  calc  sel:invoices:250
""")


def filler(name, limit, request=None, guaranteed=False, **fill):
    return dict(name=name, kind="filler", otel=False, limit=limit, request=request or (int(limit * 0.6) if limit else None), cpu_guaranteed=guaranteed, fill=dict(comm=name, **fill))


KEY = "messaging.rabbitmq.destination.routing_key"

CASES = [
    case("courier-leak", "A parcel service's queue worker.", [pod(having(courier, **{"customs.declared": dict(retain={"kb": [900, 1600]})}), "consumer", 192, version="3.0.4", threads=4)],
         [load([[0, 11], [190, 14]], "depot-gw", kind="queue")], duration=200, interval=2,
         truth=truth("leak", [span(courier, "customs.declared", "consumer")], culprit_attributes={KEY: "customs.declared"}, notes="One message in ten, a customs declaration, is never dropped after it was handled.")),
    case("courier-manifest", "A parcel service's queue worker; a manifest of a whole year comes.",
         [pod(having(courier, **{"manifest.closed": dict(query={"size": {"day": 60, "week": 12, "year": 1}}, attrs={"manifest.size": "size"}, spike={"mb": [5, 14], "build_s": [0.2, 0.6], "if": {"size": ["day", "week"]}, "big": {"size": "year", "mb": [230, 280], "build_s": [3, 4]}})}), "consumer", 224, version="3.0.5", threads=4)],
         [load([[0, 13], [200, 13]], "depot-gw", kind="queue")], duration=200, interval=1,
         truth=truth("operation_spike", [span(courier, "manifest.closed", "consumer")], inferable="weak", culprit_attributes={KEY: "manifest.closed"}, culprit_in_flight=True, notes="A manifest over a year is read into memory at once; the worker dies of it. Its consumer span is lost, the publisher's span names the routing key.")),
    case("courier-healthy", "A parcel service's queue worker.", [pod(having(courier, **{"manifest.closed": dict(tmp_kb=[9000, 15000]), "route.planned": dict(retain={"kb": [200, 400], "cap": 60})}), "consumer", 200, version="3.0.2", threads=4)],
         [load([[0, 6], [90, 18], [170, 8]], "depot-gw", kind="queue")], duration=180,
         truth=truth("none", notes="The last 60 routes are remembered; manifests return what they take.")),
    case("fraud-leak", "A payment company's risk scorer behind a queue; publishers are not instrumented.", [pod(having(fraud, **{"payment.made": dict(retain={"kb": [90, 180]})}), "consumer", 176, version="11.2.0", threads=3, metric_interval=5)],
         [load([[0, 12], [60, 18], [120, 9], [190, 16]], kind="queue")], duration=200, interval=2,
         truth=truth("leak", [span(fraud, "payment.made", "consumer")], culprit_attributes={KEY: "payment.made"}, notes="The most frequent message leaves a little behind each time.")),
    case("fraud-alive", "A payment company's risk scorer behind a queue.", [pod(having(fraud, **{"chargeback.filed": dict(retain={"kb": [240, 420]})}), "consumer", 420, version="11.2.1", threads=3, metric_interval=5)],
         [load([[0, 12], [230, 15]], "acquirer", kind="queue")], duration=235, interval=2,
         truth=truth("leak", [span(fraud, "chargeback.filed", "consumer")], culprit_attributes={KEY: "chargeback.filed"}, notes="Each chargeback stays in memory; nothing is killed in the window.")),
    case("ledger-leak", "A bank's ledger over gRPC.", [pod(having(ledger, ListEntries=dict(retain={"kb": [450, 850]})), "grpc", 200, version="1.22.0")],
         [load([[0, 13], [190, 16]], "teller-bff", kind="grpc")], duration=200, interval=2,
         truth=truth("leak", [span(ledger, "ListEntries", "grpc")], notes="Lists of entries stay in a cache without bounds.")),
    case("ledger-statement", "A bank's ledger over gRPC; year's end.",
         [pod(having(ledger, Statement=dict(query={"years": {"1": 40, "10": 0}}, attrs={"statement.years": "years"}, hold_mb=[4.5, 8], tmp_kb=[200, 400], ms=[900, 1700])), "grpc", 232, version="1.22.1", threads=60)],
         [load([[0, 14], [72, 14], [76, 30], [140, 30]], "teller-bff", kind="grpc", routes=[dict(r, **({"w": 4} if r["op"] == "Statement" else {})) for r in ledger["routes"]]),
          load([[0, 1.5], [76, 1.5], [77, 45], [92, 45], [94, 1.5]], "teller-batch", kind="grpc", routes=[r for r in ledger["routes"] if r["op"] == "Statement"])], duration=140, interval=1,
         truth=truth("concurrency_surge", [span(ledger, "Statement", "grpc")], culprit_in_flight=True, onset=76, notes="A batch asks for many statements at once; each holds 4-8 MiB for a second.")),
    case("ledger-healthy", "A bank's ledger over gRPC.", [pod(having(ledger, Statement=dict(tmp_kb=[8000, 14000]), GetAccount=dict(retain={"kb": [30, 60], "keys": 500})), "grpc", 224, version="1.21.3")],
         [load([[0, 10], [90, 24], [170, 12]], "teller-bff", kind="grpc")], duration=180,
         truth=truth("none", notes="A cache of 500 accounts, about 22 MiB; statements return what they take.")),
    case("mailroom-spool", "A mailroom's intake; scans are spooled to a volume.", [pod(having(mailroom, receive=dict(attrs={"letter.kind": "kind"}, file_kb=[500, 1100])), "flask", 208, version="0.14.0", memory_volumes=[dict(name="spool", path="/var/spool/letters")])],
         [load([[0, 13], [170, 15]], "scanner-gw")], duration=170, backoff=[8, 12, 20],
         truth=truth("tmpfs_or_page_cache", [span(mailroom, "receive")], notes="The spool is an emptyDir of medium Memory without a sizeLimit; nothing removes the files, which outlive the container.")),
    case("mailroom-clean", "A mailroom's intake; scans are spooled to a volume with a size limit.", [pod(having(mailroom, scan=dict(tmp_kb=[2500, 6000]), inbox=dict(retain={"kb": [60, 120], "keys": 150})), "flask", 224, version="0.13.2", memory_volumes=[dict(name="spool", path="/var/spool/letters", declared="64Mi")])],
         [load([[0, 10], [90, 18], [170, 11]], "scanner-gw")], duration=175,
         truth=truth("none", notes="The memory-backed volume stays empty; a bounded cache warms up.")),
    case("render-shm", "A plotting service in Go that draws in shared memory.", [pod(having(render, draw=dict(file_kb=[700, 1500])), "go", 140, version="2.1.0", memory_volumes=[dict(name="shm", path="/dev/shm")])],
         [load([[0, 14], [160, 16]], "notebook-ui")], duration=165, interval=2, backoff=[8, 12, 20],
         truth=truth("tmpfs_or_page_cache", [span(render, "draw", "go")], notes="Drawings are left in /dev/shm, which is memory of the pod; the process itself stays small.")),
    case("render-leak", "A plotting service in Go; its pods' records carry only the container's id.", [pod(having(render, gallery=dict(retain={"kb": [350, 700]})), "go", 136, version="2.2.0", resource="container_id", **{"k8s_env": {"GOMEMLIMIT": "122MiB"}})],
         [load([[0, 15], [190, 18]])], duration=200, interval=2, no_node_agent=True,
         truth=truth("leak", [span(render, "gallery", "go")], inferable="weak", notes="Gallery pages are kept. There is no node agent.")),
    case("contracts-convert", "A law firm's contracts; a helper converts documents.", [pod(having(contracts, export=dict(attrs={"export.format": "format"}, child={"mb": [15, 40], "s": 0.5, "if": {"format": ["docx", "odt"]}, "big": {"format": "pdfa", "mb": [250, 300], "s": 3}})), "flask", 280, version="8.8.1")],
         [load([[0, 11], [160, 12]], "lawyer-ui", timeout=30, scheduled=[dict(at=62, op="export", fixed={"format": "pdfa"}), dict(at=120, op="export", fixed={"format": "pdfa"})])], duration=165, victim="contract-desk",
         truth=truth("child_process", [span(contracts, "export")], culprit_attributes={"export.format": "pdfa"}, culprit_in_flight=True, onset=62, process="soffice.bin (a child); the app survives", notes="PDF/A makes the converter use over 250 MiB.")),
    case("contracts-creep", "A law firm's contracts; a helper converts documents and stays alive.", [pod(having(contracts, export=dict(w=8, attrs={"export.format": "format"}, child={"mb": [10, 20], "keep_mb": [1.6, 2.8], "s": 0.2})), "flask", 256, version="8.9.0")],
         [load([[0, 11], [200, 13]], "lawyer-ui", timeout=30)], duration=205, interval=2, victim="contract-desk",
         truth=truth("child_process", [span(contracts, "export")], inferable="weak", process="python (the app, the largest single process); the growth is in its two soffice.bin children", notes="Two converters keep a little of every document and grow to 80 MiB each; the kernel takes the app, which is larger than either.")),
    case("contracts-helper", "A law firm's contracts; one helper converts documents and stays alive.", [pod(having(contracts, extra={"child": dict(n=1, comm="soffice.bin")}, export=dict(w=8, attrs={"export.format": "format"}, child={"mb": [8, 16], "keep_mb": [1.8, 3.0], "s": 0.2})), "flask", 300, version="8.9.1")],
         [load([[0, 11], [200, 13]], "lawyer-ui", timeout=30)], duration=205, interval=2, victim="contract-desk",
         truth=truth("child_process", [span(contracts, "export")], inferable="weak", process="soffice.bin (a child that stays); the app survives", notes="The converter keeps a little of every document; it grows until it is killed and started anew.")),
    case("sounds-stretch", "A sound laboratory; a helper stretches samples. Callers are not instrumented.", [pod(having(sounds, stretch=dict(attrs={"stretch.quality": "quality"}, child={"mb": [10, 30], "s": 0.4, "if": {"quality": ["draft", "good"]}, "big": {"quality": "studio", "mb": [300, 340], "s": 3}})), "gunicorn", 330, version="0.5.0", workers=2, threads=4)],
         [load([[0, 11], [150, 12]], timeout=30, scheduled=[dict(at=70, op="stretch", fixed={"quality": "studio"}), dict(at=115, op="stretch", fixed={"quality": "studio"})])], duration=150, victim="sound-lab",
         truth=truth("child_process", [span(sounds, "stretch")], culprit_attributes={"stretch.quality": "studio"}, culprit_in_flight=True, onset=70, process="sox (a child); the workers survive", notes="Studio quality makes sox use over 300 MiB.")),
    case("billing-node", "Invoices; another pod on the node grows.", [pod(billing, "flask", 400, version="5.5.0", request=96),
          dict(deploy="log-shipper", version="2.0", ns="logging", containers=[filler("log-shipper", None, 700, base_mb=60, step_mb=4, every_s=1.0, delay_s=25)])],
         [load([[0, 12], [150, 13]], "accounts-ui")], duration=150, node_limit_mb=380, interval=2, victim="log-shipper",
         truth=truth("node_pressure", [], culprit_in_flight=False, onset=25, notes="The node is full: log-shipper, without a limit, grows, and the kernel kills it for the node's sake. invoice-run is innocent and lives.")),
    case("billing-sidecar", "Invoices; beside the app a proxy.", [dict(pod(billing, "flask", 256, version="5.5.1"), containers=pod(billing, "flask", 256, version="5.5.1")["containers"] + [filler("envoy", 72, base_mb=12, step_mb=1, every_s=1.4)])],
         [load([[0, 12], [170, 14]], "accounts-ui")], duration=175, interval=2,
         truth=truth("leak", [], notes="The sidecar envoy grows until its own limit of 72 MiB; the app is innocent. The sidecar sends no telemetry, so no operation can be named.")),
    case("billing-dark", "Invoices; the collector was down, only the node and Kubernetes tell.", [pod(having(billing, dues=dict(retain={"kb": [900, 1600]})), "flask", 200, version="5.6.0", otel=False)],
         [load([[0, 13], [190, 15]])], duration=195, interval=2,
         truth=truth("leak", [span(billing, "dues")], inferable=False, notes="The app isn't instrumented; memory grows steadily with its dues.")),
]
