-- Attempts: started, prolonged, ended. How they are claimed is in `claim.sql`.

-- name: find_live
-- The jobs behind fences that are not stale, each with the number of its row. The newest attempt and
-- lease of a job are the live ones while it is RUNNING or STOPPING.
WITH fences (n, tenant, job_id, attempt, epoch) AS (
    VALUES /*each*/ (:n, :tenant, :job_id, :attempt, :epoch) /*end*/)
SELECT json_group_array(json_array(
    fences.n, state, revision, last_position, worker_id, claimed_us, attempt_started_us,
    failure_count, lost_count, delete_requested, has_children, retry, keys, reason, message,
    schedule IS NOT NULL, array_id IS NOT NULL))
FROM fences CROSS JOIN jobs
WHERE jobs.tenant = fences.tenant AND jobs.job_id = fences.job_id
    AND jobs.attempt_count = fences.attempt AND jobs.epoch = fences.epoch
    AND jobs.state IN ({State.RUNNING}, {State.STOPPING})

-- name: start_attempts
-- Processes exist.
WITH started (tenant, job_id, position, started_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :started_us) /*end*/)
UPDATE jobs
SET attempt_started_us = started.started_us,
    started_us = coalesce(jobs.started_us, started.started_us),
    revision = revision + 1, last_position = started.position, updated_us = started.started_us
FROM started
WHERE jobs.tenant = started.tenant AND jobs.job_id = started.job_id
    AND jobs.attempt_started_us IS NULL

-- name: finish_attempts  moves: RUNNING -> SUCCEEDED | FAILED | SCHEDULED | QUEUED
--   moves: STOPPING -> CANCELLED | SUCCEEDED | FAILED | SCHEDULED | QUEUED
-- Processes are gone: the lease is over, and the job goes where the engine decided. One that was lost
-- goes back to its old place in the queue.
WITH settled (
    tenant, job_id, position, state, reason, message, failures, losses, now_us, start_us,
    started_us, ended_us, exit_code, signal
) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :position, :state, :reason, :message, :failures, :losses, :now_us,
        :start_us, :started_us, :ended_us, :exit_code, :signal) /*end*/)
UPDATE jobs
SET state = settled.state, blocked_key = '', reason = settled.reason,
    message = settled.message,
    lease_until_us = NULL, worker_id = NULL, claimed_us = NULL, attempt_started_us = NULL,
    revision = revision + 1, last_position = settled.position, updated_us = settled.now_us,
    failure_count = failure_count + settled.failures, lost_count = lost_count + settled.losses,
    start_us = settled.start_us, started_us = coalesce(jobs.started_us, settled.started_us),
    ended_us = settled.ended_us, exit_code = settled.exit_code, signal = settled.signal,
    queue_until_us = settled.now_us + queue_timeout_us
FROM settled
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
VALUES /*each*/ (
    :tenant, :job_id, :attempt, :state, :worker_id, :claimed_us, :started_us, :ended_us,
    :exit_code, :signal, :reason, :message, :cpu_us, :max_rss_bytes, :stdout_bytes,
    :stderr_bytes, :dropped_bytes) /*end*/

-- name: unclaim_attempts  moves: RUNNING -> QUEUED
-- Put jobs back to their old place in the queue; the number of the attempt is used again.
WITH unclaimed (tenant, job_id, position, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :now_us) /*end*/)
UPDATE jobs
SET state = {State.QUEUED}, blocked_key = '', attempt_count = attempt_count - 1,
    lease_until_us = NULL, worker_id = NULL, claimed_us = NULL,
    revision = revision + 1, last_position = unclaimed.position, updated_us = unclaimed.now_us
FROM unclaimed
WHERE jobs.tenant = unclaimed.tenant AND jobs.job_id = unclaimed.job_id
    AND jobs.state = {State.RUNNING} AND jobs.attempt_started_us IS NULL

-- name: extend_leases
-- Prolong leases. One that ends later already is left, for this call may come from a server that stood
-- still on its way here; but not for more than a minute: then a clock was set back.
WITH extended (tenant, job_id, lease_until_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :lease_until_us) /*end*/)
UPDATE jobs
SET lease_until_us = CASE
        WHEN jobs.lease_until_us - extended.lease_until_us BETWEEN 0 AND 60000000
        THEN jobs.lease_until_us ELSE extended.lease_until_us END
FROM extended
WHERE jobs.tenant = extended.tenant AND jobs.job_id = extended.job_id
    AND jobs.lease_until_us IS NOT NULL

-- name: find_expired
-- The fences of attempts whose lease is over, the oldest first, but for those of workers in a server that
-- would go on all the same: such a worker does not mind silence, nobody has drained it since, and the
-- lease is of no backup.
SELECT json_group_array(json_array(tenant, job_id, attempt_count, epoch))
FROM (
    SELECT tenant, job_id, attempt_count, epoch FROM jobs
    WHERE lease_until_us <= ?1 AND (lease_until_us = 0 OR NOT EXISTS (
        SELECT 1 FROM workers
        WHERE workers.worker_id = jobs.worker_id AND embedded AND NOT minds_silence
            AND (drain_us IS NULL OR drain_us < jobs.lease_until_us)))
    ORDER BY lease_until_us
    LIMIT ?2
)

-- name: record_progress
-- Keep the newest progress of each job.
INSERT INTO progress (
    tenant, job_id, position, revision, state, attempt, percent, step, estimated_us, reported_us
)
VALUES /*each*/ (
    :tenant, :job_id, :position, :revision, :state, :attempt, :percent, :step, :estimated_us,
    :reported_us) /*end*/
ON CONFLICT (tenant, job_id) DO UPDATE
SET position = excluded.position, revision = excluded.revision, state = excluded.state,
    attempt = excluded.attempt, percent = excluded.percent, step = excluded.step,
    estimated_us = excluded.estimated_us, reported_us = excluded.reported_us
WHERE excluded.attempt > progress.attempt OR excluded.reported_us >= progress.reported_us
