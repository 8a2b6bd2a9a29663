-- Arrays: jobs that stand for many.
--
-- Whoever changes a row of `arrays` holds the lock of its job. That is taken by one statement and the row
-- read by the next, which sees all that was committed before the lock was given.

-- name: insert_arrays
-- Keep how large arrays are, and their rules.
INSERT INTO arrays (tenant, job_id, size, max_parallel, max_failures, has_items)
SELECT * FROM rows(
    tenant text, job_id text, size integer, max_parallel integer, max_failures integer,
    has_items boolean)

-- name: insert_array_items
-- Keep the items of arrays, in pieces.
INSERT INTO array_items (tenant, job_id, first_index, items)
SELECT * FROM rows(tenant text, job_id text, first_index integer, items text)

-- name: open_arrays  moves: QUEUED -> RUNNING
-- The turn of arrays has come.
UPDATE jobs
SET state = {State.RUNNING}, started_us = coalesce(jobs.started_us, opened.now_us),
    revision = revision + 1, updated_us = opened.now_us, reason = 0, message = ''
FROM (
    SELECT * FROM rows(tenant text, job_id text, position bigint, now_us bigint)
) AS opened
WHERE jobs.tenant = opened.tenant AND jobs.job_id = opened.job_id
    AND jobs.state + 0 = {State.QUEUED}

-- name: grow_arrays
-- Indices of arrays are to be made or revived.
UPDATE arrays
SET is_growing = true
FROM (SELECT * FROM rows(tenant text, job_id text)) AS opened
WHERE arrays.tenant = opened.tenant AND arrays.job_id = opened.job_id

-- name: revive_arrays
-- What did not succeed of arrays is to be run again, once they are opened.
UPDATE arrays
SET revive_from = 0
FROM (SELECT * FROM rows(tenant text, job_id text)) AS revived
WHERE arrays.tenant = revived.tenant AND arrays.job_id = revived.job_id

-- name: find_growing_arrays
-- Arrays of which indices are to be made or revived, in order, from one on.
SELECT tenant, job_id FROM arrays
WHERE is_growing AND (tenant, job_id) > ($1, $2)
ORDER BY tenant, job_id
LIMIT $3

-- name: find_ending_arrays
-- Arrays that are being stopped or deleted, in order, from one on.
SELECT tenant, job_id FROM jobs
WHERE array_size IS NOT NULL AND array_id IS NULL
    AND (state = {State.STOPPING} OR delete_requested AND ended_us IS NOT NULL)
    AND (tenant, job_id) > ($1, $2)
ORDER BY tenant, job_id
LIMIT $3

-- name: find_untold_arrays
-- Arrays that have not counted the end of some of their indices, from one on: a walk from array to array along
-- `jobs_untold`.
WITH RECURSIVE
    untold AS (
        (SELECT tenant, array_id FROM jobs
        WHERE array_id IS NOT NULL
            AND array_told = 0 AND ended_us IS NOT NULL
            AND (tenant, array_id) > ($1, $2)
        ORDER BY tenant, array_id
        LIMIT 1)
        UNION ALL
        SELECT next.* FROM untold CROSS JOIN LATERAL (
            SELECT tenant, array_id FROM jobs
            WHERE array_id IS NOT NULL
                AND array_told = 0 AND ended_us IS NOT NULL
                AND (jobs.tenant, jobs.array_id) > (untold.tenant, untold.array_id)
            ORDER BY tenant, array_id
            LIMIT 1) AS next)
SELECT tenant, array_id FROM untold LIMIT $3

-- name: find_arrays
-- Where arrays are, each with the number of its row, but for those that another is changing just now.
SELECT wanted.n, state, revision, 0, reason, message, has_children, schedule IS NOT NULL,
    delete_requested, started_us, keys, claim_key, queued_us
FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
FOR UPDATE OF jobs SKIP LOCKED

-- name: find_counts
-- How far arrays are, each with the number of its row.
SELECT wanted.n, size, max_parallel, max_failures, has_items, made, succeeded, failed, dropped,
    revive_from, is_growing
FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
JOIN arrays ON arrays.tenant = wanted.tenant AND arrays.job_id = wanted.job_id

-- name: find_untold_indices
-- Indices whose end arrays have not counted, each with the number of the row of its array, but for those
-- that another is changing just now; when there are too many, some are left out.
SELECT wanted.n, untold.job_id, untold.state
FROM (SELECT * FROM rows(n integer, tenant text, array_id text)) AS wanted
CROSS JOIN LATERAL (
    SELECT job_id, state FROM jobs
    WHERE jobs.tenant = wanted.tenant AND jobs.array_id = wanted.array_id
        AND array_told = 0 AND ended_us IS NOT NULL
    ORDER BY tenant, array_id, job_id
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
) AS untold
LIMIT 1000

-- name: tell_indices
-- Arrays have counted indices.
UPDATE jobs
SET array_told = told.state
FROM (SELECT * FROM rows(tenant text, job_id text, state smallint)) AS told
WHERE jobs.tenant = told.tenant AND jobs.job_id = told.job_id

