-- Queues and limits: the rules that people make.

-- fragment: queue_columns
tenant, name, description, max_running, max_depth, max_age_us, on_full, pause_mode, pause_us,
    pause_until_us, pause_reason, created_us, updated_us, edit_version

-- fragment: limit_columns
tenant, kind, name, max_running, rate_starts, rate_period_us, rate_burst, weight, updated_us

-- name: find_queue
-- The rules of one queue.
SELECT {{queue_columns}} FROM queues WHERE tenant = $1 AND name = $2

-- name: save_queues
-- Put the rules of queues.
INSERT INTO queues (
    {{queue_columns}}
)
SELECT * FROM rows(
    tenant text, name text, description text, max_running bigint, max_depth bigint,
    max_age_us bigint, on_full smallint, pause_mode smallint, pause_us bigint,
    pause_until_us bigint, pause_reason text, created_us bigint, updated_us bigint,
    edit_version bigint)
ON CONFLICT (tenant, name) DO UPDATE
SET description = excluded.description, max_running = excluded.max_running,
    max_depth = excluded.max_depth, max_age_us = excluded.max_age_us, on_full = excluded.on_full,
    pause_mode = excluded.pause_mode, pause_us = excluded.pause_us,
    pause_until_us = excluded.pause_until_us, pause_reason = excluded.pause_reason,
    updated_us = excluded.updated_us, edit_version = excluded.edit_version

-- name: delete_queues
-- Forget the rules of queues.
DELETE FROM queues
USING (SELECT * FROM rows(tenant text, name text)) AS gone
WHERE queues.tenant = gone.tenant AND queues.name = gone.name

-- name: find_first_waiting
-- The job that has waited longest in a queue: a row, or none.
SELECT queued_us, job_id FROM jobs
WHERE state - 0 = {State.QUEUED} AND tenant = $1 AND queue = $2
ORDER BY queued_us
LIMIT 1

-- name: save_limits
-- Put limits; what a rate has used so far stays, until there is no rate.
INSERT INTO limits (
    {{limit_columns}}
)
SELECT * FROM rows(
    tenant text, kind smallint, name text, max_running bigint, rate_starts bigint,
    rate_period_us bigint, rate_burst bigint, weight integer, updated_us bigint)
ON CONFLICT (tenant, kind, name) DO UPDATE
SET max_running = excluded.max_running, rate_starts = excluded.rate_starts,
    rate_period_us = excluded.rate_period_us, rate_burst = excluded.rate_burst,
    weight = excluded.weight, updated_us = excluded.updated_us,
    used_until_us = CASE WHEN excluded.rate_starts IS NULL THEN 0 ELSE limits.used_until_us END,
    wake_us = CASE WHEN excluded.rate_starts IS NULL THEN NULL ELSE limits.wake_us END

-- name: delete_limits
-- Forget limits.
DELETE FROM limits
USING (SELECT * FROM rows(tenant text, kind smallint, name text)) AS gone
WHERE limits.tenant = gone.tenant AND limits.kind = gone.kind AND limits.name = gone.name

-- name: list_queues
-- The queues of a tenant by name, behind one.
SELECT {{queue_columns}} FROM queues WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3

-- name: find_limit
-- One limit.
SELECT {{limit_columns}} FROM limits WHERE tenant = $1 AND kind = $2 AND name = $3

-- name: list_limits
-- The limits of a tenant and of the service, behind one.
SELECT {{limit_columns}} FROM limits
WHERE tenant IN ('', $1) AND (tenant, kind, name) > ($2, $3, $4)
ORDER BY tenant, kind, name
LIMIT $5

-- name: queue_counts
-- How many jobs of a queue wait, since when the first does, how many run.
SELECT
    (SELECT count(*) FROM (
        SELECT 1 FROM jobs
        WHERE state - 0 = {State.QUEUED} AND tenant = $1 AND queue = $2 LIMIT $3) AS counted),
    (SELECT min(queued_us) FROM jobs
        WHERE state - 0 = {State.QUEUED} AND tenant = $1 AND queue = $2),
    (SELECT count(*)
        FROM (SELECT tenant, queue FROM jobs WHERE lease_until_us IS NOT NULL OFFSET 0) AS live
        WHERE live.tenant = $1 AND live.queue = $2)

-- name: queue_flow
-- What was told lately of jobs of a queue: how many came into it, how many were started.
SELECT
    count(*) FILTER (WHERE recent.kind = {EventKind.CREATED}),
    count(*) FILTER (WHERE recent.kind = {EventKind.CLAIMED})
FROM (
    SELECT tenant, job_id, kind, at_us FROM events
    WHERE position > (SELECT max(position) FROM events) - $3
    ORDER BY position DESC
    OFFSET 0
) AS recent
    CROSS JOIN LATERAL (
        SELECT queue FROM jobs
        WHERE jobs.tenant = recent.tenant AND jobs.job_id = recent.job_id OFFSET 0) AS jobs
WHERE recent.tenant = $1 AND recent.at_us > $4 AND jobs.queue = $2

