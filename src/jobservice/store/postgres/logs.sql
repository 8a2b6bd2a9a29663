-- Output of attempts, in pieces.

-- name: find_log_ends
-- Where streams end, each with the number of its row; none for one that has nothing.
SELECT wanted.n, last.end_at
FROM (SELECT * FROM rows(n integer, tenant text, job_id text, attempt bigint, stream smallint))
    AS wanted
    CROSS JOIN LATERAL (
        SELECT end_at FROM logs
        WHERE logs.tenant = wanted.tenant AND logs.job_id = wanted.job_id
            AND logs.attempt = wanted.attempt AND logs.stream = wanted.stream
        ORDER BY begin_at DESC
        LIMIT 1) AS last

-- name: insert_logs
-- Append pieces.
INSERT INTO logs (tenant, job_id, attempt, stream, begin_at, end_at, data)
SELECT * FROM rows(
    tenant text, job_id text, attempt bigint, stream smallint, begin_at bigint, end_at bigint,
    data bytea)

-- name: read_log
-- The piece of a stream that begins at a position, or before it.
SELECT begin_at, end_at, data FROM logs
WHERE tenant = $1 AND job_id = $2 AND attempt = $3 AND stream = $4 AND begin_at <= $5
ORDER BY begin_at DESC
LIMIT 1

-- name: delete_logs
-- Remove what belongs to deleted jobs.
DELETE FROM logs
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE logs.tenant = gone.tenant AND logs.job_id = gone.job_id
