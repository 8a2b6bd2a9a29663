-- Arrays: jobs that stand for many.

-- name: insert_arrays
-- Keep how large arrays are, and their rules.
INSERT INTO arrays (tenant, job_id, size, max_parallel, max_failures, has_items)
VALUES /*each*/ (:tenant, :job_id, :size, :max_parallel, :max_failures, :has_items) /*end*/

-- name: insert_array_items
-- Keep the items of arrays, in pieces.
INSERT INTO array_items (tenant, job_id, first_index, items)
VALUES /*each*/ (:tenant, :job_id, :first_index, :items) /*end*/

-- name: open_arrays  moves: QUEUED -> RUNNING
-- The turn of arrays has come.
WITH opened (tenant, job_id, position, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :now_us) /*end*/)
UPDATE jobs
SET state = {State.RUNNING}, started_us = coalesce(jobs.started_us, opened.now_us),
    revision = revision + 1, last_position = opened.position, updated_us = opened.now_us,
    reason = 0, message = ''
FROM opened
WHERE jobs.tenant = opened.tenant AND jobs.job_id = opened.job_id
    AND jobs.state = {State.QUEUED}

-- name: grow_arrays
-- Indices of arrays are to be made or revived.
WITH opened (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
UPDATE arrays
SET is_growing = 1
FROM opened
WHERE arrays.tenant = opened.tenant AND arrays.job_id = opened.job_id

-- name: revive_arrays
-- What did not succeed of arrays is to be run again, once they are opened.
WITH revived (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
UPDATE arrays
SET revive_from = 0
FROM revived
WHERE arrays.tenant = revived.tenant AND arrays.job_id = revived.job_id

-- name: find_growing_arrays
-- Arrays of which indices are to be made or revived, in order, from one on.
SELECT json_group_array(json_array(tenant, job_id))
FROM (
    SELECT tenant, job_id FROM arrays
    WHERE is_growing = 1 AND (tenant, job_id) > (?1, ?2)
    ORDER BY tenant, job_id
    LIMIT ?3
)

-- name: find_ending_arrays
-- Arrays that are being stopped or deleted, in order, from one on.
SELECT json_group_array(json_array(tenant, job_id))
FROM (
    SELECT tenant, job_id FROM jobs INDEXED BY jobs_ending_arrays
    WHERE array_size IS NOT NULL AND array_id IS NULL
        AND (state = {State.STOPPING} OR delete_requested = 1 AND ended_us IS NOT NULL)
        AND (tenant, job_id) > (?1, ?2)
    ORDER BY tenant, job_id
    LIMIT ?3
)

-- name: find_untold_arrays
-- Arrays that have not counted the end of some of their indices, from one on: a walk from array to array along
-- `jobs_untold`, as that of `find_lanes`.
WITH RECURSIVE
    arrays (array) AS (
        SELECT (
            SELECT json_array(tenant, array_id) FROM jobs INDEXED BY jobs_untold
            WHERE array_id IS NOT NULL
                AND array_told = 0 AND ended_us IS NOT NULL
                AND (tenant, array_id) >= (?1, ?2 || char(0))
            ORDER BY tenant, array_id
            LIMIT 1)
        UNION ALL
        SELECT (
            SELECT json_array(tenant, array_id) FROM jobs INDEXED BY jobs_untold
            WHERE array_id IS NOT NULL
                AND array_told = 0 AND ended_us IS NOT NULL
                AND (tenant, array_id) >= (array ->> 0, (array ->> 1) || char(0))
            ORDER BY tenant, array_id
            LIMIT 1)
        FROM arrays WHERE array IS NOT NULL
        LIMIT ?3)
SELECT json_group_array(json(array)) FROM arrays WHERE array IS NOT NULL

-- name: find_arrays
-- Where arrays are, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, state, revision, last_position, reason, message, has_children, schedule IS NOT NULL,
    delete_requested, started_us, keys, claim_key, queued_us))
FROM wanted CROSS JOIN jobs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: find_counts
-- How far arrays are, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, size, max_parallel, max_failures, has_items, made, succeeded, failed, dropped,
    revive_from, is_growing))
FROM wanted CROSS JOIN arrays
WHERE arrays.tenant = wanted.tenant AND arrays.job_id = wanted.job_id

-- name: find_untold_indices
-- Indices whose end arrays have not counted, each with the number of the row of its array; when there are
-- too many, some are left out.
WITH wanted (n, tenant, array_id) AS (VALUES /*each*/ (:n, :tenant, :array_id) /*end*/)
SELECT json_group_array(json_array(n, job_id, state))
FROM (
    SELECT wanted.n, job_id, state
    FROM wanted CROSS JOIN jobs INDEXED BY jobs_untold
    WHERE jobs.tenant = wanted.tenant AND jobs.array_id = wanted.array_id
        AND jobs.array_id IS NOT NULL
        AND array_told = 0 AND ended_us IS NOT NULL
    LIMIT 1000)

-- name: tell_indices
-- Arrays have counted indices.
WITH told (tenant, job_id, state) AS (VALUES /*each*/ (:tenant, :job_id, :state) /*end*/)
UPDATE jobs
SET array_told = told.state
FROM told
WHERE jobs.tenant = told.tenant AND jobs.job_id = told.job_id

