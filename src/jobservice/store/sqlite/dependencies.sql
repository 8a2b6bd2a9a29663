-- Dependencies: what the ends and retries of jobs mean for those that wait for them.

-- name: find_parents
-- What a dependency on jobs is judged by, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(wanted.n, state, ended_us, reason, has_children))
FROM wanted CROSS JOIN jobs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: find_buried
-- How deleted jobs ended, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(wanted.n, tombstones.state, tombstones.deleted_us))
FROM wanted CROSS JOIN tombstones
WHERE tombstones.tenant = wanted.tenant AND tombstones.job_id = wanted.job_id

-- name: mark_parents
-- Remember that others depend on jobs.
WITH parents (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
UPDATE jobs
SET has_children = 1
FROM parents
WHERE jobs.tenant = parents.tenant AND jobs.job_id = parents.job_id

-- name: insert_dependents
-- Keep by what rule jobs wait.
INSERT INTO dependents (
    tenant, job_id, rule, needed, on_unmet, total, met, unmet, is_delayed, cause_id
)
VALUES /*each*/ (
    :tenant, :job_id, :rule, :needed, :on_unmet, :total, :met, :unmet, :is_delayed, :cause_id) /*end*/

-- name: insert_dependencies
-- Keep for which jobs others wait.
INSERT INTO dependencies (
    tenant, job_id, number, parent_id, condition, delay_us, verdict, ready_us
)
VALUES /*each*/ (
    :tenant, :job_id, :number, :parent_id, :condition, :delay_us, :verdict, :ready_us) /*end*/

-- name: find_edges
-- The dependencies on jobs, each with the number of its row; those on one job in the order of the jobs
-- that wait. When there are too many, some are left out at the end.
WITH parents (n, tenant, parent_id, from_id) AS (
    VALUES /*each*/ (:n, :tenant, :parent_id, :from_id) /*end*/)
SELECT json_group_array(json_array(n, job_id, number, condition, delay_us, verdict, ready_us))
FROM (
    SELECT parents.n, job_id, number, condition, delay_us, verdict, ready_us
    FROM parents CROSS JOIN dependencies INDEXED BY dependencies_parent
    WHERE dependencies.tenant = parents.tenant AND dependencies.parent_id = parents.parent_id
        AND dependencies.job_id >= parents.from_id
    LIMIT 1000
)

-- name: find_children
-- Jobs that depend on others, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, state, revision, last_position, attempt_count, priority,
    coalesce(start_us, start_after_us, created_us + start_delay_us), reason, dependent,
    has_children, delete_requested,
    coalesce(start_after_us, created_us + start_delay_us)))
FROM wanted CROSS JOIN jobs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: find_dependents
-- By what jobs that depend on others are judged, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, rule, needed, on_unmet, total, met, unmet, is_delayed, cause_id))
FROM wanted CROSS JOIN dependents
WHERE dependents.tenant = wanted.tenant AND dependents.job_id = wanted.job_id

-- name: settle_edges
-- Put what became of dependencies.
WITH settled (tenant, job_id, number, verdict, ready_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :number, :verdict, :ready_us) /*end*/)
UPDATE dependencies
SET verdict = settled.verdict, ready_us = settled.ready_us
FROM settled
WHERE dependencies.tenant = settled.tenant AND dependencies.job_id = settled.job_id
    AND dependencies.number = settled.number

-- name: count_verdicts
-- Put how many dependencies of jobs are met and unmet.
WITH counted (tenant, job_id, met, unmet, cause_id) AS (
    VALUES /*each*/ (:tenant, :job_id, :met, :unmet, :cause_id) /*end*/)
UPDATE dependents
SET met = counted.met, unmet = counted.unmet, cause_id = counted.cause_id
FROM counted
WHERE dependents.tenant = counted.tenant AND dependents.job_id = counted.job_id

-- name: find_ready
-- From when on the decided dependencies of jobs let them run, each with the number of its row.
WITH wanted (n, tenant, job_id) AS (VALUES /*each*/ (:n, :tenant, :job_id) /*end*/)
SELECT json_group_array(json_array(wanted.n, verdict, ready_us))
FROM wanted CROSS JOIN dependencies
WHERE dependencies.tenant = wanted.tenant AND dependencies.job_id = wanted.job_id
    AND ready_us IS NOT NULL

