-- Attempts: started, prolonged, ended. How they are claimed is in `claim.sql`.
--
-- `+ 0` in a guard is for the planner: a partial index of just those rows is no way to find one of them
-- by its key, whatever the statistics say of its size.

-- name: find_live
-- The jobs behind fences that are not stale, each with the number of its row, locked in an order that
-- all callers share. The newest attempt and lease of a job are the live ones while it is RUNNING or
-- STOPPING.
SELECT * FROM (
    SELECT fences.n, state, revision, 0, worker_id, claimed_us, attempt_started_us, failure_count,
        lost_count, delete_requested, has_children, retry, keys, reason, message,
        schedule IS NOT NULL, array_id IS NOT NULL
    FROM (
        SELECT * FROM rows(n integer, tenant text, job_id text, attempt integer, epoch bigint)
    ) AS fences
    JOIN jobs ON jobs.tenant = fences.tenant AND jobs.job_id = fences.job_id
        AND jobs.attempt_count = fences.attempt AND jobs.epoch = fences.epoch
        AND jobs.state IN ({State.RUNNING}, {State.STOPPING})
    ORDER BY jobs.tenant, jobs.job_id
    FOR UPDATE OF jobs
) AS live
ORDER BY n

-- name: start_attempts
-- Processes exist.
UPDATE jobs
SET attempt_started_us = started.started_us,
    started_us = coalesce(jobs.started_us, started.started_us),
    revision = revision + 1, updated_us = started.started_us
FROM (
    SELECT * FROM rows(tenant text, job_id text, position bigint; started_us bigint)
) AS started
WHERE jobs.tenant = started.tenant AND jobs.job_id = started.job_id
    AND jobs.attempt_started_us IS NULL

-- name: finish_attempts  moves: RUNNING -> SUCCEEDED | FAILED | SCHEDULED | QUEUED
--   moves: STOPPING -> CANCELLED | SUCCEEDED | FAILED | SCHEDULED | QUEUED
-- Processes are gone: the lease is over, and the job goes where the engine decided. One that was lost
-- goes back to its old place in the queue.
UPDATE jobs
SET state = settled.state, blocked_key = '', reason = settled.reason,
    message = settled.message,
    lease_until_us = NULL, worker_id = NULL, claimed_us = NULL, attempt_started_us = NULL,
    revision = revision + 1, updated_us = settled.now_us,
    failure_count = failure_count + settled.failures, lost_count = lost_count + settled.losses,
    start_us = settled.start_us, started_us = coalesce(jobs.started_us, settled.started_us),
    ended_us = settled.ended_us, exit_code = settled.exit_code, signal = settled.signal,
    queue_until_us = settled.now_us + queue_timeout_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint; state smallint, reason smallint, message text,
        failures integer, losses integer, now_us bigint, start_us bigint, started_us bigint,
        ended_us bigint, exit_code bigint, signal integer)
) AS settled
WHERE jobs.tenant = settled.tenant AND jobs.job_id = settled.job_id
    AND (
        jobs.state = {State.RUNNING} AND settled.state IN (
            {State.SUCCEEDED}, {State.FAILED}, {State.SCHEDULED}, {State.QUEUED})
        OR jobs.state = {State.STOPPING} AND settled.state IN (
            {State.CANCELLED}, {State.SUCCEEDED}, {State.FAILED}, {State.SCHEDULED},
            {State.QUEUED})
    )

-- name: insert_attempts
-- Keep how attempts went.
INSERT INTO attempts (
    tenant, job_id, attempt, state, worker_id, claimed_us, started_us, ended_us, exit_code, signal,
    reason, message, cpu_us, max_rss_bytes, stdout_bytes, stderr_bytes, dropped_bytes
)
SELECT * FROM rows(
    tenant text, job_id text, attempt integer; state smallint, worker_id text, claimed_us bigint,
    started_us bigint, ended_us bigint, exit_code bigint, signal integer, reason smallint,
    message text, cpu_us bigint, max_rss_bytes bigint, stdout_bytes bigint, stderr_bytes bigint,
    dropped_bytes bigint)

-- name: unclaim_attempts  moves: RUNNING -> QUEUED
-- Put jobs back to their old place in the queue; the number of the attempt is used again.
UPDATE jobs
SET state = {State.QUEUED}, blocked_key = '', attempt_count = attempt_count - 1,
    lease_until_us = NULL, worker_id = NULL, claimed_us = NULL,
    revision = revision + 1, updated_us = unclaimed.now_us
FROM (
    SELECT * FROM rows(tenant text, job_id text, position bigint, now_us bigint)
) AS unclaimed
WHERE jobs.tenant = unclaimed.tenant AND jobs.job_id = unclaimed.job_id
    AND jobs.state = {State.RUNNING} AND jobs.attempt_started_us IS NULL

-- name: extend_leases
-- Prolong leases. One that ends later already is left, for this call may come from a server that stood
-- still on its way here; but not for more than a minute: then a clock was set back.
UPDATE jobs
SET lease_until_us = CASE
        WHEN jobs.lease_until_us - extended.lease_until_us BETWEEN 0 AND 60000000
        THEN jobs.lease_until_us ELSE extended.lease_until_us END
FROM (SELECT * FROM rows(tenant text, job_id text, lease_until_us bigint)) AS extended
WHERE jobs.tenant = extended.tenant AND jobs.job_id = extended.job_id
    AND jobs.lease_until_us + 0 IS NOT NULL

-- name: find_expired
-- The fences of attempts whose lease is over, the oldest first, but for those that another is ending
-- just now, and for those of workers in a server that would go on all the same: such a worker does not mind
-- silence, nobody has drained it since, and the lease is of no backup.
SELECT tenant, job_id, attempt_count, epoch FROM jobs
WHERE lease_until_us <= $1 AND (lease_until_us = 0 OR NOT EXISTS (
    SELECT 1 FROM workers
    WHERE workers.worker_id = jobs.worker_id AND embedded AND NOT minds_silence
        AND (drain_us IS NULL OR drain_us < jobs.lease_until_us)))
ORDER BY lease_until_us
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: record_progress
-- Keep the newest progress of each job: of several in one call, the last.
INSERT INTO progress (
    tenant, job_id, position, revision, state, attempt, percent, step, estimated_us, reported_us
)
SELECT tenant, job_id, coalesce(position, next_position()), revision, state, attempt, percent, step, estimated_us,
    reported_us
FROM (
    SELECT DISTINCT ON (tenant, job_id) *
    FROM numbered_rows(
        tenant text, job_id text, position bigint, revision bigint, state smallint,
        attempt integer, percent double precision, step text, estimated_us bigint,
        reported_us bigint)
    ORDER BY tenant, job_id, attempt DESC, reported_us DESC, number DESC
) AS newest
ON CONFLICT (tenant, job_id) DO UPDATE
SET position = excluded.position, revision = excluded.revision, state = excluded.state,
    attempt = excluded.attempt, percent = excluded.percent, step = excluded.step,
    estimated_us = excluded.estimated_us, reported_us = excluded.reported_us
WHERE excluded.attempt > progress.attempt OR excluded.reported_us >= progress.reported_us
