-- Output of attempts, in pieces.

-- name: find_log_ends
-- Where streams end, each with the number of its row; none for one that has nothing.
WITH wanted (n, tenant, job_id, attempt, stream) AS (
    VALUES /*each*/ (:n, :tenant, :job_id, :attempt, :stream) /*end*/)
SELECT json_group_array(json_array(n, end_at))
FROM (
    SELECT n, (
        SELECT end_at FROM logs
        WHERE logs.tenant = wanted.tenant AND logs.job_id = wanted.job_id
            AND logs.attempt = wanted.attempt AND logs.stream = wanted.stream
        ORDER BY begin_at DESC
        LIMIT 1) AS end_at
    FROM wanted)
WHERE end_at IS NOT NULL

-- name: insert_logs
-- Append pieces.
INSERT INTO logs (tenant, job_id, attempt, stream, begin_at, end_at, data)
VALUES /*each*/ (:tenant, :job_id, :attempt, :stream, :begin_at, :end_at, :data) /*end*/

-- name: split_logs
-- What is behind a position within a piece becomes a piece of its own.
INSERT INTO logs (tenant, job_id, attempt, stream, begin_at, end_at, data)
SELECT tenant, job_id, attempt, stream, ?5, end_at, substr(data, ?5 - begin_at + 1)
FROM (
    SELECT * FROM logs
    WHERE tenant = ?1 AND job_id = ?2 AND attempt = ?3 AND stream = ?4 AND begin_at < ?5
    ORDER BY begin_at DESC
    LIMIT 1)
WHERE end_at > ?5

-- name: cut_logs
-- The piece before a position ends there.
UPDATE logs SET end_at = ?5, data = substr(data, 1, ?5 - begin_at)
WHERE tenant = ?1 AND job_id = ?2 AND attempt = ?3 AND stream = ?4 AND begin_at = (
        SELECT begin_at FROM logs
        WHERE tenant = ?1 AND job_id = ?2 AND attempt = ?3 AND stream = ?4 AND begin_at < ?5
        ORDER BY begin_at DESC
        LIMIT 1)
    AND end_at > ?5

-- name: drop_logs
-- Take out the pieces from a position to another.
DELETE FROM logs
WHERE tenant = ?1 AND job_id = ?2 AND attempt = ?3 AND stream = ?4 AND begin_at >= ?5
    AND begin_at < ?6

-- name: read_log
-- The piece of a stream that begins at a position, or before it.
SELECT begin_at, end_at, data FROM logs
WHERE tenant = ? AND job_id = ? AND attempt = ? AND stream = ? AND begin_at <= ?
ORDER BY begin_at DESC
LIMIT 1

-- name: delete_logs
-- Remove what belongs to deleted jobs.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM logs WHERE (tenant, job_id) IN (SELECT * FROM gone)
