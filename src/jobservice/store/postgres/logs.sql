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

-- name: split_logs
-- What is behind a position within a piece becomes a piece of its own.
INSERT INTO logs (tenant, job_id, attempt, stream, begin_at, end_at, data)
SELECT tenant, job_id, attempt, stream, $5::bigint, end_at, CASE WHEN data IS NOT NULL
    THEN substr(data, ($5 - begin_at + 1)::integer) END
FROM (
    SELECT * FROM logs
    WHERE tenant = $1 AND job_id = $2 AND attempt = $3 AND stream = $4 AND begin_at < $5
    ORDER BY begin_at DESC
    LIMIT 1) AS before
WHERE end_at > $5

-- name: cut_logs
-- The piece before a position ends there.
UPDATE logs SET end_at = $5, data = CASE WHEN data IS NOT NULL
    THEN substr(data, 1, ($5 - begin_at)::integer) END
WHERE tenant = $1 AND job_id = $2 AND attempt = $3 AND stream = $4 AND begin_at = (
        SELECT begin_at FROM logs
        WHERE tenant = $1 AND job_id = $2 AND attempt = $3 AND stream = $4 AND begin_at < $5
        ORDER BY begin_at DESC
        LIMIT 1)
    AND end_at > $5

-- name: drop_logs
-- Take out the pieces from a position to another.
DELETE FROM logs
WHERE tenant = $1 AND job_id = $2 AND attempt = $3 AND stream = $4 AND begin_at >= $5
    AND begin_at < $6

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
