-- Small facts of the store itself: its clock.
CREATE TABLE fact (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;

-- The catalogue. Derived from the segments.
CREATE TABLE container (
    id BLOB PRIMARY KEY,
    identity BLOB NOT NULL,
    first_nanos INTEGER NOT NULL,
    last_nanos INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    items INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX container_last ON container (last_nanos);
CREATE TABLE container_name (
    value TEXT NOT NULL,
    key TEXT NOT NULL,
    container BLOB NOT NULL REFERENCES container ON DELETE CASCADE,
    PRIMARY KEY (value, key, container)
) WITHOUT ROWID;
CREATE INDEX container_name_of ON container_name (container);

-- What was given up, one row for each container (NULL: whole segments), kind and reason.
CREATE TABLE dropped (
    id INTEGER PRIMARY KEY,
    container BLOB,
    kind INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    first_nanos INTEGER NOT NULL,
    last_nanos INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    items INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE UNIQUE INDEX dropped_key ON dropped (ifnull(container, x''), kind, reason);

CREATE TABLE life (
    key TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    workload TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    container TEXT NOT NULL,
    container_id TEXT NOT NULL,
    started_nanos INTEGER,
    ended_nanos INTEGER,
    json TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX life_pod ON life (pod_uid, container);
CREATE INDEX life_workload ON life (namespace, workload);

CREATE TABLE kill (
    key TEXT PRIMARY KEY,
    at_nanos INTEGER NOT NULL,
    pod_uid TEXT NOT NULL,
    container_id TEXT NOT NULL,
    incident TEXT NOT NULL,
    json TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX kill_at ON kill (at_nanos);
CREATE INDEX kill_incident ON kill (incident, at_nanos);

CREATE TABLE incident (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    workload TEXT NOT NULL,
    container TEXT NOT NULL,
    cause TEXT NOT NULL,
    operation TEXT NOT NULL,
    version TEXT NOT NULL,
    probability REAL NOT NULL,
    kills INTEGER NOT NULL,
    first_nanos INTEGER NOT NULL,
    last_nanos INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    summary TEXT NOT NULL,
    json TEXT NOT NULL
);
CREATE INDEX incident_last ON incident (last_nanos);
CREATE INDEX incident_namespace ON incident (namespace, workload);
