-- Kills and lives are told by the incidents, and read from what is stored; nothing was ever in these.
DROP TABLE kill;
DROP TABLE life;
