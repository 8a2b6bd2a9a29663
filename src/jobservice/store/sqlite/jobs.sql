-- Jobs: what timers and users do to them outside of an attempt.

-- name: find_due
-- SCHEDULED jobs whose time has come, the earliest first.
SELECT json_group_array(json_array(
    tenant, job_id, revision, last_position, priority, start_us, attempt_count))
FROM (
    SELECT tenant, job_id, revision, last_position, priority, start_us, attempt_count
    FROM jobs
    WHERE state = {State.SCHEDULED} AND start_us <= ?
    ORDER BY start_us
    LIMIT ?
)

-- name: release_due  moves: SCHEDULED -> QUEUED
-- Queue jobs whose time has come; they wait since then.
WITH due (tenant, job_id, position, claim_key, queued_us, now_us) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :position, :claim_key, :queued_us, :now_us) /*end*/)
UPDATE jobs
SET state = {State.QUEUED}, blocked_key = '', claim_key = due.claim_key, queued_us = due.queued_us,
    queue_until_us = due.now_us + queue_timeout_us,
    start_us = NULL, revision = revision + 1, last_position = due.position,
    updated_us = due.now_us
FROM due
WHERE jobs.tenant = due.tenant AND jobs.job_id = due.job_id
    AND jobs.state = {State.SCHEDULED}

-- name: find_asked
-- What a verb about jobs decides upon, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, state, revision, last_position, edit_version, delete_requested, attempt_count,
    epoch, priority, queued_us, start_us, reason, dependent, has_children, keys, counted_us,
    deadline_us, schedule IS NOT NULL, array_size IS NOT NULL AND array_id IS NULL, array_id,
    array_told))
FROM wanted CROSS JOIN jobs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: cancel_waiting  moves: BLOCKED | SCHEDULED | HELD | QUEUED -> CANCELLED
-- End jobs that have no process.
WITH cancelled (tenant, job_id, position, reason, message, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :reason, :message, :now_us) /*end*/)
UPDATE jobs
SET state = {State.CANCELLED}, blocked_key = '', reason = cancelled.reason, message = cancelled.message,
    revision = revision + 1, last_position = cancelled.position, start_us = NULL,
    updated_us = cancelled.now_us, ended_us = cancelled.now_us
FROM cancelled
WHERE jobs.tenant = cancelled.tenant AND jobs.job_id = cancelled.job_id
    AND jobs.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.HELD}, {State.QUEUED})

-- name: skip_waiting  moves: BLOCKED | SCHEDULED | HELD | QUEUED -> SKIPPED
-- End jobs that a newer one takes the place of.
WITH superseded (tenant, job_id, position, reason, message, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :reason, :message, :now_us) /*end*/)
UPDATE jobs
SET state = {State.SKIPPED}, blocked_key = '', reason = superseded.reason, message = superseded.message,
    revision = revision + 1, last_position = superseded.position, start_us = NULL,
    updated_us = superseded.now_us, ended_us = superseded.now_us
FROM superseded
WHERE jobs.tenant = superseded.tenant AND jobs.job_id = superseded.job_id
    AND jobs.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.HELD}, {State.QUEUED})

-- name: stop_running  moves: RUNNING -> STOPPING
-- Ask for the end of jobs that may have a process.
WITH stopping (tenant, job_id, position, reason, message, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :reason, :message, :now_us) /*end*/)
UPDATE jobs
SET state = {State.STOPPING}, reason = stopping.reason, message = stopping.message,
    revision = revision + 1, last_position = stopping.position, updated_us = stopping.now_us
FROM stopping
WHERE jobs.tenant = stopping.tenant AND jobs.job_id = stopping.job_id
    AND jobs.state = {State.RUNNING}

-- name: find_waiting_too_long
-- QUEUED jobs whose wait is over, the longest over first.
SELECT json_group_array(json_array(
    tenant, job_id, revision, last_position, attempt_count, has_children, keys,
    schedule IS NOT NULL))
FROM (
    SELECT * FROM jobs
    WHERE state = {State.QUEUED} AND queue_until_us <= ?
    ORDER BY queue_until_us
    LIMIT ?
)

-- name: find_overdue
-- Jobs whose time is over and that nobody stops yet, the longest over first.
SELECT json_group_array(json_array(
    tenant, job_id, state, revision, last_position, attempt_count, epoch, has_children, keys,
    schedule IS NOT NULL, coalesce(deadline_us = expires_us, 0)))
