-- Queues and limits: the rules that people make.

-- fragment: queue_columns
tenant, name, description, max_running, max_depth, max_age_us, on_full, pause_mode, pause_us,
    pause_until_us, pause_reason, created_us, updated_us, edit_version

-- fragment: limit_columns
tenant, kind, name, max_running, rate_starts, rate_period_us, rate_burst, weight, updated_us

-- name: find_queue
-- The rules of one queue.
SELECT json_group_array(json_array({{queue_columns}})) FROM queues WHERE tenant = ? AND name = ?

-- name: save_queues
-- Put the rules of queues.
INSERT INTO queues (
    {{queue_columns}}
)
VALUES /*each*/ (
    :tenant, :name, :description, :max_running, :max_depth, :max_age_us, :on_full, :pause_mode,
    :pause_us, :pause_until_us, :pause_reason, :created_us, :updated_us, :edit_version) /*end*/
ON CONFLICT (tenant, name) DO UPDATE
SET description = excluded.description, max_running = excluded.max_running,
    max_depth = excluded.max_depth, max_age_us = excluded.max_age_us, on_full = excluded.on_full,
    pause_mode = excluded.pause_mode, pause_us = excluded.pause_us,
    pause_until_us = excluded.pause_until_us, pause_reason = excluded.pause_reason,
    updated_us = excluded.updated_us, edit_version = excluded.edit_version

-- name: delete_queues
-- Forget the rules of queues.
WITH gone (tenant, name) AS (VALUES /*each*/ (:tenant, :name) /*end*/)
DELETE FROM queues WHERE (tenant, name) IN (SELECT * FROM gone)

-- name: find_first_waiting
-- The job that has waited longest in a queue: a row, or none.
SELECT json_group_array(json_array(queued_us, job_id))
FROM (
    SELECT queued_us, job_id FROM jobs INDEXED BY jobs_waiting
    WHERE state = {State.QUEUED} AND tenant = ? AND queue = ?
    ORDER BY queued_us
    LIMIT 1
)

-- name: save_limits
-- Put limits; what a rate has used so far stays, until there is no rate.
INSERT INTO limits (
    {{limit_columns}}
)
VALUES /*each*/ (
    :tenant, :kind, :name, :max_running, :rate_starts, :rate_period_us, :rate_burst, :weight,
    :updated_us) /*end*/
ON CONFLICT (tenant, kind, name) DO UPDATE
SET max_running = excluded.max_running, rate_starts = excluded.rate_starts,
    rate_period_us = excluded.rate_period_us, rate_burst = excluded.rate_burst,
    weight = excluded.weight, updated_us = excluded.updated_us,
    used_until_us = CASE WHEN excluded.rate_starts IS NULL THEN 0 ELSE limits.used_until_us END,
    wake_us = CASE WHEN excluded.rate_starts IS NULL THEN NULL ELSE limits.wake_us END

-- name: delete_limits
-- Forget limits.
WITH gone (tenant, kind, name) AS (VALUES /*each*/ (:tenant, :kind, :name) /*end*/)
DELETE FROM limits WHERE (tenant, kind, name) IN (SELECT * FROM gone)

-- name: list_queues
-- The queues of a tenant by name, behind one.
SELECT {{queue_columns}} FROM queues WHERE tenant = ? AND name > ? ORDER BY name LIMIT ?

-- name: find_limit
-- One limit.
SELECT {{limit_columns}} FROM limits WHERE tenant = ? AND kind = ? AND name = ?

-- name: list_limits
-- The limits of a tenant and of the service, behind one.
SELECT {{limit_columns}} FROM limits
WHERE tenant IN ('', ?) AND (tenant, kind, name) > (?, ?, ?)
ORDER BY tenant, kind, name
LIMIT ?

-- name: queue_counts
-- How many jobs of a queue wait, since when the first does, how many run.
SELECT
    (SELECT count(*) FROM (
        SELECT 1 FROM jobs INDEXED BY jobs_waiting
        WHERE state = {State.QUEUED} AND tenant = ?1 AND queue = ?2 LIMIT ?3)),
    (SELECT min(queued_us) FROM jobs INDEXED BY jobs_waiting
        WHERE state = {State.QUEUED} AND tenant = ?1 AND queue = ?2),
    (SELECT count(*) FROM jobs INDEXED BY jobs_leased
        WHERE lease_until_us IS NOT NULL AND tenant = ?1 AND queue = ?2)

-- name: queue_flow
-- What was told lately of jobs of a queue: how many came into it, how many were started.
SELECT
    coalesce(sum(recent.kind = {EventKind.CREATED}), 0),
    coalesce(sum(recent.kind = {EventKind.CLAIMED}), 0)
FROM (
    SELECT tenant, job_id, kind, at_us FROM events
    WHERE position > (SELECT max(position) FROM events) - ?3
    ORDER BY position DESC
) AS recent
    CROSS JOIN jobs
WHERE recent.tenant = ?1 AND recent.at_us > ?4
    AND jobs.tenant = recent.tenant AND jobs.job_id = recent.job_id AND jobs.queue = ?2