-- name: settle_blocked  moves: BLOCKED -> QUEUED | SCHEDULED | SKIPPED | FAILED | HELD
-- Move jobs on whose dependencies are decided.
WITH settled (
    tenant, job_id, position, state, reason, message, dependent, claim_key, queued_us, start_us,
    ended_us, now_us
) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :position, :state, :reason, :message, :dependent, :claim_key, :queued_us,
        :start_us, :ended_us, :now_us) /*end*/)
UPDATE jobs
SET state = settled.state, reason = settled.reason, message = settled.message,
    dependent = settled.dependent, claim_key = settled.claim_key, queued_us = settled.queued_us,
    start_us = settled.start_us, ended_us = settled.ended_us,
    queue_until_us = settled.now_us + queue_timeout_us,
    revision = revision + 1, last_position = settled.position, updated_us = settled.now_us
FROM settled
WHERE jobs.tenant = settled.tenant AND jobs.job_id = settled.job_id
    AND (jobs.state = {State.BLOCKED} AND settled.state IN (
        {State.QUEUED}, {State.SCHEDULED}, {State.SKIPPED}, {State.FAILED}, {State.HELD}))

-- name: advance_starts
-- Put earlier starts of SCHEDULED jobs.
WITH advanced (tenant, job_id, position, start_us, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :start_us, :now_us) /*end*/)
UPDATE jobs
SET start_us = advanced.start_us,
    revision = revision + 1, last_position = advanced.position, updated_us = advanced.now_us
FROM advanced
WHERE jobs.tenant = advanced.tenant AND jobs.job_id = advanced.job_id
    AND jobs.state = {State.SCHEDULED}

-- name: reopen_jobs  moves: SKIPPED | HELD -> BLOCKED
-- Have jobs wait for others again.
WITH reopened (tenant, job_id, position, now_us) AS (
    VALUES /*each*/ (:tenant, :job_id, :position, :now_us) /*end*/)
UPDATE jobs
SET state = {State.BLOCKED}, reason = 0, message = '', ended_us = NULL,
    start_us = coalesce(start_us, start_after_us, created_us + start_delay_us),
    counted_us = CASE WHEN ended_us IS NULL THEN counted_us ELSE reopened.now_us END,
    expires_us = CASE WHEN ended_us IS NULL THEN expires_us ELSE min(
        coalesce(deadline_us, reopened.now_us + total_timeout_us), coalesce(reopened.now_us + total_timeout_us, deadline_us)) END,
    revision = revision + 1, last_position = reopened.position, updated_us = reopened.now_us
FROM reopened
WHERE jobs.tenant = reopened.tenant AND jobs.job_id = reopened.job_id
    AND jobs.state IN ({State.SKIPPED}, {State.HELD})

-- name: mark_unsettled
-- Remember from which job on the others are to be told later.
INSERT INTO unsettled (tenant, parent_id, from_id)
VALUES /*each*/ (:tenant, :parent_id, :from_id) /*end*/
ON CONFLICT (tenant, parent_id) DO UPDATE SET from_id = excluded.from_id

-- name: find_unsettled
-- Jobs of which others are to be told, as they are now.
SELECT json_group_array(json_array(tenant, job_id, state, ended_us, reason))
FROM (
    SELECT jobs.tenant, jobs.job_id, state, ended_us, reason
    FROM unsettled CROSS JOIN jobs
    WHERE jobs.tenant = unsettled.tenant AND jobs.job_id = unsettled.parent_id
    LIMIT ?
)

-- name: find_marks
-- From which job on the others are to be told of jobs, each with the number of its row.
WITH wanted (n, tenant, parent_id) AS (VALUES /*each*/ (:n, :tenant, :parent_id) /*end*/)
SELECT json_group_array(json_array(wanted.n, from_id))
FROM wanted CROSS JOIN unsettled
WHERE unsettled.tenant = wanted.tenant AND unsettled.parent_id = wanted.parent_id

-- name: drop_unsettled
-- All have been told.
WITH told (tenant, parent_id) AS (VALUES /*each*/ (:tenant, :parent_id) /*end*/)
DELETE FROM unsettled WHERE (tenant, parent_id) IN (SELECT * FROM told)

-- name: delete_dependents
-- Remove what belongs to deleted jobs.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM dependents WHERE (tenant, job_id) IN (SELECT * FROM gone)

-- name: delete_dependencies
-- Remove what belongs to deleted jobs; what others have of them stays.
WITH gone (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
DELETE FROM dependencies WHERE (tenant, job_id) IN (SELECT * FROM gone)
