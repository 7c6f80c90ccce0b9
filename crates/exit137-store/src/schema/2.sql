-- Verdicts are a hundred times larger than what incidents are listed, filtered and sorted by: apart from them, a list of ten
-- thousand is read from one megabyte and not from a hundred.
CREATE TABLE verdict (
    incident TEXT PRIMARY KEY REFERENCES incident (key) ON DELETE CASCADE,
    json TEXT NOT NULL
);
INSERT INTO verdict (incident, json) SELECT key, json FROM incident;
ALTER TABLE incident DROP COLUMN json;