-- name: uncount_indices
-- Indices that arrays had counted are run again.
UPDATE arrays
SET succeeded = arrays.succeeded - revived.succeeded, failed = arrays.failed - revived.failed,
    dropped = arrays.dropped - revived.dropped
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, succeeded integer, failed integer, dropped integer)
) AS revived
WHERE arrays.tenant = revived.tenant AND arrays.job_id = revived.job_id

-- name: put_counts
-- Put how far arrays are.
UPDATE arrays
SET made = counted.made, succeeded = counted.succeeded, failed = counted.failed,
    dropped = counted.dropped, revive_from = counted.revive_from, is_growing = counted.is_growing
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, made integer, succeeded integer, failed integer,
        dropped integer, revive_from integer, is_growing boolean)
) AS counted
WHERE arrays.tenant = counted.tenant AND arrays.job_id = counted.job_id

-- name: count_queued_indices
-- How many indices of arrays wait for a worker, each with the number of its row; counted up to a bound.
SELECT wanted.n, waiting.count
FROM (SELECT * FROM rows(n integer, tenant text, array_id text)) AS wanted
CROSS JOIN LATERAL (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs
        WHERE jobs.tenant = wanted.tenant AND jobs.array_id = wanted.array_id
            AND jobs.ended_us IS NULL AND jobs.state = {State.QUEUED}
        ORDER BY jobs.array_index
        LIMIT 200
    ) AS bounded
) AS waiting

-- name: find_items
-- Pieces of the items of arrays, each with the number of its row.
SELECT wanted.n, items
FROM (SELECT * FROM rows(n integer, tenant text, job_id text, first_index integer)) AS wanted
JOIN array_items ON array_items.tenant = wanted.tenant AND array_items.job_id = wanted.job_id
    AND array_items.first_index = wanted.first_index

-- name: find_live_indices
-- Indices of an array that are to be stopped, but for those that another is changing just now.
SELECT job_id FROM jobs
WHERE tenant = $1 AND array_id = $2 AND ended_us IS NULL AND state < {State.STOPPING}
ORDER BY tenant, array_id, state, array_index
LIMIT $3
FOR UPDATE SKIP LOCKED

-- name: find_unmet_indices
-- Indices of an array that ended without success, from one on.
SELECT array_index, job_id FROM jobs
WHERE tenant = $1 AND array_id = $2 AND array_index >= $3
    AND ended_us IS NOT NULL AND state > {State.SUCCEEDED}
ORDER BY tenant, array_id, array_index
LIMIT $4

-- name: lock_free_indices
-- Which of indices nobody else is changing just now, by the number of their rows; they are locked.
SELECT wanted.n
FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
FOR UPDATE OF jobs SKIP LOCKED

-- name: count_unwanted_indices
-- How many indices of an array are marked for their deletion and still there; counted up to a bound.
SELECT count(*) FROM (
    SELECT 1 FROM (
        SELECT array_id FROM jobs WHERE tenant = $1 AND delete_requested ORDER BY tenant, job_id OFFSET 0
    ) AS marked
    WHERE array_id = $2
    LIMIT $3
) AS bounded

-- name: find_undeleted_indices
-- Indices of an array whose deletion was not asked for, but for those that another is changing just now.
SELECT job_id FROM jobs
WHERE tenant = $1 AND array_id = $2 AND NOT delete_requested
ORDER BY tenant, array_id, array_index
LIMIT $3
FOR UPDATE SKIP LOCKED

-- name: find_arrays_of
-- The arrays that jobs are indices of.
SELECT wanted.tenant, jobs.array_id
FROM (SELECT * FROM rows(tenant text, job_id text)) AS wanted
    CROSS JOIN LATERAL (
        SELECT array_id FROM jobs
        WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id OFFSET 0
    ) AS jobs
WHERE jobs.array_id IS NOT NULL

-- name: end_arrays  moves: RUNNING -> SUCCEEDED | FAILED; STOPPING -> SUCCEEDED | FAILED | CANCELLED
-- Nothing is left of arrays.
UPDATE jobs
SET state = ended.state, reason = ended.reason, message = ended.message,
    revision = revision + 1, updated_us = ended.now_us, ended_us = ended.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, state smallint, reason smallint, message text,
        now_us bigint)
) AS ended
WHERE jobs.tenant = ended.tenant AND jobs.job_id = ended.job_id
    AND (
        jobs.state = {State.RUNNING} AND ended.state IN ({State.SUCCEEDED}, {State.FAILED})
        OR jobs.state = {State.STOPPING} AND ended.state IN (
            {State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}))

-- name: delete_arrays
-- Remove what belongs to deleted jobs.
DELETE FROM arrays
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE arrays.tenant = gone.tenant AND arrays.job_id = gone.job_id

-- name: delete_array_items
-- Remove what belongs to deleted jobs.
DELETE FROM array_items
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE array_items.tenant = gone.tenant AND array_items.job_id = gone.job_id