-- name: uncount_indices
-- Indices that arrays had counted are run again.
WITH revived (tenant, job_id, succeeded, failed, dropped) AS (
    VALUES /*each*/ (:tenant, :job_id, :succeeded, :failed, :dropped) /*end*/)
UPDATE arrays
SET succeeded = arrays.succeeded - revived.succeeded, failed = arrays.failed - revived.failed,
    dropped = arrays.dropped - revived.dropped
FROM revived
WHERE arrays.tenant = revived.tenant AND arrays.job_id = revived.job_id

-- name: put_counts
-- Put how far arrays are.
WITH counted (
    tenant, job_id, made, succeeded, failed, dropped, revive_from, is_growing
) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :made, :succeeded, :failed, :dropped, :revive_from,
        :is_growing) /*end*/)
UPDATE arrays
SET made = counted.made, succeeded = counted.succeeded, failed = counted.failed,
    dropped = counted.dropped, revive_from = counted.revive_from, is_growing = counted.is_growing
FROM counted
WHERE arrays.tenant = counted.tenant AND arrays.job_id = counted.job_id

-- name: count_queued_indices
-- How many indices of arrays wait for a worker, each with the number of its row; counted up to a bound.
WITH wanted (n, tenant, array_id) AS (VALUES /*each*/ (:n, :tenant, :array_id) /*end*/)
SELECT json_group_array(json_array(n, waiting))
FROM (
    SELECT n, (
        SELECT count(*) FROM (
            SELECT 1 FROM jobs INDEXED BY jobs_indices_live
            WHERE jobs.tenant = wanted.tenant AND jobs.array_id = wanted.array_id
                AND jobs.array_id IS NOT NULL AND jobs.ended_us IS NULL
                AND jobs.state = {State.QUEUED}
            LIMIT 200)) AS waiting
    FROM wanted)

-- name: find_items
-- Pieces of the items of arrays, each with the number of its row.
WITH wanted (n, tenant, job_id, first_index) AS (
    VALUES /*each*/ (:n, :tenant, :job_id, :first_index) /*end*/)
SELECT json_group_array(json_array(wanted.n, items))
FROM wanted CROSS JOIN array_items
WHERE array_items.tenant = wanted.tenant AND array_items.job_id = wanted.job_id
    AND array_items.first_index = wanted.first_index

-- name: find_live_indices
-- Indices of an array that are to be stopped.
SELECT json_group_array(json_array(job_id))
FROM (
    SELECT job_id FROM jobs INDEXED BY jobs_indices_live
    WHERE tenant = ?1 AND array_id = ?2 AND array_id IS NOT NULL AND ended_us IS NULL
        AND state < {State.STOPPING}
    LIMIT ?3
)

-- name: find_unmet_indices
-- Indices of an array that ended without success, from one on.
SELECT json_group_array(json_array(array_index, job_id))
FROM (
    SELECT array_index, job_id FROM jobs INDEXED BY jobs_indices_unmet
    WHERE tenant = ?1 AND array_id = ?2 AND array_id IS NOT NULL AND array_index >= ?3
        AND ended_us IS NOT NULL AND state > {State.SUCCEEDED}
    ORDER BY array_index
    LIMIT ?4
)

-- name: lock_free_indices
-- Which of indices nobody else is changing just now, by the number of their rows: here all that there are.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(wanted.n))
FROM wanted CROSS JOIN jobs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: count_unwanted_indices
-- How many indices of an array are marked for their deletion and still there; counted up to a bound.
SELECT json_array(json_array(count(*)))
FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_to_delete
    WHERE tenant = ?1 AND array_id = ?2 AND delete_requested = 1
    LIMIT ?3
)

-- name: find_undeleted_indices
-- Indices of an array whose deletion was not asked for.
SELECT json_group_array(json_array(job_id))
FROM (
    SELECT job_id FROM jobs INDEXED BY jobs_of_arrays
    WHERE tenant = ?1 AND array_id = ?2 AND array_id IS NOT NULL AND delete_requested = 0
    LIMIT ?3
)

-- name: find_arrays_of
-- The arrays that jobs are indices of.
WITH wanted (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(jobs.tenant, array_id))
FROM wanted CROSS JOIN jobs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id AND array_id IS NOT NULL

-- name: end_arrays  moves: RUNNING -> SUCCEEDED | FAILED; STOPPING -> SUCCEEDED | FAILED | CANCELLED
-- Nothing is left of arrays.
WITH ended (tenant, job_id, position, state, reason, message, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :state, :reason, :message, :now_us) /*end*/)
UPDATE jobs
SET state = ended.state, reason = ended.reason, message = ended.message,
    revision = revision + 1, last_position = ended.position,
    updated_us = ended.now_us, ended_us = ended.now_us
FROM ended
WHERE jobs.tenant = ended.tenant AND jobs.job_id = ended.job_id
    AND (
        jobs.state = {State.RUNNING} AND ended.state IN ({State.SUCCEEDED}, {State.FAILED})
        OR jobs.state = {State.STOPPING} AND ended.state IN (
            {State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}))

-- name: delete_arrays
-- Remove what belongs to deleted jobs.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM arrays WHERE (tenant, job_id) IN (SELECT * FROM gone)

-- name: delete_array_items
-- Remove what belongs to deleted jobs.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM array_items WHERE (tenant, job_id) IN (SELECT * FROM gone)
