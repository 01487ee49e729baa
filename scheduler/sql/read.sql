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
SELECT spec, record FROM job
WHERE :tasks OR array = 0 OR state NOT IN (SELECT value FROM json_each(:final))
ORDER BY job DESC LIMIT :newest

-- name: jobs_of_user
SELECT spec, record FROM job
WHERE uid = :uid
  AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
  AND (:tasks OR array = 0 OR state NOT IN (SELECT value FROM json_each(:final)))
ORDER BY job DESC LIMIT :newest

-- name: jobs_in_states
SELECT spec, record FROM job
WHERE state IN (SELECT value FROM json_each(:states))
ORDER BY job DESC LIMIT :newest

-- name: entries
SELECT seq, epoch, at, prev_hash, hash, payload FROM entry WHERE seq > :after ORDER BY seq LIMIT :most

-- name: size
-- Bytes that a replay up to a time reads; SQLite knows a blob's length without reading it.
SELECT coalesce(sum(length(payload)), 0) FROM entry WHERE at <= :until

-- name: span
-- From the first entry of a job to its last, or to the journal's end while it lives.
SELECT min(seq), CASE WHEN (SELECT live FROM job WHERE job = :job) THEN (SELECT max(seq) FROM entry) ELSE max(seq) END
FROM job_entry WHERE job = :job

-- name: entries_of_job
SELECT e.seq, e.epoch, e.at, e.prev_hash, e.hash, e.payload
FROM job_entry j JOIN entry e ON e.seq = j.seq
WHERE j.job = :job AND j.seq > :after ORDER BY j.seq LIMIT :most

-- name: request
SELECT ordinal, job FROM request WHERE uid = :uid AND request_id = :request_id

-- name: spec
SELECT toml FROM spec WHERE digest = :digest

-- name: tasks
SELECT spec, record FROM job WHERE array = :array AND array > 0 AND (:live = 0 OR live = 1) ORDER BY idx

-- name: task
SELECT spec, record FROM job WHERE array = :array AND array > 0 AND idx = :idx

-- name: newest_named
SELECT spec, record FROM job
WHERE uid = :uid AND array = 0 AND json_extract(spec, '$.name') = :name
ORDER BY job DESC LIMIT 1

-- name: unfinished
SELECT job FROM job
WHERE uid = :uid AND array = 0 AND json_extract(spec, '$.name') = :name
  AND live = 1 AND state NOT IN (SELECT value FROM json_each(:final))
ORDER BY job

-- name: policy
SELECT policy FROM policy

-- name: used
SELECT account, user, cpu_s, at FROM used