FROM (
    SELECT * FROM jobs
    WHERE state < {State.STOPPING} AND expires_us <= ?
    ORDER BY expires_us
    LIMIT ?
)

-- name: fail_waiting  moves: BLOCKED | SCHEDULED | HELD | QUEUED -> FAILED
-- End jobs that waited too long.
WITH failed (tenant, job_id, position, reason, message, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :reason, :message, :now_us) /*end*/)
UPDATE jobs
SET state = {State.FAILED}, blocked_key = '', reason = failed.reason, message = failed.message,
    revision = revision + 1, last_position = failed.position, start_us = NULL,
    updated_us = failed.now_us, ended_us = failed.now_us
FROM failed
WHERE jobs.tenant = failed.tenant AND jobs.job_id = failed.job_id
    AND jobs.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.HELD}, {State.QUEUED})

-- name: request_deletion
-- Remember that jobs are to be deleted once they are final.
WITH unwanted (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
UPDATE jobs
SET delete_requested = 1
FROM unwanted
WHERE jobs.tenant = unwanted.tenant AND jobs.job_id = unwanted.job_id

-- name: keep_submitted
-- Before the first edit: keep what was submitted.
WITH edited (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
UPDATE job_specs
SET submitted = (
    SELECT json_array(
        priority, timeout_us, stop_grace_us, retry, queue, name, labels, start_after_us,
        start_delay_us, queue_timeout_us, total_timeout_us, deadline_us, idle_timeout_us)
    FROM jobs
    WHERE jobs.tenant = job_specs.tenant AND jobs.job_id = job_specs.job_id)
FROM edited
WHERE job_specs.tenant = edited.tenant AND job_specs.job_id = edited.job_id
    AND job_specs.submitted IS NULL

-- name: update_jobs
-- Put new values of what a user may edit.
WITH edited (
    tenant, job_id, position, edit_version, claim_key, start_us, counted_us, expires_us, now_us,
    priority, timeout_us, stop_grace_us, retry, queue, name, labels, start_after_us, start_delay_us,
    queue_timeout_us, total_timeout_us, deadline_us, idle_timeout_us
) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :position, :edit_version, :claim_key, :start_us, :counted_us,
        :expires_us, :now_us, :priority, :timeout_us, :stop_grace_us, :retry, :queue, :name,
        :labels, :start_after_us, :start_delay_us, :queue_timeout_us, :total_timeout_us,
        :deadline_us, :idle_timeout_us) /*end*/)
UPDATE jobs
SET priority = edited.priority, timeout_us = edited.timeout_us,
    stop_grace_us = edited.stop_grace_us, retry = edited.retry, queue = edited.queue,
    name = edited.name, labels = edited.labels, start_after_us = edited.start_after_us,
    start_delay_us = edited.start_delay_us, start_us = edited.start_us, claim_key = edited.claim_key,
    queue_timeout_us = edited.queue_timeout_us, total_timeout_us = edited.total_timeout_us,
    deadline_us = edited.deadline_us, idle_timeout_us = edited.idle_timeout_us,
    counted_us = edited.counted_us, expires_us = edited.expires_us,
    queue_until_us = CASE
        WHEN jobs.queue_timeout_us IS edited.queue_timeout_us THEN jobs.queue_until_us
        ELSE edited.now_us + edited.queue_timeout_us END,
    edit_version = jobs.edit_version + 1, revision = revision + 1,
    last_position = edited.position, updated_us = edited.now_us
FROM edited
WHERE jobs.tenant = edited.tenant AND jobs.job_id = edited.job_id
    AND jobs.edit_version = edited.edit_version

-- name: retry_jobs  moves: SUCCEEDED | FAILED | CANCELLED | SKIPPED -> QUEUED
-- Queue final jobs again, with a fresh budget of attempts.
WITH revived (tenant, job_id, position, claim_key, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :claim_key, :now_us) /*end*/)
UPDATE jobs
SET state = {State.QUEUED}, blocked_key = '', reason = 0, message = '', failure_count = 0,
    lost_count = 0, dependent = CASE WHEN dependent = 0 THEN 0 ELSE 2 END,
    claim_key = revived.claim_key, queued_us = revived.now_us, start_us = NULL, ended_us = NULL,
    queue_until_us = revived.now_us + queue_timeout_us, counted_us = revived.now_us,
    expires_us = min(
        coalesce(deadline_us, revived.now_us + total_timeout_us), coalesce(revived.now_us + total_timeout_us, deadline_us)),
    revision = revision + 1, last_position = revived.position, updated_us = revived.now_us
