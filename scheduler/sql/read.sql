-- Statements that change nothing; on the reading connection, so they never wait for the writer.

-- name: head
SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1

-- name: last_job
SELECT coalesce(max(job), 0) FROM job

-- name: job
SELECT spec, record FROM job WHERE job = :job

-- name: live_jobs
SELECT spec, record FROM job WHERE live = 1 ORDER BY job

-- name: jobs
-- Newest first, so that a limit keeps the newest; the caller turns them round. LIMIT -1 keeps all.
SELECT spec, record FROM job ORDER BY job DESC LIMIT :newest

-- name: jobs_of_user
SELECT spec, record FROM job
WHERE uid = :uid
  AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
ORDER BY job DESC LIMIT :newest

-- name: jobs_in_states
SELECT spec, record FROM job
WHERE state IN (SELECT value FROM json_each(:states))
ORDER BY job DESC LIMIT :newest

-- name: entries
SELECT seq, epoch, at, prev_hash, hash, payload FROM entry WHERE seq > :after ORDER BY seq LIMIT :most

-- name: entries_of_job
SELECT e.seq, e.epoch, e.at, e.prev_hash, e.hash, e.payload
FROM job_entry j JOIN entry e ON e.seq = j.seq
WHERE j.job = :job AND j.seq > :after ORDER BY j.seq LIMIT :most

-- name: request
SELECT ordinal, job FROM request WHERE uid = :uid AND request_id = :request_id

-- name: spec
SELECT toml FROM spec WHERE digest = :digest
