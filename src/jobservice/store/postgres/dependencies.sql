-- Dependencies: what the ends and retries of jobs mean for those that wait for them.

-- name: find_parents
-- What a dependency on jobs is judged by, each with the number of its row, locked in an order that all
-- callers share.
SELECT * FROM (
    SELECT wanted.n, state, ended_us, reason, has_children
    FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
    JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
    ORDER BY jobs.tenant, jobs.job_id
    FOR UPDATE OF jobs
) AS parents
ORDER BY n

-- name: find_buried
-- How deleted jobs ended, each with the number of its row.
SELECT wanted.n, tombstones.state, tombstones.deleted_us
FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
JOIN tombstones ON tombstones.tenant = wanted.tenant AND tombstones.job_id = wanted.job_id

-- name: mark_parents
-- Remember that others depend on jobs.
UPDATE jobs
SET has_children = true
FROM (SELECT * FROM rows(tenant text, job_id text)) AS parents
WHERE jobs.tenant = parents.tenant AND jobs.job_id = parents.job_id

-- name: insert_dependents
-- Keep by what rule jobs wait.
INSERT INTO dependents (
    tenant, job_id, rule, needed, on_unmet, total, met, unmet, is_delayed, cause_id
)
SELECT * FROM rows(
    tenant text, job_id text, rule smallint, needed integer, on_unmet smallint, total integer,
    met integer, unmet integer, is_delayed boolean, cause_id text)

-- name: insert_dependencies
-- Keep for which jobs others wait.
INSERT INTO dependencies (
    tenant, job_id, number, parent_id, condition, delay_us, verdict, ready_us
)
SELECT * FROM rows(
    tenant text, job_id text, number integer, parent_id text, condition smallint, delay_us bigint,
    verdict smallint, ready_us bigint)

-- name: find_edges
-- The dependencies on jobs, each with the number of its row; those on one job in the order of the jobs
-- that wait. When there are too many, some are left out at the end.
SELECT parents.n, edges.job_id, edges.number, edges.condition, edges.delay_us, edges.verdict,
    edges.ready_us
FROM (SELECT * FROM rows(n integer, tenant text, parent_id text, from_id text)) AS parents
CROSS JOIN LATERAL (
    SELECT job_id, number, condition, delay_us, verdict, ready_us
    FROM dependencies
    WHERE dependencies.tenant = parents.tenant AND dependencies.parent_id = parents.parent_id
        AND (dependencies.parent_id, dependencies.job_id) >= (parents.parent_id, parents.from_id)
    ORDER BY dependencies.parent_id, job_id, number
    LIMIT 1000
) AS edges
LIMIT 1000

-- name: find_children
-- Jobs that depend on others, each with the number of its row, but for those that another is changing
-- just now.
SELECT wanted.n, state, revision, 0, attempt_count, priority,
    coalesce(start_us, start_after_us, created_us + start_delay_us), reason, dependent,
    has_children, delete_requested,
    coalesce(start_after_us, created_us + start_delay_us)
FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
FOR UPDATE OF jobs SKIP LOCKED

-- name: find_dependents
-- By what jobs that depend on others are judged, each with the number of its row. It is written under
-- the lock of the job, so it is read once that is held.
SELECT wanted.n, rule, needed, on_unmet, total, met, unmet, is_delayed, cause_id
FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
JOIN dependents ON dependents.tenant = wanted.tenant AND dependents.job_id = wanted.job_id

-- name: settle_edges
-- Put what became of dependencies.
UPDATE dependencies
SET verdict = settled.verdict, ready_us = settled.ready_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, number integer, verdict smallint, ready_us bigint)
) AS settled
WHERE dependencies.tenant = settled.tenant AND dependencies.job_id = settled.job_id
    AND dependencies.number = settled.number

-- name: count_verdicts
-- Put how many dependencies of jobs are met and unmet.
UPDATE dependents
SET met = counted.met, unmet = counted.unmet, cause_id = counted.cause_id
FROM (
    SELECT * FROM rows(tenant text, job_id text, met integer, unmet integer, cause_id text)
) AS counted
WHERE dependents.tenant = counted.tenant AND dependents.job_id = counted.job_id

-- name: find_ready
-- From when on the decided dependencies of jobs let them run, each with the number of its row.
SELECT wanted.n, verdict, ready_us
FROM (SELECT * FROM rows(n integer, tenant text, job_id text)) AS wanted
JOIN dependencies
    ON dependencies.tenant = wanted.tenant AND dependencies.job_id = wanted.job_id