-- name: list_held
-- What the live leases of a tenant hold, lease by lease.
SELECT job_id, queue, keys
FROM (SELECT tenant, job_id, queue, keys FROM jobs WHERE lease_until_us IS NOT NULL OFFSET 0) AS live
WHERE tenant = $1
LIMIT $2

-- name: count_parked
-- How many jobs are parked for keys.
SELECT n, (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs
        WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
            AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key
        LIMIT 10000) AS counted)
FROM (SELECT * FROM rows(n integer, tenant text, blocked_key text)) AS wanted

-- name: find_places
-- Where jobs stand, each with the number of its row.
SELECT * FROM (
    SELECT wanted.n, state, queue, fairness_key, placement, blocked_key, claim_key, rank, delete_requested
    FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
    JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
    ORDER BY jobs.tenant, jobs.job_id
    FOR UPDATE OF jobs
) AS places
ORDER BY n

-- name: find_peers
-- The jobs that share a claim key: of a lane, and of those of its queue that are parked for
-- one key.
(SELECT job_id, rank FROM jobs
WHERE state = {State.QUEUED} AND blocked_key = ''
    AND tenant = $1 AND queue = $2 AND fairness_key = $3 AND placement = $7 AND claim_key = $4
ORDER BY queue, fairness_key, placement, claim_key, rank, job_id
LIMIT $6)
UNION ALL
(SELECT job_id, rank FROM jobs
WHERE state = {State.QUEUED} AND blocked_key <> ''
    AND tenant = $1 AND blocked_key = $5 AND queue = $2 AND claim_key = $4
ORDER BY blocked_key, queue, claim_key, rank, job_id
LIMIT $6)

-- name: rank_jobs
-- Make room between jobs that share a claim key.
UPDATE jobs
SET rank = ranked.rank
FROM (SELECT * FROM rows(tenant text, job_id text, rank bigint)) AS ranked
WHERE jobs.tenant = ranked.tenant AND jobs.job_id = ranked.job_id
    AND jobs.state + 0 = {State.QUEUED}

-- name: move_jobs
-- Put queued jobs at other places.
UPDATE jobs
SET claim_key = moved.claim_key, rank = moved.rank, revision = revision + 1,
    updated_us = moved.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, claim_key bigint, rank bigint, now_us bigint)
) AS moved
WHERE jobs.tenant = moved.tenant AND jobs.job_id = moved.job_id
    AND jobs.state + 0 = {State.QUEUED}

-- name: find_bounded
-- The rows whose queues may refuse jobs.
SELECT wanted.n
FROM (SELECT * FROM rows(n integer, tenant text, name text)) AS wanted
    CROSS JOIN LATERAL (
        SELECT * FROM queues WHERE tenant = wanted.tenant AND name = wanted.name OFFSET 0
    ) AS queues
WHERE queues.pause_mode = {PauseMode.DRAIN} OR max_depth IS NOT NULL OR max_age_us IS NOT NULL

-- name: find_bounds
-- What queues take, and how full they are, each with the number of its row.
SELECT wanted.n, pause_mode, pause_until_us, max_depth, max_age_us, on_full,
    (SELECT count(*) FROM (
        SELECT 1 FROM jobs
        WHERE jobs.state - 0 = {State.QUEUED} AND jobs.tenant = wanted.tenant
            AND jobs.queue = wanted.name
        LIMIT 100001) AS counted),
    (SELECT min(queued_us) FROM jobs
        WHERE jobs.state - 0 = {State.QUEUED} AND jobs.tenant = wanted.tenant
            AND jobs.queue = wanted.name)
FROM (SELECT * FROM rows(n integer, tenant text, name text)) AS wanted
    CROSS JOIN LATERAL (
        SELECT * FROM queues WHERE tenant = wanted.tenant AND name = wanted.name OFFSET 0
    ) AS queues

-- name: find_oldest_waiting
-- The jobs of a queue that have waited longest.
SELECT job_id FROM jobs
WHERE state - 0 = {State.QUEUED} AND tenant = $1 AND queue = $2
ORDER BY queued_us
LIMIT $3
FOR UPDATE SKIP LOCKED

-- name: find_newest_waiting
-- The jobs of a queue that have waited shortest.
SELECT job_id FROM jobs
WHERE state - 0 = {State.QUEUED} AND tenant = $1 AND queue = $2
ORDER BY queued_us DESC
LIMIT $3
FOR UPDATE SKIP LOCKED

-- name: find_same_command
-- The newest waiting job of a queue with the same command that is no array: a row, or none.
SELECT waiting.job_id
FROM (
    SELECT tenant, job_id, queued_us FROM jobs
    WHERE state - 0 = {State.QUEUED} AND tenant = $1 AND queue = $2 AND array_size IS NULL
    ORDER BY queued_us DESC
    LIMIT 100000
) AS waiting
    CROSS JOIN LATERAL (
        SELECT 1 FROM job_specs
        WHERE job_specs.tenant = waiting.tenant AND job_specs.job_id = waiting.job_id
            AND argv = $3 AND env = $4 AND work_dir = $5
            AND stdin IS NOT DISTINCT FROM $6::bytea
        OFFSET 0) AS same
ORDER BY queued_us DESC
LIMIT 1
