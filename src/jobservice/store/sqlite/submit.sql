-- Submit: jobs come to be.

-- name: find_requests
-- What the request ids of a tenant made.
WITH wanted (tenant, request_id) AS (VALUES /*each*/ (:tenant, :request_id) /*end*/)
SELECT json_group_array(json_array(
    requests.tenant, requests.request_id, lower(hex(requests.digest)), requests.job_ids))
FROM wanted CROSS JOIN requests
WHERE requests.tenant = wanted.tenant AND requests.request_id = wanted.request_id

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
    idle_timeout_us, schedule, schedule_us, fairness_key, fairness_weight, keys, blocked_key,
    dependent, has_children, revision, attempt_count, epoch, edit_version
)
VALUES /*each*/ (
    :tenant, :job_id, :state, :start_us, :created_us, :last_position, :claim_key, :queued_us,
    :updated_us, :counted_us, :expires_us, :queue_until_us, :priority, :timeout_us, :stop_grace_us,
    :retry, :queue, :name, :labels, :start_after_us, :start_delay_us, :queue_timeout_us,
    :total_timeout_us, :deadline_us, :idle_timeout_us, :schedule, :schedule_us,
    :fairness_key, :fairness_weight, :keys, :blocked_key, :dependent, :has_children,
    1, 0, 0, 1) /*end*/

-- name: insert_specs
-- Keep what jobs are to run.
INSERT INTO job_specs (
    tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env, stdin
)
VALUES /*each*/ (
    :tenant, :job_id, :cluster, :output_limit_bytes, :work_dir, :argv, :env, :stdin) /*end*/

-- name: insert_events
-- Tell changes.
INSERT INTO events (
    position, previous_position, tenant, job_id, revision, kind, state, previous_state, at_us,
    attempt, reason, message, exit_code, signal, start_us
)
VALUES /*each*/ (
    :position, :previous_position, :tenant, :job_id, :revision, :kind, :state, :previous_state,
    :at_us, :attempt, :reason, :message, :exit_code, :signal, :start_us) /*end*/
