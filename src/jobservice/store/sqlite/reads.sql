-- Reads: they run on connections that cannot write.

-- fragment: array_columns
jobs.array_size, jobs.array_id, jobs.array_index, jobs.array_item,
    CASE WHEN jobs.array_size IS NOT NULL AND jobs.array_id IS NULL THEN (
        SELECT json_array(max_parallel, max_failures, made, succeeded, failed, dropped)
        FROM arrays WHERE arrays.tenant = jobs.tenant AND arrays.job_id = jobs.job_id) END

-- fragment: job_columns
jobs.tenant, jobs.job_id AS job_id, jobs.state, jobs.revision, jobs.attempt_count,
    jobs.failure_count, jobs.lost_count, jobs.delete_requested, jobs.edit_version,
    jobs.created_us AS created_us, jobs.updated_us, jobs.start_us, jobs.started_us,
    jobs.ended_us AS ended_us, jobs.exit_code, jobs.signal, jobs.reason, jobs.message,
    job_specs.cluster, job_specs.output_limit_bytes, job_specs.work_dir, job_specs.argv,
    progress.percent, progress.step, progress.estimated_us, progress.reported_us,
    jobs.schedule, jobs.schedule_us,
    jobs.fairness_key, jobs.fairness_weight, jobs.job_type, jobs.placement, jobs.keys, jobs.blocked_key,
    job_specs.unique_key,
    {{array_columns}},
    jobs.priority, jobs.timeout_us, jobs.stop_grace_us, jobs.retry, jobs.queue, jobs.name,
    jobs.labels, jobs.start_after_us, jobs.start_delay_us,
    jobs.queue_timeout_us, jobs.total_timeout_us, jobs.deadline_us, jobs.idle_timeout_us

-- fragment: full_columns
job_specs.env, job_specs.stdin

-- fragment: job_tables
jobs
    CROSS JOIN job_specs ON job_specs.tenant = jobs.tenant
        AND job_specs.job_id = coalesce(jobs.array_id, jobs.job_id)
    LEFT JOIN progress ON progress.tenant = jobs.tenant AND progress.job_id = jobs.job_id
        AND progress.attempt = jobs.attempt_count

-- fragment: attempt_columns
attempt, state, worker_id, claimed_us, reason, message, started_us, ended_us, exit_code, signal,
    stdout_bytes, stderr_bytes, dropped_bytes, cpu_us, max_rss_bytes

-- fragment: dependency_column
CASE WHEN jobs.dependent > 0 THEN (
    SELECT json_array(rule, needed, on_unmet, cause_id, json((
        SELECT json_group_array(json_array(parent_id, condition, delay_us, verdict))
        FROM (
            SELECT * FROM dependencies
            WHERE dependencies.tenant = dependents.tenant
                AND dependencies.job_id = dependents.job_id
            ORDER BY number))))
    FROM dependents
    WHERE dependents.tenant = jobs.tenant AND dependents.job_id = jobs.job_id) END

-- fragment: live_columns
jobs.worker_id, jobs.claimed_us, jobs.attempt_started_us

-- name: find_job
-- One job in full with its attempts, of one instant: the live one, and those that ended.
SELECT {{job_columns}}, {{full_columns}}, {{live_columns}}, {{dependency_column}}, (
    SELECT json_group_array(json_array({{attempt_columns}}))
    FROM (
        SELECT * FROM attempts
        WHERE attempts.tenant = jobs.tenant AND attempts.job_id = jobs.job_id
        ORDER BY attempt))
FROM {{job_tables}}
WHERE jobs.tenant = ? AND jobs.job_id = ?