WHERE ready_us IS NOT NULL

-- name: settle_blocked  moves: BLOCKED -> QUEUED | SCHEDULED | SKIPPED | FAILED | HELD
-- Move jobs on whose dependencies are decided.
UPDATE jobs
SET state = settled.state, reason = settled.reason, message = settled.message,
    dependent = settled.dependent, claim_key = settled.claim_key, queued_us = settled.queued_us,
    start_us = settled.start_us, ended_us = settled.ended_us,
    queue_until_us = settled.now_us + queue_timeout_us,
    revision = revision + 1, updated_us = settled.now_us
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint, state smallint, reason smallint, message text,
        dependent smallint, claim_key bigint, queued_us bigint, start_us bigint, ended_us bigint,
        now_us bigint)
) AS settled
WHERE jobs.tenant = settled.tenant AND jobs.job_id = settled.job_id
    AND (jobs.state = {State.BLOCKED} AND settled.state IN (
        {State.QUEUED}, {State.SCHEDULED}, {State.SKIPPED}, {State.FAILED}, {State.HELD}))

-- name: advance_starts
-- Put earlier starts of SCHEDULED jobs.
UPDATE jobs
SET start_us = advanced.start_us, revision = revision + 1, updated_us = advanced.now_us
FROM (
    SELECT * FROM rows(tenant text, job_id text, position bigint, start_us bigint, now_us bigint)
) AS advanced
WHERE jobs.tenant = advanced.tenant AND jobs.job_id = advanced.job_id
    AND jobs.state + 0 = {State.SCHEDULED}

-- name: reopen_jobs  moves: SKIPPED | HELD -> BLOCKED
-- Have jobs wait for others again.
UPDATE jobs
SET state = {State.BLOCKED}, reason = 0, message = '', ended_us = NULL,
    start_us = coalesce(start_us, start_after_us, created_us + start_delay_us),
    counted_us = CASE WHEN ended_us IS NULL THEN counted_us ELSE reopened.now_us END,
    expires_us = CASE WHEN ended_us IS NULL THEN expires_us ELSE least(deadline_us, reopened.now_us + total_timeout_us) END,
    revision = revision + 1, updated_us = reopened.now_us
FROM (
    SELECT * FROM rows(tenant text, job_id text, position bigint, now_us bigint)
) AS reopened
WHERE jobs.tenant = reopened.tenant AND jobs.job_id = reopened.job_id
    AND jobs.state IN ({State.SKIPPED}, {State.HELD})

-- name: mark_unsettled
-- Remember from which job on the others are to be told later.
INSERT INTO unsettled (tenant, parent_id, from_id)
SELECT * FROM rows(tenant text, parent_id text, from_id text)
ON CONFLICT (tenant, parent_id) DO UPDATE SET from_id = excluded.from_id

-- name: find_unsettled
-- Jobs of which others are to be told, as they are now, but for those that another is changing just now.
-- They are looked up one by one: a join could be planned as a walk over all jobs.
SELECT parents.*
FROM unsettled CROSS JOIN LATERAL (
    SELECT jobs.tenant, jobs.job_id, state, ended_us, reason FROM jobs
    WHERE jobs.tenant = unsettled.tenant AND jobs.job_id = unsettled.parent_id
    FOR UPDATE SKIP LOCKED) AS parents
LIMIT $1

-- name: find_marks
-- From which job on the others are to be told of jobs, each with the number of its row. It is written
-- under the lock of the job, so it is read once that is held.
SELECT wanted.n, from_id
FROM (SELECT * FROM rows(n integer, tenant text, parent_id text)) AS wanted
JOIN unsettled ON unsettled.tenant = wanted.tenant AND unsettled.parent_id = wanted.parent_id

-- name: drop_unsettled
-- All have been told.
DELETE FROM unsettled
USING (SELECT * FROM rows(tenant text, parent_id text)) AS told
WHERE unsettled.tenant = told.tenant AND unsettled.parent_id = told.parent_id

-- name: delete_dependents
-- Remove what belongs to deleted jobs.
DELETE FROM dependents
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE dependents.tenant = gone.tenant AND dependents.job_id = gone.job_id

-- name: delete_dependencies
-- Remove what belongs to deleted jobs; what others have of them stays.
DELETE FROM dependencies
USING (SELECT * FROM rows(tenant text, job_id text)) AS gone
WHERE dependencies.tenant = gone.tenant AND dependencies.job_id = gone.job_id
