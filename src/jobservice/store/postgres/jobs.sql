-- Jobs: what timers and users do to them outside of an attempt.

-- name: lock_jobs
-- Lock jobs, in an order that all callers share.
SELECT 1
FROM (SELECT * FROM rows(tenant text, job_id text)) AS wanted
JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
ORDER BY jobs.tenant, jobs.job_id
FOR UPDATE OF jobs

-- name: find_due
-- SCHEDULED jobs whose time has come, the earliest first, but for those that another is releasing.
SELECT tenant, job_id, revision, 0, priority, start_us, attempt_count
FROM jobs
WHERE state = {State.SCHEDULED} AND start_us <= $1
ORDER BY start_us
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: release_due  moves: SCHEDULED -> QUEUED
-- Queue jobs whose time has come; they wait since then.
UPDATE jobs
SET state = {State.QUEUED}, blocked_key = '', claim_key = due.claim_key, queued_us = due.queued_us,
    queue_until_us = due.now_us + queue_timeout_us,
    start_us = NULL, revision = revision + 1, updated_us = due.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, claim_key bigint, queued_us bigint, now_us bigint)
) AS due
WHERE jobs.tenant = due.tenant AND jobs.job_id = due.job_id
    AND jobs.state + 0 = {State.SCHEDULED}

-- name: find_asked
-- What a verb about jobs decides upon, each with the number of its row, locked in an order that all
-- callers share.
SELECT * FROM (
    SELECT wanted.n, state, revision, 0, edit_version, delete_requested, attempt_count, epoch,
        priority, queued_us, start_us, reason, dependent, has_children, keys, counted_us,
        deadline_us, schedule IS NOT NULL, array_size IS NOT NULL AND array_id IS NULL, array_id,
        array_told
    FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
    JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
    ORDER BY jobs.tenant, jobs.job_id
    FOR UPDATE OF jobs
) AS asked
ORDER BY n

-- name: cancel_waiting  moves: BLOCKED | SCHEDULED | HELD | QUEUED -> CANCELLED
-- End jobs that have no process.
UPDATE jobs
SET state = {State.CANCELLED}, blocked_key = '', reason = cancelled.reason, message = cancelled.message,
    revision = revision + 1, start_us = NULL,
    updated_us = cancelled.now_us, ended_us = cancelled.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, reason smallint, message text, now_us bigint)
) AS cancelled
WHERE jobs.tenant = cancelled.tenant AND jobs.job_id = cancelled.job_id
    AND jobs.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.HELD}, {State.QUEUED})

-- name: skip_waiting  moves: BLOCKED | SCHEDULED | HELD | QUEUED -> SKIPPED
-- End jobs that a newer one takes the place of.
UPDATE jobs
SET state = {State.SKIPPED}, blocked_key = '', reason = superseded.reason, message = superseded.message,
    revision = revision + 1, start_us = NULL,
    updated_us = superseded.now_us, ended_us = superseded.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, reason smallint, message text, now_us bigint)
) AS superseded
WHERE jobs.tenant = superseded.tenant AND jobs.job_id = superseded.job_id
    AND jobs.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.HELD}, {State.QUEUED})

-- name: stop_running  moves: RUNNING -> STOPPING
-- Ask for the end of jobs that may have a process.
UPDATE jobs
SET state = {State.STOPPING}, reason = stopping.reason, message = stopping.message,
    revision = revision + 1, updated_us = stopping.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, reason smallint, message text, now_us bigint)
) AS stopping
WHERE jobs.tenant = stopping.tenant AND jobs.job_id = stopping.job_id
    AND jobs.state = {State.RUNNING}

-- name: find_waiting_too_long
-- QUEUED jobs whose wait is over, the longest over first, but for those that another is about to change.
SELECT tenant, job_id, revision, 0, attempt_count, has_children, keys, schedule IS NOT NULL
FROM jobs
WHERE state + 0 = {State.QUEUED} AND queue_until_us <= $1
ORDER BY queue_until_us
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: find_overdue
-- Jobs whose time is over and that nobody stops yet, the longest over first, but for those that another is about to change.
SELECT tenant, job_id, state, revision, 0, attempt_count, epoch, has_children, keys,
    schedule IS NOT NULL, coalesce(deadline_us = expires_us, false)