-- name: find_jobs
-- Jobs in full without their attempts.
WITH wanted (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
SELECT {{job_columns}}, {{full_columns}}, {{dependency_column}}
FROM wanted CROSS JOIN {{job_tables}}
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: find_jobs_basic
-- As `find_jobs`, without variables and input.
WITH wanted (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
SELECT {{job_columns}}
FROM wanted CROSS JOIN {{job_tables}}
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id

-- name: find_submitted
-- What was submitted: the command, and the editable fields before the first edit.
WITH wanted (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
SELECT jobs.tenant, jobs.job_id, argv, work_dir, env, stdin, cluster, output_limit_bytes,
    coalesce(submitted, json_array(
        priority, timeout_us, stop_grace_us, retry, queue, name, labels, start_after_us,
        start_delay_us, queue_timeout_us, total_timeout_us, deadline_us,
        idle_timeout_us)),
    keys, fairness_key, fairness_weight, job_type, placement, unique_key, {{array_columns}},
    {{dependency_column}}
FROM wanted CROSS JOIN jobs CROSS JOIN job_specs
WHERE jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
    AND job_specs.tenant = wanted.tenant AND job_specs.job_id = wanted.job_id

-- name: list_basic
-- Jobs out of the ones that `lists.py` walks over, in the order of the walk.
SELECT {{job_columns}}
FROM walked CROSS JOIN {{job_tables}}
WHERE jobs.tenant = :tenant AND jobs.job_id = walked.job_id

-- name: list_full
-- As `list_basic`, with variables and input.
SELECT {{job_columns}}, {{full_columns}}
FROM walked CROSS JOIN {{job_tables}}
WHERE jobs.tenant = :tenant AND jobs.job_id = walked.job_id

-- name: list_ids
-- Jobs out of the ones that `lists.py` walks over, by their instants and ids.
SELECT walked.instant_us, walked.job_id
FROM walked CROSS JOIN jobs
WHERE jobs.tenant = :tenant AND jobs.job_id = walked.job_id

-- name: walk_active
-- Jobs that are not final.
SELECT created_us AS instant_us, job_id FROM jobs
WHERE tenant = :tenant AND ended_us IS NULL

-- name: walk_closed
-- Jobs that are final.
SELECT created_us AS instant_us, job_id FROM jobs
WHERE tenant = :tenant AND ended_us IS NOT NULL

-- name: walk_live
-- Jobs that have a lease: few, so they may be sorted.
SELECT created_us AS instant_us, job_id FROM jobs INDEXED BY jobs_leased
WHERE tenant = :tenant AND lease_until_us IS NOT NULL

-- name: walk_open_arrays
-- Arrays that have no lease, and are RUNNING or STOPPING all the same.
SELECT created_us AS instant_us, job_id FROM jobs
WHERE tenant = :tenant AND array_size IS NOT NULL AND array_id IS NULL
    AND (state = {State.RUNNING} OR state = {State.STOPPING})

-- name: walk_indices
-- The indices of one array.
SELECT created_us AS instant_us, job_id FROM jobs
WHERE tenant = :tenant AND array_id = :array_id

-- name: walk_ended
-- Jobs of one final state; its number is put behind.
SELECT ended_us AS instant_us, job_id FROM jobs
WHERE tenant = :tenant AND ended_us IS NOT NULL AND state =

-- name: list_live
-- The attempts that a worker holds a lease on.
SELECT tenant, job_id, attempt_count, epoch, worker_id, state, attempt_started_us, lease_until_us
FROM jobs INDEXED BY jobs_leased
WHERE lease_until_us IS NOT NULL AND worker_id = ?
ORDER BY tenant, job_id

-- name: queue_position
-- How many jobs come before a queued one: of its lane, or, where it is parked, of those that wait for the
-- same key.
SELECT CASE WHEN this.blocked_key = '' THEN (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs AS earlier INDEXED BY jobs_ready
        WHERE earlier.state = {State.QUEUED} AND earlier.blocked_key = ''
            AND earlier.tenant = this.tenant AND earlier.queue = this.queue
            AND earlier.fairness_key = this.fairness_key
            AND earlier.placement = this.placement
            AND (earlier.claim_key, earlier.rank, earlier.job_id)
                < (this.claim_key, this.rank, this.job_id)
        LIMIT ?1))
    ELSE (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs AS earlier INDEXED BY jobs_parked
        WHERE earlier.state = {State.QUEUED} AND earlier.blocked_key <> ''
            AND earlier.tenant = this.tenant AND earlier.blocked_key = this.blocked_key
            AND earlier.queue = this.queue
            AND (earlier.claim_key, earlier.rank, earlier.job_id)
                < (this.claim_key, this.rank, this.job_id)
        LIMIT ?1))
    END
FROM jobs AS this
WHERE this.tenant = ?2 AND this.job_id = ?3 AND this.state = {State.QUEUED}

-- name: next_due
-- The earliest start of a SCHEDULED job, or instant at which a rate allows a start.
SELECT min(due_us) FROM (
    SELECT min(start_us) AS due_us FROM jobs WHERE state = {State.SCHEDULED}
    UNION ALL
    SELECT min(wake_us) FROM limits WHERE wake_us IS NOT NULL)

-- name: next_resume
-- The earliest end of a pause behind an instant; there are never many queues with rules.
SELECT min(pause_until_us) FROM queues WHERE pause_until_us > ?

-- name: next_time_out
-- When the time of a job is over next.
SELECT min(at_us) FROM (
    SELECT min(queue_until_us) AS at_us FROM jobs
    WHERE state = {State.QUEUED} AND queue_until_us IS NOT NULL
    UNION ALL
    SELECT min(expires_us) FROM jobs
    WHERE state < {State.STOPPING} AND expires_us IS NOT NULL) AS next

-- name: next_lease_end
-- The earliest end of a lease.
SELECT min(lease_until_us) FROM jobs WHERE lease_until_us IS NOT NULL

-- fragment: array_may_go
CASE WHEN array_id IS NOT NULL THEN array_told = state ELSE (
        SELECT 1 FROM jobs AS indices
        WHERE indices.tenant = jobs.tenant AND indices.array_id = jobs.job_id LIMIT 1) IS NULL END

-- name: list_deletable
-- Final jobs whose deletion was asked for: an index once its array has counted it, an array once it has no
-- index any more.
SELECT tenant, job_id, attempt_count FROM jobs
WHERE delete_requested = 1
    AND state IN ({State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}, {State.SKIPPED})
    AND (array_size IS NULL OR {{array_may_go}})
    AND (tenant, job_id) > (?, ?)
ORDER BY tenant, job_id
LIMIT ?

-- name: head_position
-- The newest position there ever was. What is removed is always followed by something newer that
-- stays, or is known as forgotten.
SELECT max(
    (SELECT coalesce(max(position), 0) FROM events),
    (SELECT coalesce(max(position), 0) FROM progress),
    (SELECT coalesce(max(position), 0) FROM tombstones),
    (SELECT forgotten_position FROM feed))

-- name: forgotten_position
-- Changes up to here may be missing.
SELECT forgotten_position FROM feed

-- name: list_changes
-- What was told behind a position: three runs in order of position, merged.
SELECT position, tenant, job_id, revision, kind, state, previous_state, at_us, attempt, reason,
    message, exit_code, signal, start_us, NULL AS percent, NULL AS step, NULL AS estimated_us
FROM events WHERE position > :after
UNION ALL
SELECT position, tenant, job_id, revision, {EventKind.PROGRESS}, state, state, reported_us, attempt,
    0, '', NULL, NULL, NULL, percent, step, estimated_us
FROM progress WHERE position > :after
UNION ALL
SELECT position, tenant, job_id, revision, {EventKind.DELETED}, state, state, deleted_us, attempt,
    0, '', NULL, NULL, NULL, NULL, NULL, NULL
FROM tombstones WHERE position > :after
ORDER BY position
LIMIT :limit
