-- Reads, each of one instant.

-- fragment: array_columns
jobs.array_size, jobs.array_id, jobs.array_index, jobs.array_item,
    CASE WHEN jobs.array_size IS NOT NULL AND jobs.array_id IS NULL THEN (
        SELECT json_build_array(
            max_parallel, max_failures, made, succeeded, failed, dropped)::text
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
    jobs.labels::text, jobs.start_after_us, jobs.start_delay_us,
    jobs.queue_timeout_us, jobs.total_timeout_us, jobs.deadline_us, jobs.idle_timeout_us

-- fragment: full_columns
job_specs.env, job_specs.stdin

-- fragment: dependency_column
CASE WHEN jobs.dependent > 0 THEN (
    SELECT json_build_array(rule, needed, on_unmet, cause_id, (
        SELECT json_agg(
            json_build_array(parent_id, condition, delay_us, verdict) ORDER BY number)
        FROM dependencies
        WHERE dependencies.tenant = dependents.tenant
            AND dependencies.job_id = dependents.job_id))::text
    FROM dependents
    WHERE dependents.tenant = jobs.tenant AND dependents.job_id = jobs.job_id) END

-- fragment: job_tables
jobs
    CROSS JOIN LATERAL (
        SELECT * FROM job_specs
        WHERE tenant = jobs.tenant AND job_id = coalesce(jobs.array_id, jobs.job_id) OFFSET 0
    ) AS job_specs
    LEFT JOIN progress ON progress.tenant = jobs.tenant AND progress.job_id = jobs.job_id
        AND progress.attempt = jobs.attempt_count

-- fragment: attempt_columns
attempt, state, worker_id, claimed_us, reason, message, started_us, ended_us, exit_code, signal,
    stdout_bytes, stderr_bytes, dropped_bytes, cpu_us, max_rss_bytes

-- fragment: live_columns
jobs.worker_id, jobs.claimed_us, jobs.attempt_started_us

-- name: find_job
-- One job in full with its attempts, of one instant: the live one, and those that ended.
SELECT {{job_columns}}, {{full_columns}}, {{live_columns}}, {{dependency_column}}, (
    SELECT coalesce(json_agg(json_build_array({{attempt_columns}}) ORDER BY attempt)::text, '[]')
    FROM attempts
    WHERE attempts.tenant = jobs.tenant AND attempts.job_id = jobs.job_id)
FROM {{job_tables}}
WHERE jobs.tenant = $1 AND jobs.job_id = $2

-- name: find_jobs
-- Jobs in full without their attempts.
SELECT {{job_columns}}, {{full_columns}}, {{dependency_column}}
FROM (SELECT * FROM rows(tenant text, job_id text)) AS wanted
    JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
    JOIN job_specs ON job_specs.tenant = jobs.tenant
        AND job_specs.job_id = coalesce(jobs.array_id, jobs.job_id)
    LEFT JOIN progress ON progress.tenant = jobs.tenant AND progress.job_id = jobs.job_id
        AND progress.attempt = jobs.attempt_count

-- name: find_jobs_basic
-- As `find_jobs`, without variables and input.
SELECT {{job_columns}}
FROM (SELECT * FROM rows(tenant text, job_id text)) AS wanted
    JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
    JOIN job_specs ON job_specs.tenant = jobs.tenant
        AND job_specs.job_id = coalesce(jobs.array_id, jobs.job_id)
    LEFT JOIN progress ON progress.tenant = jobs.tenant AND progress.job_id = jobs.job_id
        AND progress.attempt = jobs.attempt_count

-- name: find_submitted
-- What was submitted: the command, and the editable fields before the first edit.
SELECT jobs.tenant, jobs.job_id, argv, work_dir, env, stdin, cluster, output_limit_bytes,
    coalesce(submitted, json_build_array(
        priority, timeout_us, stop_grace_us, retry, queue, name, labels::text, start_after_us,
        start_delay_us, queue_timeout_us, total_timeout_us, deadline_us,
        idle_timeout_us)::text),
    keys, fairness_key, fairness_weight, job_type, placement, unique_key, {{array_columns}},
    {{dependency_column}}
FROM (SELECT * FROM rows(tenant text, job_id text)) AS wanted
    JOIN jobs ON jobs.tenant = wanted.tenant AND jobs.job_id = wanted.job_id
    JOIN job_specs ON job_specs.tenant = jobs.tenant
        AND job_specs.job_id = coalesce(jobs.array_id, jobs.job_id)

-- fragment: walked_tables
walked
    CROSS JOIN LATERAL (
        SELECT * FROM jobs WHERE tenant = :tenant AND job_id = walked.job_id OFFSET 0) AS jobs
    CROSS JOIN LATERAL (
        SELECT * FROM job_specs
        WHERE tenant = jobs.tenant AND job_id = coalesce(jobs.array_id, jobs.job_id) OFFSET 0
    ) AS job_specs
    LEFT JOIN LATERAL (
        SELECT * FROM progress
        WHERE tenant = jobs.tenant AND job_id = jobs.job_id AND attempt = jobs.attempt_count
        OFFSET 0
    ) AS progress ON true

-- name: list_basic
-- Jobs out of the ones that a list walks over: each is looked up, one after the other, until the page is
-- full. OFFSET 0 keeps PostgreSQL from reading all jobs of the tenant instead and joining them.
SELECT {{job_columns}}
FROM {{walked_tables}}
WHERE true

-- name: list_full
-- As `list_basic`, with variables and input.
SELECT {{job_columns}}, {{full_columns}}
FROM {{walked_tables}}
WHERE true

-- name: list_ids
-- Jobs out of the ones that a list walks over, by their instants and ids.
SELECT walked.instant_us, walked.job_id
FROM walked
    CROSS JOIN LATERAL (
        SELECT * FROM jobs WHERE tenant = :tenant AND job_id = walked.job_id OFFSET 0) AS jobs
WHERE true

-- name: walk_active
-- Jobs that are not final.
SELECT created_us AS instant_us, job_id FROM jobs
WHERE tenant = :tenant AND ended_us IS NULL

-- name: walk_closed
-- Jobs that are final.
SELECT created_us AS instant_us, job_id FROM jobs
WHERE tenant = :tenant AND ended_us IS NOT NULL

-- name: walk_live
-- Jobs that have a lease: few, so they may be sorted. OFFSET 0 keeps PostgreSQL from looking for them along
-- an index of all jobs of the tenant, as by its key.
SELECT created_us AS instant_us, job_id
FROM (SELECT tenant, created_us, job_id FROM jobs WHERE lease_until_us IS NOT NULL OFFSET 0) AS live
WHERE tenant = :tenant

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
FROM jobs
WHERE lease_until_us IS NOT NULL AND worker_id = $1
ORDER BY tenant, job_id

-- name: queue_position
-- How many jobs come before a queued one: of its lane, or, where it is parked, of those that wait for the
-- same key.
SELECT CASE WHEN this.blocked_key = '' THEN (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs AS earlier
        WHERE earlier.state = {State.QUEUED} AND earlier.blocked_key = ''
            AND earlier.tenant = this.tenant AND earlier.queue = this.queue
            AND earlier.fairness_key = this.fairness_key
            AND earlier.placement = this.placement
            AND (earlier.claim_key, earlier.rank, earlier.job_id)
                < (this.claim_key, this.rank, this.job_id)
        LIMIT $1) AS before)
    ELSE (
    SELECT count(*) FROM (
        SELECT 1 FROM jobs AS earlier
        WHERE earlier.state = {State.QUEUED} AND earlier.blocked_key <> ''
            AND earlier.tenant = this.tenant AND earlier.blocked_key = this.blocked_key
            AND earlier.queue = this.queue
            AND (earlier.claim_key, earlier.rank, earlier.job_id)
                < (this.claim_key, this.rank, this.job_id)
        LIMIT $1) AS before)
    END