FROM jobs
WHERE state < {State.STOPPING} AND expires_us <= $1
ORDER BY expires_us
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: fail_waiting  moves: BLOCKED | SCHEDULED | HELD | QUEUED -> FAILED
-- End jobs that waited too long.
UPDATE jobs
SET state = {State.FAILED}, blocked_key = '', reason = failed.reason, message = failed.message,
    revision = revision + 1, start_us = NULL,
    updated_us = failed.now_us, ended_us = failed.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, reason smallint, message text, now_us bigint)
) AS failed
WHERE jobs.tenant = failed.tenant AND jobs.job_id = failed.job_id
    AND jobs.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.HELD}, {State.QUEUED})

-- name: request_deletion
-- Remember that jobs are to be deleted once they are final.
UPDATE jobs
SET delete_requested = true
FROM (SELECT * FROM rows(tenant text, job_id text)) AS unwanted
WHERE jobs.tenant = unwanted.tenant AND jobs.job_id = unwanted.job_id

-- name: keep_submitted
-- Before the first edit: keep what was submitted.
UPDATE job_specs
SET submitted = (
    SELECT json_build_array(
        priority, timeout_us, stop_grace_us, retry, queue, name, labels::text, start_after_us,
        start_delay_us, queue_timeout_us, total_timeout_us, deadline_us, idle_timeout_us)::text
    FROM jobs
    WHERE jobs.tenant = job_specs.tenant AND jobs.job_id = job_specs.job_id)
FROM (SELECT * FROM rows(tenant text, job_id text)) AS edited
WHERE job_specs.tenant = edited.tenant AND job_specs.job_id = edited.job_id
    AND job_specs.submitted IS NULL

-- name: update_jobs
-- Put new values of what a user may edit.
UPDATE jobs
SET priority = edited.priority, timeout_us = edited.timeout_us,
    stop_grace_us = edited.stop_grace_us, retry = edited.retry, queue = edited.queue,
    name = edited.name, labels = edited.labels::jsonb, start_after_us = edited.start_after_us,
    start_delay_us = edited.start_delay_us, start_us = edited.start_us, claim_key = edited.claim_key,
    queue_timeout_us = edited.queue_timeout_us, total_timeout_us = edited.total_timeout_us,
    deadline_us = edited.deadline_us, idle_timeout_us = edited.idle_timeout_us,
    counted_us = edited.counted_us, expires_us = edited.expires_us,
    queue_until_us = CASE
        WHEN jobs.queue_timeout_us IS NOT DISTINCT FROM edited.queue_timeout_us THEN jobs.queue_until_us
        ELSE edited.now_us + edited.queue_timeout_us END,
    edit_version = jobs.edit_version + 1, revision = revision + 1, updated_us = edited.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, edit_version bigint, claim_key bigint,
        start_us bigint, counted_us bigint, expires_us bigint, now_us bigint, priority integer,
        timeout_us bigint, stop_grace_us bigint, retry text, queue text, name text, labels text,
        start_after_us bigint, start_delay_us bigint, queue_timeout_us bigint,
        total_timeout_us bigint, deadline_us bigint, idle_timeout_us bigint)
) AS edited
WHERE jobs.tenant = edited.tenant AND jobs.job_id = edited.job_id
    AND jobs.edit_version = edited.edit_version

-- name: retry_jobs  moves: SUCCEEDED | FAILED | CANCELLED | SKIPPED -> QUEUED
-- Queue final jobs again, with a fresh budget of attempts.
UPDATE jobs
SET state = {State.QUEUED}, blocked_key = '', reason = 0, message = '', failure_count = 0,
    lost_count = 0, dependent = CASE WHEN dependent = 0 THEN 0 ELSE 2 END,
    claim_key = revived.claim_key, queued_us = revived.now_us, start_us = NULL, ended_us = NULL,
    queue_until_us = revived.now_us + queue_timeout_us, counted_us = revived.now_us,
    expires_us = least(deadline_us, revived.now_us + total_timeout_us),
    revision = revision + 1, updated_us = revived.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, claim_key bigint, now_us bigint)
) AS revived
WHERE jobs.tenant = revived.tenant AND jobs.job_id = revived.job_id
    AND jobs.state IN (
        {State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}, {State.SKIPPED})
    AND NOT jobs.delete_requested

