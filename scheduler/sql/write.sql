-- Statements of the one writing connection, all within one transaction per batch (scheduler/store.py `commit`).

-- name: append
-- Changes no row when another process appended (max(seq)) or started (epoch) since: then we are deposed.
INSERT INTO entry (seq, epoch, at, prev_hash, hash, payload)
SELECT :seq, :epoch, :at, :prev_hash, :hash, :payload
WHERE (SELECT coalesce(max(seq), 0) FROM entry) = :seq - 1
  AND (SELECT epoch FROM meta) = :epoch

-- name: add_job
INSERT INTO job (job, uid, state, live, version, spec, record, array, idx)
VALUES (:job, :uid, :state, :live, :version, :spec, :record, :array, :idx)

-- name: change_job
UPDATE job SET state = :state, live = :live, version = :version, record = :record WHERE job = :job

-- name: add_job_entry
INSERT OR IGNORE INTO job_entry (job, seq) VALUES (:job, :seq)

-- name: add_request
INSERT INTO request (uid, request_id, ordinal, job) VALUES (:uid, :request_id, :ordinal, :job)

-- name: add_spec
INSERT OR IGNORE INTO spec (digest, toml) VALUES (:digest, :toml)

-- name: next_epoch
UPDATE meta SET epoch = epoch + 1 RETURNING epoch

-- name: add_policy
INSERT INTO policy VALUES (1, :policy)

-- name: set_policy
UPDATE policy SET policy = :policy

-- name: set_used
INSERT INTO used (account, user, cpu_s, at) VALUES (:account, :user, :cpu_s, :at)
ON CONFLICT (account, user) DO UPDATE SET cpu_s = :cpu_s, at = :at