FROM jobs AS this
WHERE this.tenant = $2 AND this.job_id = $3 AND this.state + 0 = {State.QUEUED}

-- name: next_due
-- The earliest start of a SCHEDULED job, or instant at which a rate allows a start.
SELECT least(
    (SELECT min(start_us) FROM jobs WHERE state = {State.SCHEDULED}),
    (SELECT min(wake_us) FROM limits WHERE wake_us IS NOT NULL))

-- name: next_resume
-- The earliest end of a pause behind an instant; there are never many queues with rules.
SELECT min(pause_until_us) FROM queues WHERE pause_until_us > $1

-- name: next_time_out
-- When the time of a job is over next.
SELECT min(at_us) FROM (
    SELECT min(queue_until_us) AS at_us FROM jobs
    WHERE state + 0 = {State.QUEUED} AND queue_until_us IS NOT NULL
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
WHERE delete_requested
    AND state IN ({State.SUCCEEDED}, {State.FAILED}, {State.CANCELLED}, {State.SKIPPED})
    AND (array_size IS NULL OR {{array_may_go}})
    AND (tenant, job_id) > ($1, $2)
ORDER BY tenant, job_id
LIMIT $3

-- name: head_position
-- The newest position there ever was. What is removed is always followed by something newer that
-- stays, or is known as forgotten.
SELECT greatest(
    (SELECT coalesce(max(position), 0) FROM events),
    (SELECT coalesce(max(position), 0) FROM progress),
    (SELECT coalesce(max(position), 0) FROM tombstones),
    (SELECT forgotten_position FROM feed))

-- name: forgotten_position
-- Changes up to here may be missing.
SELECT forgotten_position FROM feed

-- name: list_changes
-- What was told behind a position: three runs in order of position, merged.
(SELECT position, tenant, job_id, revision, kind, state, previous_state, at_us, attempt, reason,
    message, exit_code, signal, start_us, NULL::double precision AS percent, NULL AS step,
    NULL::bigint AS estimated_us
FROM events WHERE position > $1 ORDER BY position LIMIT $2)
UNION ALL
(SELECT position, tenant, job_id, revision, {EventKind.PROGRESS}, state, state, reported_us, attempt,
    0, '', NULL, NULL, NULL, percent, step, estimated_us
FROM progress WHERE position > $1 ORDER BY position LIMIT $2)
UNION ALL
(SELECT position, tenant, job_id, revision, {EventKind.DELETED}, state, state, deleted_us, attempt,
    0, '', NULL, NULL, NULL, NULL, NULL, NULL
FROM tombstones WHERE position > $1 ORDER BY position LIMIT $2)
ORDER BY position
LIMIT $2
