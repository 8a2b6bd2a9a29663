-- Attempts: claimed, started, prolonged, ended.

-- name: find_claimable
-- The first jobs of the queue with all that is needed to run them. A walk along `jobs_queued`: the
-- order of the index is the order of the queue, so nothing is sorted and nothing else is read.
SELECT json_group_array(json_array(
    tenant, job_id, attempt_count, epoch, revision, last_position, timeout_us, stop_grace_us,
    output_limit_bytes, argv, work_dir, env, hex(stdin)))
FROM (
    SELECT
        jobs.tenant, jobs.job_id, attempt_count, epoch, revision, last_position, timeout_us,
        stop_grace_us, output_limit_bytes, argv, work_dir, env, stdin
    FROM jobs CROSS JOIN job_specs
    WHERE jobs.state = {State.QUEUED}
        AND job_specs.tenant = jobs.tenant AND job_specs.job_id = jobs.job_id
    ORDER BY jobs.claim_key, jobs.job_id
    LIMIT ?
)

-- name: claim_jobs  moves: QUEUED -> RUNNING
-- Give jobs a new attempt under a new lease.
WITH claimed (tenant, job_id, position, worker_id, lease_until_us, now_us) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :position, :worker_id, :lease_until_us, :now_us) /*end*/)
UPDATE jobs
SET state = {State.RUNNING}, attempt_count = attempt_count + 1, epoch = epoch + 1,
    lease_until_us = claimed.lease_until_us, worker_id = claimed.worker_id,
    claimed_us = claimed.now_us, attempt_started_us = NULL,
    revision = revision + 1, last_position = claimed.position, updated_us = claimed.now_us,
    reason = 0, message = ''
FROM claimed
WHERE jobs.tenant = claimed.tenant AND jobs.job_id = claimed.job_id
    AND jobs.state = {State.QUEUED}

-- name: find_live
-- The jobs behind fences that are not stale, each with the number of its row. The newest attempt and
-- lease of a job are the live ones while it is RUNNING or STOPPING.
WITH fences (n, tenant, job_id, attempt, epoch) AS (
    VALUES /*each*/ (:n, :tenant, :job_id, :attempt, :epoch) /*end*/)
SELECT json_group_array(json_array(
    fences.n, state, revision, last_position, worker_id, claimed_us, attempt_started_us,
    failure_count, lost_count, delete_requested, retry))
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
SET state = settled.state, reason = settled.reason, message = settled.message,
    lease_until_us = NULL, worker_id = NULL, claimed_us = NULL, attempt_started_us = NULL,
    revision = revision + 1, last_position = settled.position, updated_us = settled.now_us,
    failure_count = failure_count + settled.failures, lost_count = lost_count + settled.losses,
    start_us = settled.start_us, started_us = coalesce(jobs.started_us, settled.started_us),
    ended_us = settled.ended_us, exit_code = settled.exit_code, signal = settled.signal
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
SET state = {State.QUEUED}, attempt_count = attempt_count - 1,
    lease_until_us = NULL, worker_id = NULL, claimed_us = NULL,
    revision = revision + 1, last_position = unclaimed.position, updated_us = unclaimed.now_us
FROM unclaimed
WHERE jobs.tenant = unclaimed.tenant AND jobs.job_id = unclaimed.job_id
    AND jobs.state = {State.RUNNING} AND jobs.attempt_started_us IS NULL

-- name: extend_leases
-- Prolong leases.
WITH extended (tenant, job_id, lease_until_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :lease_until_us) /*end*/)
UPDATE jobs
SET lease_until_us = extended.lease_until_us
FROM extended
WHERE jobs.tenant = extended.tenant AND jobs.job_id = extended.job_id
    AND jobs.lease_until_us IS NOT NULL

-- name: find_expired
-- The fences of attempts whose lease is over, the oldest first.
SELECT json_group_array(json_array(tenant, job_id, attempt_count, epoch))
FROM (
    SELECT tenant, job_id, attempt_count, epoch FROM jobs
    WHERE lease_until_us <= ?
    ORDER BY lease_until_us
    LIMIT ?
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
