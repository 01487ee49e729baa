-- Schema 3. `PRAGMA user_version` holds the number; older ones are led here by migrate_<n>.sql (journal/database.py).
-- Times are seconds since 1970 as REAL (64-bit floats survive unchanged); hashes are raw bytes.

CREATE TABLE meta (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    epoch INTEGER NOT NULL                       -- counts the starts of a daemon on this file; fences older ones
) STRICT;
INSERT INTO meta VALUES (1, 0);

-- The journal. Never updated, never deleted from.
CREATE TABLE entry (
    seq       INTEGER PRIMARY KEY,               -- 1, 2, 3 … without gaps
    epoch     INTEGER NOT NULL,
    at        REAL    NOT NULL,
    prev_hash BLOB    NOT NULL,                  -- hash of entry seq-1; 32 zero bytes before the first
    hash      BLOB    NOT NULL,                  -- sha256(prev_hash | seq | epoch | at | payload), journal/entry.py
    payload   BLOB    NOT NULL                   -- {"v": 1, "events": [...]}, at most 256 KiB
) STRICT;

-- Which entries mention a job: `jobs events ID` and nothing else.
CREATE TABLE job_entry (
    job INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;

-- The read model: states.advance applied to the journal. Can be thrown away and made again.
CREATE TABLE job (
    job     INTEGER PRIMARY KEY,                 -- the id that users see
    uid     INTEGER NOT NULL,                    -- owner
    state   TEXT    NOT NULL,                    -- held queued starting running frozen thawing, or a final one
    live    INTEGER NOT NULL,                    -- 1: not final, or not cleaned up; what a start-up must load
    version INTEGER NOT NULL,                    -- events applied
    spec    TEXT    NOT NULL,                    -- jobs.spec.to_json; never changes
    record  TEXT    NOT NULL,                    -- jobs.record.to_json: everything but the spec
    array   INTEGER NOT NULL DEFAULT 0,          -- of a task, the job of its array; 0: no task
    idx     INTEGER NOT NULL DEFAULT 0           -- its index in that array
) STRICT;
CREATE INDEX job_live ON job (job) WHERE live = 1;   -- start-up: few rows among many finished ones
CREATE INDEX job_of_user ON job (uid, job);          -- `jobs list` of one user, newest first
CREATE INDEX job_in_state ON job (state, job);       -- `jobs list --state running`
CREATE INDEX job_of_array ON job (array, idx) WHERE array > 0;                               -- `12_3`
CREATE INDEX job_named ON job (uid, json_extract(spec, '$.name'), job) WHERE array = 0;      -- depends.afterok = ["a"]

-- A retried submission finds the ids it was given. One request may hold several jobs, told apart by their ordinal.
CREATE TABLE request (
    uid        INTEGER NOT NULL,
    request_id TEXT    NOT NULL,
    ordinal    INTEGER NOT NULL,
    job        INTEGER NOT NULL,
    PRIMARY KEY (uid, request_id, ordinal)
) STRICT, WITHOUT ROWID;

-- The TOML texts as submitted, by sha256. Outside the chain: they may hold secrets and can be erased.
CREATE TABLE spec (
    digest TEXT PRIMARY KEY,
    toml   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The policy in force: the file's, with what was drained, opened and reserved by command. Read model too.
CREATE TABLE policy (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    policy TEXT    NOT NULL                      -- jobs.policy.Policy as JSON
) STRICT;
INSERT INTO policy VALUES (1, '{}');

-- What users have used, for their fair share: so much was left of it at that time. Read model too.
CREATE TABLE used (
    account TEXT NOT NULL,
    user    TEXT NOT NULL,
    cpu_s   REAL NOT NULL,                       -- CPU-seconds, faded until
    at      REAL NOT NULL,
    PRIMARY KEY (account, user)
) STRICT, WITHOUT ROWID;