FROM revived
WHERE jobs.tenant = revived.tenant AND jobs.job_id = revived.job_id
    AND jobs.state IN (
        {State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}, {State.SKIPPED})
    AND jobs.delete_requested = 0

-- name: hold_jobs  moves: BLOCKED | SCHEDULED | QUEUED -> HELD
-- Keep jobs from starting.
WITH held (tenant, job_id, position, reason, message, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :reason, :message, :now_us) /*end*/)
UPDATE jobs
SET state = {State.HELD}, blocked_key = '', reason = held.reason, message = held.message,
    revision = revision + 1, last_position = held.position, updated_us = held.now_us
FROM held
WHERE jobs.tenant = held.tenant AND jobs.job_id = held.job_id
    AND jobs.state IN ({State.BLOCKED}, {State.SCHEDULED}, {State.QUEUED})

-- name: release_jobs  moves: HELD -> BLOCKED | SCHEDULED | QUEUED
-- Let jobs go on waiting.
WITH released (
    tenant, job_id, position, state, dependent, claim_key, queued_us, start_us, now_us
) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :position, :state, :dependent, :claim_key, :queued_us, :start_us,
        :now_us) /*end*/)
UPDATE jobs
SET state = released.state, blocked_key = '', reason = 0, message = '',
    dependent = released.dependent, claim_key = released.claim_key,
    queued_us = released.queued_us, start_us = released.start_us,
    queue_until_us = released.now_us + queue_timeout_us,
    revision = revision + 1, last_position = released.position, updated_us = released.now_us
FROM released
WHERE jobs.tenant = released.tenant AND jobs.job_id = released.job_id
    AND (jobs.state = {State.HELD} AND released.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.QUEUED}))

-- name: insert_tombstones
-- What is left of deleted jobs.
INSERT INTO tombstones (position, tenant, job_id, revision, state, attempt, deleted_us)
VALUES /*each*/ (
    :position, :tenant, :job_id, :revision, :state, :attempt, :deleted_us) /*end*/

-- name: delete_jobs
-- Remove final jobs whose deletion was asked for.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM jobs
WHERE (tenant, job_id) IN (SELECT * FROM gone)
    AND delete_requested = 1
    AND state IN ({State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}, {State.SKIPPED})

-- name: delete_specs
-- Remove what belongs to deleted jobs.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM job_specs WHERE (tenant, job_id) IN (SELECT * FROM gone)

-- name: delete_attempts
-- Remove what belongs to deleted jobs. The one server there is has removed the files.
WITH gone (tenant, job_id, server) AS (VALUES /*each*/ (:tenant, :job_id, :server) /*end*/)
DELETE FROM attempts WHERE (tenant, job_id) IN (SELECT tenant, job_id FROM gone)

-- name: delete_events
-- Remove the events of jobs, each chain from its newest back to its first.
WITH RECURSIVE
    gone (tenant, job_id, position) AS (
        VALUES /*each*/ (:tenant, :job_id, :last_position) /*end*/),
    chain (position) AS (
        SELECT position FROM gone
        UNION ALL
        SELECT events.previous_position FROM chain CROSS JOIN events
        WHERE events.position = chain.position AND events.previous_position IS NOT NULL)
DELETE FROM events WHERE position IN (SELECT position FROM chain)

-- name: delete_progress
-- Remove what belongs to deleted jobs.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM progress WHERE (tenant, job_id) IN (SELECT * FROM gone)

-- name: forget_requests
-- Drop old request ids.
DELETE FROM requests WHERE (tenant, request_id) IN (
    SELECT tenant, request_id FROM requests WHERE created_us < ? ORDER BY created_us LIMIT ?)

-- name: find_forgettable
-- The positions of old tombstones, the oldest first.
SELECT json_group_array(json_array(position))
FROM (SELECT position FROM tombstones WHERE deleted_us < ? ORDER BY deleted_us LIMIT ?)

-- name: forget_tombstones
-- Drop tombstones.
WITH forgotten (position) AS (VALUES /*each*/ (:position) /*end*/)
DELETE FROM tombstones WHERE position IN (SELECT position FROM forgotten)

-- name: raise_forgotten
-- Whoever has not come beyond this position has missed something.
UPDATE feed SET forgotten_position = max(forgotten_position, ?)