-- name: list_held
-- What the live leases of a tenant hold, lease by lease.
SELECT job_id, queue, keys FROM jobs INDEXED BY jobs_leased
WHERE lease_until_us IS NOT NULL AND tenant = ?1
LIMIT ?2

-- name: count_parked
-- How many jobs are parked for keys.
WITH wanted (n, tenant, blocked_key) AS (VALUES /*each*/ (:n, :tenant, :blocked_key) /*end*/)
SELECT n, (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs INDEXED BY jobs_parked
        WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
            AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key
        LIMIT 10000))
FROM wanted

-- name: find_places
-- Where jobs stand, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, state, queue, fairness_key, placement, blocked_key, claim_key, rank, delete_requested))
FROM wanted CROSS JOIN jobs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: find_peers
-- The jobs that share a claim key: of a lane, and of those of its queue that are parked for
-- one key.
SELECT json_group_array(json_array(job_id, rank))
FROM (
    SELECT job_id, rank FROM jobs INDEXED BY jobs_ready
    WHERE state = {State.QUEUED} AND blocked_key = ''
        AND tenant = ?1 AND queue = ?2 AND fairness_key = ?3 AND placement = ?7 AND claim_key = ?4
    UNION ALL
    SELECT job_id, rank FROM jobs INDEXED BY jobs_parked
    WHERE state = {State.QUEUED} AND blocked_key <> ''
        AND tenant = ?1 AND blocked_key = ?5 AND queue = ?2 AND claim_key = ?4
    LIMIT ?6
)

-- name: rank_jobs
-- Make room between jobs that share a claim key.
WITH ranked (tenant, job_id, rank) AS (VALUES /*each*/ (:tenant, :job_id, :rank) /*end*/)
UPDATE jobs
SET rank = ranked.rank
FROM ranked
WHERE jobs.tenant = ranked.tenant AND jobs.job_id = ranked.job_id AND jobs.state = {State.QUEUED}

-- name: move_jobs
-- Put queued jobs at other places.
WITH moved (tenant, job_id, position, claim_key, rank, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :claim_key, :rank, :now_us) /*end*/)
UPDATE jobs
SET claim_key = moved.claim_key, rank = moved.rank, revision = revision + 1,
    last_position = moved.position, updated_us = moved.now_us
FROM moved
WHERE jobs.tenant = moved.tenant AND jobs.job_id = moved.job_id AND jobs.state = {State.QUEUED}

-- name: find_bounded
-- The rows whose queues may refuse jobs.
WITH wanted (n, tenant, name) AS (VALUES /*each*/ (:n, :tenant, :name) /*end*/)
SELECT json_group_array(json_array(wanted.n))
FROM wanted CROSS JOIN queues
WHERE queues.tenant = wanted.tenant AND queues.name = wanted.name
    AND (queues.pause_mode = {PauseMode.DRAIN} OR max_depth IS NOT NULL OR max_age_us IS NOT NULL)

-- name: find_bounds
-- What queues take, and how full they are, each with the number of its row.
WITH wanted (n, tenant, name) AS (VALUES /*each*/ (:n, :tenant, :name) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, pause_mode, pause_until_us, max_depth, max_age_us, on_full,
    (SELECT count(*) FROM (
        SELECT 1 FROM jobs INDEXED BY jobs_waiting
        WHERE jobs.state = {State.QUEUED} AND jobs.tenant = wanted.tenant
            AND jobs.queue = wanted.name
        LIMIT 100001)),
    (SELECT min(queued_us) FROM jobs INDEXED BY jobs_waiting
        WHERE jobs.state = {State.QUEUED} AND jobs.tenant = wanted.tenant
            AND jobs.queue = wanted.name)))
FROM wanted CROSS JOIN queues
WHERE queues.tenant = wanted.tenant AND queues.name = wanted.name

-- name: find_oldest_waiting
-- The jobs of a queue that have waited longest.
SELECT json_group_array(json_array(job_id))
FROM (
    SELECT job_id FROM jobs INDEXED BY jobs_waiting
    WHERE state = {State.QUEUED} AND tenant = ?1 AND queue = ?2
    ORDER BY queued_us
    LIMIT ?3
)

-- name: find_newest_waiting
-- The jobs of a queue that have waited shortest.
SELECT json_group_array(json_array(job_id))
FROM (
    SELECT job_id FROM jobs INDEXED BY jobs_waiting
    WHERE state = {State.QUEUED} AND tenant = ?1 AND queue = ?2
    ORDER BY queued_us DESC
    LIMIT ?3
)

-- name: find_same_command
-- The newest waiting job of a queue with the same command that is no array: a row, or none.
SELECT json_group_array(json_array(job_id))
FROM (
    SELECT jobs.job_id FROM jobs INDEXED BY jobs_waiting CROSS JOIN job_specs
    WHERE jobs.state = {State.QUEUED} AND jobs.tenant = ?1 AND jobs.queue = ?2
        AND jobs.array_size IS NULL
        AND job_specs.tenant = jobs.tenant AND job_specs.job_id = jobs.job_id
        AND argv = ?3 AND env = ?4 AND work_dir = ?5 AND stdin IS ?6
    ORDER BY queued_us DESC
    LIMIT 1
)
