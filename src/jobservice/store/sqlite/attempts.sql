-- Attempts: claimed, started, prolonged, ended.

-- name: find_claimable
-- The first jobs of the queue with all that is needed to run them. A walk along `jobs_queued`: the
-- order of the index is the order of the queue, so nothing is sorted and nothing else is read.
SELECT json_group_array(json_array(
    tenant, job_id, attempt_count, epoch, revision, timeout_us, stop_grace_us,
    output_limit_bytes, argv, work_dir, env, hex(stdin)))
FROM (
    SELECT
        jobs.tenant, jobs.job_id, attempt_count, epoch, revision, timeout_us, stop_grace_us,
        output_limit_bytes, argv, work_dir, env, stdin
    FROM jobs CROSS JOIN job_specs
    WHERE jobs.state = {State.QUEUED}
        AND job_specs.tenant = jobs.tenant AND job_specs.job_id = jobs.job_id
    ORDER BY jobs.claim_key, jobs.job_id
    LIMIT ?
)

-- name: claim_jobs  moves: QUEUED -> RUNNING
-- Give jobs a new attempt under a new lease.
WITH claimed (tenant, job_id, now_us) AS (VALUES /*each*/ (:tenant, :job_id, :now_us) /*end*/)
UPDATE jobs
SET state = {State.RUNNING}, attempt_count = attempt_count + 1, epoch = epoch + 1,
    revision = revision + 1, updated_us = claimed.now_us, reason = 0, message = ''
FROM claimed
WHERE jobs.tenant = claimed.tenant AND jobs.job_id = claimed.job_id
    AND jobs.state = {State.QUEUED}

-- name: insert_attempts
-- Keep the attempts and the leases of claimed jobs.
INSERT INTO attempts (
    tenant, job_id, attempt, epoch, worker_id, lease_until_us, claimed_us, state
)
VALUES /*each*/ (
    :tenant, :job_id, :attempt, :epoch, :worker_id, :lease_until_us, :claimed_us,
    {AttemptState.STARTING}) /*end*/

-- name: find_live
-- The jobs behind fences that are not stale, each with the number of its row.
WITH fences (n, tenant, job_id, attempt, epoch) AS (
    VALUES /*each*/ (:n, :tenant, :job_id, :attempt, :epoch) /*end*/)
SELECT json_group_array(json_array(
    fences.n, jobs.state, jobs.revision, jobs.failure_count, jobs.lost_count,
    jobs.delete_requested, jobs.retry))
FROM fences CROSS JOIN jobs
WHERE jobs.tenant = fences.tenant AND jobs.job_id = fences.job_id
    AND jobs.attempt_count = fences.attempt AND jobs.epoch = fences.epoch
    AND jobs.state IN ({State.RUNNING}, {State.STOPPING})

-- name: find_live_attempts
-- As `find_live`, with where the attempt is.
WITH fences (n, tenant, job_id, attempt, epoch) AS (
    VALUES /*each*/ (:n, :tenant, :job_id, :attempt, :epoch) /*end*/)
SELECT json_group_array(json_array(
    fences.n, jobs.state, jobs.revision, attempts.state))
FROM fences CROSS JOIN jobs CROSS JOIN attempts
WHERE jobs.tenant = fences.tenant AND jobs.job_id = fences.job_id
    AND jobs.attempt_count = fences.attempt AND jobs.epoch = fences.epoch
    AND jobs.state IN ({State.RUNNING}, {State.STOPPING})
    AND attempts.tenant = fences.tenant AND attempts.job_id = fences.job_id
    AND attempts.attempt = fences.attempt AND attempts.epoch = fences.epoch
    AND attempts.lease_until_us IS NOT NULL

-- name: start_attempts
-- Processes exist.
WITH started (tenant, job_id, attempt, epoch, started_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :attempt, :epoch, :started_us) /*end*/)
UPDATE attempts
SET state = {AttemptState.RUNNING}, started_us = started.started_us
FROM started
WHERE attempts.tenant = started.tenant AND attempts.job_id = started.job_id
    AND attempts.attempt = started.attempt AND attempts.epoch = started.epoch
    AND attempts.state = {AttemptState.STARTING}

