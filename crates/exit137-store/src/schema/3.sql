-- Containers that nothing is left of are forgotten, by the store's own clock; and what a new container costs is halved: its names
-- are found by their values alone.
ALTER TABLE container ADD COLUMN heard_seconds INTEGER NOT NULL DEFAULT 0;
UPDATE container SET heard_seconds = ifnull((SELECT number FROM fact WHERE name = 'clock_seconds'), 0);
CREATE TABLE container_name_new (
    value TEXT NOT NULL,
    key TEXT NOT NULL,
    container BLOB NOT NULL,
    PRIMARY KEY (value, key, container)
) WITHOUT ROWID;
INSERT INTO container_name_new (value, key, container) SELECT value, key, container FROM container_name;
DROP TABLE container_name;
ALTER TABLE container_name_new RENAME TO container_name;
