-- Submit: jobs come to be.

-- name: find_requests
-- What the request ids of a tenant made.
WITH wanted (tenant, request_id) AS (VALUES /*each*/ (:tenant, :request_id) /*end*/)
SELECT json_group_array(json_array(
    requests.tenant, requests.request_id, lower(hex(requests.digest)), requests.job_ids,
    requests.created_us))
FROM wanted CROSS JOIN requests
WHERE requests.tenant = wanted.tenant AND requests.request_id = wanted.request_id

-- name: find_duplicate
-- The newest jobs that have unique keys and are in given states, each with the number of its row.
WITH wanted (n, tenant, name, state, queue, since_us) AS (
    VALUES /*each*/ (:n, :tenant, :name, :state, :queue, :since_us) /*end*/
), newest (n, tenant, job_id) AS (
    SELECT n, tenant, (
        SELECT jobs.job_id FROM jobs INDEXED BY jobs_unique
        WHERE jobs.tenant = wanted.tenant AND jobs.unique_name = wanted.name
            AND jobs.state = wanted.state
            AND (wanted.queue IS NULL OR jobs.queue = wanted.queue)
            AND jobs.created_us > coalesce(wanted.since_us, -1)
        ORDER BY jobs.created_us DESC, jobs.job_id DESC
        LIMIT 1)
    FROM wanted
)
SELECT json_group_array(json_array(newest.n, jobs.job_id, state, queue, created_us))
FROM newest CROSS JOIN jobs
WHERE jobs.tenant = newest.tenant AND jobs.job_id = newest.job_id

-- name: find_duplicates
-- Any jobs that have unique keys and are in given states, likewise, up to a bound.
WITH wanted (n, tenant, name, state, queue, since_us) AS (
    VALUES /*each*/ (:n, :tenant, :name, :state, :queue, :since_us) /*end*/
)
SELECT json_group_array(json_array(n, job_id, state, queue, created_us))
FROM (
    SELECT wanted.n, jobs.job_id, jobs.state, jobs.queue, jobs.created_us
    FROM wanted CROSS JOIN jobs INDEXED BY jobs_unique
    WHERE jobs.tenant = wanted.tenant AND jobs.unique_name = wanted.name
        AND jobs.state = wanted.state
        AND (wanted.queue IS NULL OR jobs.queue = wanted.queue)
        AND jobs.created_us > coalesce(wanted.since_us, -1)
    LIMIT 1000
)

-- name: insert_requests
-- Remember what a request id made.
INSERT INTO requests (tenant, request_id, digest, job_ids, created_us)
VALUES /*each*/ (:tenant, :request_id, :digest, :job_ids, :created_us) /*end*/

-- name: insert_jobs  moves: -> BLOCKED | SCHEDULED | QUEUED
-- Put new jobs where they wait.
INSERT INTO jobs (
    tenant, job_id, state, start_us, created_us, last_position, claim_key, queued_us, updated_us,
    counted_us, expires_us, queue_until_us, priority, timeout_us, stop_grace_us, retry, queue, name,
    labels, start_after_us, start_delay_us, queue_timeout_us, total_timeout_us, deadline_us,
    idle_timeout_us, schedule, schedule_us, array_size, array_id, array_index, array_item,
    fairness_key, fairness_weight, unique_name, job_type, placement, keys, blocked_key,
    dependent, has_children, revision, attempt_count, epoch, edit_version
)
VALUES /*each*/ (
    :tenant, :job_id, :state, :start_us, :created_us, :last_position, :claim_key, :queued_us,
    :updated_us, :counted_us, :expires_us, :queue_until_us, :priority, :timeout_us, :stop_grace_us,
    :retry, :queue, :name, :labels, :start_after_us, :start_delay_us, :queue_timeout_us,
    :total_timeout_us, :deadline_us, :idle_timeout_us, :schedule, :schedule_us,
    :array_size, :array_id, :array_index, :array_item,
    :fairness_key, :fairness_weight, :unique_name, :job_type, :placement, :keys, :blocked_key,
    :dependent, :has_children, 1, 0, 0, 1) /*end*/

-- name: insert_specs
-- Keep what jobs are to run.
INSERT INTO job_specs (
    tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env, stdin, unique_key
)
VALUES /*each*/ (
    :tenant, :job_id, :cluster, :output_limit_bytes, :work_dir, :argv, :env, :stdin, :unique_key) /*end*/

-- name: insert_events
-- Tell changes.
INSERT INTO events (
    position, previous_position, tenant, job_id, revision, kind, state, previous_state, at_us,
    attempt, reason, message, exit_code, signal, start_us
)
VALUES /*each*/ (
    :position, :previous_position, :tenant, :job_id, :revision, :kind, :state, :previous_state,
    :at_us, :attempt, :reason, :message, :exit_code, :signal, :start_us) /*end*/