-- name: hold_jobs  moves: BLOCKED | SCHEDULED | QUEUED -> HELD
-- Keep jobs from starting.
UPDATE jobs
SET state = {State.HELD}, blocked_key = '', reason = held.reason, message = held.message,
    revision = revision + 1, updated_us = held.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, reason smallint, message text, now_us bigint)
) AS held
WHERE jobs.tenant = held.tenant AND jobs.job_id = held.job_id
    AND jobs.state IN ({State.BLOCKED}, {State.SCHEDULED}, {State.QUEUED})

-- name: release_jobs  moves: HELD -> BLOCKED | SCHEDULED | QUEUED
-- Let jobs go on waiting.
UPDATE jobs
SET state = released.state, blocked_key = '', reason = 0, message = '',
    dependent = released.dependent, claim_key = released.claim_key,
    queued_us = released.queued_us, start_us = released.start_us,
    queue_until_us = released.now_us + queue_timeout_us,
    revision = revision + 1, updated_us = released.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, state smallint, dependent smallint,
        claim_key bigint, queued_us bigint, start_us bigint, now_us bigint)
) AS released
WHERE jobs.tenant = released.tenant AND jobs.job_id = released.job_id
    AND (jobs.state = {State.HELD} AND released.state IN (
        {State.BLOCKED}, {State.SCHEDULED}, {State.QUEUED}))

-- name: insert_tombstones
-- What is left of deleted jobs.
INSERT INTO tombstones (position, tenant, job_id, revision, state, attempt, deleted_us)
SELECT coalesce(position, next_position()), tenant, job_id, revision, state, attempt, deleted_us
FROM rows(
    position bigint, tenant text, job_id text, revision bigint, state smallint, attempt integer,
    deleted_us bigint)

-- name: delete_jobs
-- Remove final jobs whose deletion was asked for.
DELETE FROM jobs
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE jobs.tenant = gone.tenant AND jobs.job_id = gone.job_id
    AND jobs.delete_requested::integer = 1
    AND jobs.state IN ({State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}, {State.SKIPPED})

-- name: delete_specs
-- Remove what belongs to deleted jobs.
DELETE FROM job_specs
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE job_specs.tenant = gone.tenant AND job_specs.job_id = gone.job_id

-- name: delete_attempts
-- Remove what belongs to deleted jobs, and note where another server than the one that deletes them has files.
WITH ended AS (
    DELETE FROM attempts
    USING (SELECT * FROM rows(tenant text, job_id text, server text)) AS gone
    WHERE attempts.tenant = gone.tenant AND attempts.job_id = gone.job_id
    RETURNING attempts.worker_id, attempts.job_id, attempts.attempt, gone.server)
INSERT INTO left_files (worker_id, job_id, attempt)
SELECT worker_id, job_id, attempt FROM ended
WHERE worker_id <> server
    AND (SELECT embedded FROM workers WHERE workers.worker_id = ended.worker_id)

-- name: delete_events
-- Remove the events of jobs.
DELETE FROM events
USING (SELECT * FROM rows(tenant text, job_id text, last_position bigint)) AS gone
WHERE events.tenant = gone.tenant AND events.job_id = gone.job_id

-- name: delete_progress
-- Remove what belongs to deleted jobs.
DELETE FROM progress
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE progress.tenant = gone.tenant AND progress.job_id = gone.job_id

-- name: forget_requests
-- Drop old request ids.
DELETE FROM requests WHERE (tenant, request_id) IN (
    SELECT tenant, request_id FROM requests WHERE created_us < $1 ORDER BY created_us LIMIT $2
    FOR UPDATE SKIP LOCKED)

-- name: find_forgettable
-- The positions of old tombstones, the oldest first.
SELECT position FROM tombstones WHERE deleted_us < $1 ORDER BY deleted_us LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: forget_tombstones
-- Drop tombstones.
DELETE FROM tombstones WHERE position IN (SELECT * FROM rows(position bigint))

-- name: raise_forgotten
-- Whoever has not come beyond this position has missed something.
UPDATE feed SET forgotten_position = greatest(forgotten_position, $1)
