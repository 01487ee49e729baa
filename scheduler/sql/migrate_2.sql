-- To schema 3. These tables are filled, and the rows of `job` made anew, at the same start (scheduler/store.py).

-- The policy in force: the file's, with what was drained, opened and reserved by command. Read model too.
CREATE TABLE policy (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    policy TEXT    NOT NULL                      -- jobs.policy.Policy as JSON
) STRICT;

-- What users have used, for their fair share: so much was left of it at that time. Read model too.
CREATE TABLE used (
    account TEXT NOT NULL,
    user    TEXT NOT NULL,
    cpu_s   REAL NOT NULL,                       -- CPU-seconds, faded until
    at      REAL NOT NULL,
    PRIMARY KEY (account, user)
) STRICT, WITHOUT ROWID;
