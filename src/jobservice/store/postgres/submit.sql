-- Submit: jobs come to be.

-- name: find_requests
-- What the request ids of a tenant made.
SELECT requests.tenant, requests.request_id, encode(requests.digest, 'hex'), requests.job_ids,
    requests.created_us
FROM rows(tenant text, request_id text)
JOIN requests USING (tenant, request_id)

-- name: lock_unique
-- Wait until nobody else decides about unique keys of these parts, and keep them waiting until the commit.
SELECT pg_advisory_xact_lock(id) FROM rows(id bigint)

-- name: find_duplicate
-- The newest jobs that have unique keys and are in given states, each with the number of its row.
SELECT wanted.n, newest.job_id, newest.state, newest.queue, newest.created_us
FROM (SELECT * FROM rows(
    n integer, tenant text, name text, state smallint, queue text, since_us bigint)) AS wanted
    CROSS JOIN LATERAL (
        SELECT * FROM jobs
        WHERE tenant = wanted.tenant AND unique_name = wanted.name AND state = wanted.state
            AND (wanted.queue IS NULL OR queue = wanted.queue)
            AND created_us > coalesce(wanted.since_us, -1)
        ORDER BY created_us DESC, job_id DESC
        LIMIT 1
    ) AS newest

-- name: find_duplicates
-- Any jobs that have unique keys and are in given states, likewise, up to a bound.
SELECT wanted.n, found.job_id, found.state, found.queue, found.created_us
FROM (SELECT * FROM rows(
    n integer, tenant text, name text, state smallint, queue text, since_us bigint)) AS wanted
    CROSS JOIN LATERAL (
        SELECT * FROM jobs
        WHERE tenant = wanted.tenant AND unique_name = wanted.name AND state = wanted.state
            AND (wanted.queue IS NULL OR queue = wanted.queue)
            AND created_us > coalesce(wanted.since_us, -1)
        OFFSET 0
    ) AS found
LIMIT 1000

-- name: insert_requests
-- Remember what a request id made. Another server may do so at the same time: one of the two fails,
-- is run again, and then finds it.
INSERT INTO requests (tenant, request_id, digest, job_ids, created_us)
SELECT * FROM rows(tenant text, request_id text; digest bytea, job_ids text, created_us bigint)

-- name: insert_jobs  moves: -> BLOCKED | SCHEDULED | QUEUED
-- Put new jobs where they wait.
INSERT INTO jobs (
    tenant, job_id, state, start_us, created_us, claim_key, queued_us, updated_us,
    counted_us, expires_us, queue_until_us, priority, timeout_us, stop_grace_us, retry, queue, name,
    labels, start_after_us, start_delay_us, queue_timeout_us, total_timeout_us, deadline_us,
    idle_timeout_us, schedule, schedule_us, array_size, array_id, array_index, array_item,
    fairness_key, fairness_weight, unique_name, job_type, placement, keys, blocked_key,
    dependent, has_children, revision, attempt_count, epoch, edit_version
)
SELECT tenant, job_id, state, start_us, created_us, claim_key, queued_us, updated_us,
    counted_us, expires_us, queue_until_us, priority, timeout_us, stop_grace_us, retry, queue, name,
    labels::jsonb, start_after_us, start_delay_us, queue_timeout_us, total_timeout_us, deadline_us,
    idle_timeout_us, schedule, schedule_us, array_size, array_id, array_index, array_item,
    fairness_key, fairness_weight, unique_name, job_type, placement, keys, blocked_key, dependent,
    has_children, 1, 0, 0, 1
FROM rows(;
    tenant text, job_id text, state smallint, start_us bigint, created_us bigint,
    last_position bigint, claim_key bigint, queued_us bigint, updated_us bigint,
    counted_us bigint, expires_us bigint, queue_until_us bigint, priority integer,
    timeout_us bigint, stop_grace_us bigint, retry text, queue text, name text, labels text,
    start_after_us bigint, start_delay_us bigint, queue_timeout_us bigint, total_timeout_us bigint,
    deadline_us bigint, idle_timeout_us bigint, schedule text, schedule_us bigint,
    array_size integer, array_id text, array_index integer, array_item text,
    fairness_key text, fairness_weight integer, unique_name text, job_type text, placement text, keys text,
    blocked_key text, dependent smallint, has_children boolean)

-- name: insert_specs
-- Keep what jobs are to run.
INSERT INTO job_specs (
    tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env, stdin, unique_key
)
SELECT * FROM rows(;
    tenant text, job_id text, cluster text, output_limit_bytes bigint, work_dir text, argv text,
    env text, stdin bytea, unique_key text)

-- name: draw_positions
-- Positions for changes that several statements tell, in the order of all.
SELECT {{next_in_lock}} FROM generate_series(1, $1::integer)

-- fragment: next_in_lock
-- What next_position() does, with the lock taken once for all rows: before the first number is drawn.
nextval((SELECT 'positions'::regclass FROM pg_advisory_xact_lock(7305808869231650162)))

-- name: insert_events
-- Tell changes. Without positions they are drawn in the order of the rows.
INSERT INTO events (
    position, tenant, job_id, revision, kind, state, previous_state, at_us, attempt, reason, message,
    exit_code, signal, start_us
)
SELECT coalesce(position, {{next_in_lock}}), tenant, job_id, revision, kind, state, previous_state, at_us,
    attempt, reason, message, exit_code, signal, start_us
FROM rows(;
    position bigint, previous_position bigint, tenant text, job_id text, revision bigint,
    kind smallint, state smallint, previous_state smallint, at_us bigint, attempt integer,
    reason smallint, message text, exit_code bigint, signal integer, start_us bigint)