-- name: note_start
-- The job's share of a start: its next event, and its first process.
WITH started (tenant, job_id, started_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :started_us) /*end*/)
UPDATE jobs
SET revision = revision + 1, updated_us = started.started_us,
    started_us = coalesce(jobs.started_us, started.started_us)
FROM started
WHERE jobs.tenant = started.tenant AND jobs.job_id = started.job_id

-- name: finish_attempts
-- Processes are gone: the lease is over, and how it went is kept.
WITH ended (
    tenant, job_id, attempt, epoch, state, reason, message, started_us, ended_us, exit_code,
    signal, cpu_us, max_rss_bytes, stdout_bytes, stderr_bytes, dropped_bytes
) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :attempt, :epoch, :state, :reason, :message, :started_us, :ended_us,
        :exit_code, :signal, :cpu_us, :max_rss_bytes, :stdout_bytes, :stderr_bytes,
        :dropped_bytes) /*end*/)
UPDATE attempts
SET state = ended.state, reason = ended.reason, message = ended.message,
    started_us = coalesce(attempts.started_us, ended.started_us), ended_us = ended.ended_us,
    exit_code = ended.exit_code, signal = ended.signal, cpu_us = ended.cpu_us,
    max_rss_bytes = ended.max_rss_bytes, stdout_bytes = ended.stdout_bytes,
    stderr_bytes = ended.stderr_bytes, dropped_bytes = ended.dropped_bytes,
    lease_until_us = NULL
FROM ended
WHERE attempts.tenant = ended.tenant AND attempts.job_id = ended.job_id
    AND attempts.attempt = ended.attempt AND attempts.epoch = ended.epoch
    AND attempts.lease_until_us IS NOT NULL

-- name: settle_jobs  moves: RUNNING -> SUCCEEDED | FAILED | SCHEDULED | QUEUED
--   moves: STOPPING -> CANCELLED | SUCCEEDED | FAILED | SCHEDULED | QUEUED
-- The job's share of an end: where it goes is the engine's decision. One that is lost goes back to
-- its old place in the queue.
WITH settled (
    tenant, job_id, state, reason, message, failures, losses, now_us, start_us, started_us,
    ended_us, exit_code, signal
) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :state, :reason, :message, :failures, :losses, :now_us, :start_us,
        :started_us, :ended_us, :exit_code, :signal) /*end*/)
UPDATE jobs
SET state = settled.state, reason = settled.reason, message = settled.message,
    revision = revision + 1, failure_count = failure_count + settled.failures,
    lost_count = lost_count + settled.losses, updated_us = settled.now_us,
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

-- name: unclaim_jobs  moves: RUNNING -> QUEUED
-- Put jobs back to their old place in the queue; the number of the attempt is used again.
WITH unclaimed (tenant, job_id, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :now_us) /*end*/)
UPDATE jobs
SET state = {State.QUEUED}, attempt_count = attempt_count - 1, revision = revision + 1,
    updated_us = unclaimed.now_us
FROM unclaimed
WHERE jobs.tenant = unclaimed.tenant AND jobs.job_id = unclaimed.job_id
    AND jobs.state = {State.RUNNING}

-- name: delete_unclaimed
-- An attempt that never had a process leaves no trace.
WITH unclaimed (tenant, job_id, attempt, epoch) AS (
    VALUES /*each*/ (:tenant, :job_id, :attempt, :epoch) /*end*/)
DELETE FROM attempts
WHERE (tenant, job_id, attempt, epoch) IN (SELECT * FROM unclaimed)
    AND state = {AttemptState.STARTING}

-- name: extend_leases
-- Prolong leases.
WITH extended (tenant, job_id, attempt, epoch, lease_until_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :attempt, :epoch, :lease_until_us) /*end*/)
UPDATE attempts
SET lease_until_us = extended.lease_until_us
FROM extended
WHERE attempts.tenant = extended.tenant AND attempts.job_id = extended.job_id
    AND attempts.attempt = extended.attempt AND attempts.epoch = extended.epoch
    AND attempts.lease_until_us IS NOT NULL

-- name: find_expired
-- The fences of attempts whose lease is over, the oldest first.
SELECT json_group_array(json_array(tenant, job_id, attempt, epoch))
FROM (
    SELECT tenant, job_id, attempt, epoch FROM attempts
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
