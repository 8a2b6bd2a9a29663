-- Submit: jobs come to be.

-- name: find_requests
-- What the request ids of a tenant made.
SELECT requests.tenant, requests.request_id, encode(requests.digest, 'hex'), requests.job_ids
FROM rows(tenant text, request_id text)
JOIN requests USING (tenant, request_id)

-- name: insert_requests
-- Remember what a request id made. Another server may do so at the same time: one of the two fails,
-- is run again, and then finds it.
INSERT INTO requests (tenant, request_id, digest, job_ids, created_us)
SELECT * FROM rows(tenant text, request_id text, digest bytea, job_ids text, created_us bigint)

-- name: insert_jobs  moves: -> QUEUED
-- Put new jobs into the queue.
INSERT INTO jobs (
    tenant, job_id, claim_key, queued_us, created_us, updated_us,
    priority, timeout_us, stop_grace_us, retry, queue, name, labels,
    state, revision, attempt_count, epoch, edit_version
)
SELECT tenant, job_id, claim_key, queued_us, created_us, updated_us,
    priority, timeout_us, stop_grace_us, retry, queue, name, labels::jsonb,
    {State.QUEUED}, 1, 0, 0, 1
FROM rows(
    tenant text, job_id text, claim_key bigint, queued_us bigint, created_us bigint,
    updated_us bigint, last_position bigint, priority integer, timeout_us bigint,
    stop_grace_us bigint, retry text, queue text, name text, labels text)

-- name: insert_specs
-- Keep what jobs are to run.
INSERT INTO job_specs (
    tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env, stdin
)
SELECT * FROM rows(
    tenant text, job_id text, cluster text, output_limit_bytes bigint, work_dir text, argv text,
    env text, stdin bytea)

-- name: draw_positions
-- Positions for changes that several statements tell, in the order of all.
SELECT next_position() FROM generate_series(1, $1::integer)

-- name: insert_events
-- Tell changes. Without positions they are drawn in the order of the rows.
INSERT INTO events (
    position, tenant, job_id, revision, kind, state, previous_state, at_us, attempt, reason, message,
    exit_code, signal, start_us
)
SELECT coalesce(position, next_position()), tenant, job_id, revision, kind, state, previous_state, at_us, attempt,
    reason, message, exit_code, signal, start_us
FROM rows(
    position bigint, previous_position bigint, tenant text, job_id text, revision bigint,
    kind smallint, state smallint, previous_state smallint, at_us bigint, attempt integer,
    reason smallint, message text, exit_code bigint, signal integer, start_us bigint)
