-- The main verbs in PostgreSQL. Each takes its rows as one JSON document, as the SQLite store takes
-- them as one flat list, and each writes the change and its event in one statement.

-- name: insert_request
-- Remember a request id, unless it is known.
INSERT INTO requests (tenant, request_id, digest, job_ids, created_us)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, request_id) DO NOTHING
RETURNING request_id

-- name: find_request
-- What a request id made.
SELECT digest, job_ids FROM requests WHERE tenant = $1 AND request_id = $2

-- name: insert_jobs  moves: -> QUEUED
-- Put new jobs into the queue.
WITH given AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS g (
        tenant text, job_id text, claim_key bigint, queued_us bigint, created_us bigint,
        updated_us bigint, priority integer, timeout_us bigint, stop_grace_us bigint, retry text,
        queue text, name text, labels text, cluster text, output_limit_bytes bigint,
        work_dir text, argv text, env text, stdin text)
), made AS (
    INSERT INTO jobs (
        tenant, job_id, state, revision, claim_key, queued_us, created_us, updated_us, priority,
        timeout_us, stop_grace_us, retry, queue, name, labels)
    SELECT tenant, job_id, {State.QUEUED}, 1, claim_key, queued_us, created_us, updated_us,
        priority, timeout_us, stop_grace_us, retry, queue, name, labels::jsonb
    FROM given
), kept AS (
    INSERT INTO job_specs (
        tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env, stdin)
    SELECT tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env,
        decode(stdin, 'hex')
    FROM given
)
INSERT INTO events (tenant, job_id, revision, kind, state, at_us)
SELECT tenant, job_id, 1, {EventKind.CREATED}, {State.QUEUED}, created_us FROM given

-- name: claim_jobs  moves: QUEUED -> RUNNING
-- Lease the first jobs of the queue that no other is leasing at this moment.
WITH first AS (
    SELECT tenant, job_id FROM jobs
    WHERE state = {State.QUEUED}
    ORDER BY claim_key, job_id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE jobs
    SET state = {State.RUNNING}, attempt_count = attempt_count + 1, epoch = epoch + 1,
        worker_id = $2, lease_until_us = $3, claimed_us = $4, attempt_started_us = NULL,
        revision = revision + 1, updated_us = $4, reason = 0, message = ''
    FROM first
    WHERE jobs.tenant = first.tenant AND jobs.job_id = first.job_id
        AND jobs.state = {State.QUEUED}
    RETURNING jobs.*
), told AS (
    INSERT INTO events (
        tenant, job_id, revision, kind, state, previous_state, at_us, attempt)
    SELECT tenant, job_id, revision, {EventKind.CLAIMED}, state, {State.QUEUED}, updated_us,
        attempt_count
    FROM claimed
)
SELECT claimed.tenant, claimed.job_id, attempt_count, epoch, timeout_us, stop_grace_us,
    output_limit_bytes, argv, work_dir, env, stdin
FROM claimed JOIN job_specs USING (tenant, job_id)
ORDER BY claim_key, job_id

-- name: lock_live
-- The jobs behind fences that are not stale, locked in an order that all callers share.
WITH fences AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS f (
        n integer, tenant text, job_id text, attempt integer, epoch bigint)
)
SELECT fences.n, state, revision, worker_id, claimed_us, attempt_started_us, failure_count,
    lost_count, delete_requested, retry
FROM fences JOIN jobs
    ON jobs.tenant = fences.tenant AND jobs.job_id = fences.job_id
    AND jobs.attempt_count = fences.attempt AND jobs.epoch = fences.epoch
    AND jobs.state IN ({State.RUNNING}, {State.STOPPING})
ORDER BY jobs.tenant, jobs.job_id
FOR UPDATE OF jobs

-- name: start_attempts
-- Processes exist.
WITH started AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS s (
        tenant text, job_id text, started_us bigint)
), done AS (
    UPDATE jobs
    SET attempt_started_us = started.started_us,
        started_us = coalesce(jobs.started_us, started.started_us),
        revision = revision + 1, updated_us = started.started_us
    FROM started
    WHERE jobs.tenant = started.tenant AND jobs.job_id = started.job_id
        AND jobs.attempt_started_us IS NULL
    RETURNING jobs.*
)
INSERT INTO events (tenant, job_id, revision, kind, state, previous_state, at_us, attempt)
SELECT tenant, job_id, revision, {EventKind.STARTED}, state, state, updated_us, attempt_count
FROM done

-- name: finish_attempts  moves: RUNNING -> SUCCEEDED | FAILED | SCHEDULED | QUEUED
--   moves: STOPPING -> CANCELLED | SUCCEEDED | FAILED | SCHEDULED | QUEUED
-- Processes are gone, and jobs go where the engine decided.
WITH settled AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS s (
        tenant text, job_id text, attempt integer, state smallint, previous_state smallint,
        kind smallint, attempt_state smallint, reason smallint, message text, failures integer,
        losses integer, now_us bigint, start_us bigint, worker_id text, claimed_us bigint,
        started_us bigint, attempt_ended_us bigint, ended_us bigint, exit_code integer,
        signal integer)
), done AS (
    UPDATE jobs
    SET state = settled.state, reason = settled.reason, message = settled.message,
        lease_until_us = NULL, worker_id = NULL, claimed_us = NULL, attempt_started_us = NULL,
        revision = revision + 1, updated_us = settled.now_us,
        failure_count = failure_count + settled.failures,
        lost_count = lost_count + settled.losses, start_us = settled.start_us,
        started_us = coalesce(jobs.started_us, settled.started_us),
        ended_us = settled.ended_us, exit_code = settled.exit_code, signal = settled.signal
    FROM settled
    WHERE jobs.tenant = settled.tenant AND jobs.job_id = settled.job_id
        AND (
            jobs.state = {State.RUNNING} AND settled.state IN (
                {State.SUCCEEDED}, {State.FAILED}, {State.SCHEDULED}, {State.QUEUED})
            OR jobs.state = {State.STOPPING} AND settled.state IN (
                {State.CANCELLED}, {State.SUCCEEDED}, {State.FAILED}, {State.SCHEDULED},
                {State.QUEUED})
        )
    RETURNING jobs.tenant, jobs.job_id, jobs.revision
), kept AS (
    INSERT INTO attempts (
        tenant, job_id, attempt, state, worker_id, claimed_us, started_us, ended_us, exit_code,
        signal, reason, message)
    SELECT tenant, job_id, attempt, attempt_state, worker_id, claimed_us, started_us,
        attempt_ended_us, exit_code, signal, reason, message
    FROM settled
)
INSERT INTO events (
    tenant, job_id, revision, kind, state, previous_state, at_us, attempt, reason, message,
    exit_code, signal, start_us)
SELECT tenant, job_id, revision, kind, state, previous_state, now_us, attempt, reason, message,
    exit_code, signal, start_us
FROM settled JOIN done USING (tenant, job_id)

-- name: find_expired
-- The fences of attempts whose lease is over, but for those that another is ending just now.
SELECT tenant, job_id, attempt_count, epoch FROM jobs
WHERE lease_until_us <= $1
ORDER BY lease_until_us
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: lock_asked
-- The jobs that a stop is asked for, locked in an order that all callers share.
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS w (tenant text, job_id text)
)
SELECT jobs.tenant, jobs.job_id, state, edit_version, attempt_count, epoch
FROM jobs JOIN wanted USING (tenant, job_id)
ORDER BY jobs.tenant, jobs.job_id
FOR UPDATE OF jobs

-- name: request_stop  moves: BLOCKED | SCHEDULED | HELD | QUEUED -> CANCELLED; RUNNING -> STOPPING
-- End jobs that have no process, and ask for the end of those that may have one.
WITH stopped AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS s (
        tenant text, job_id text, state smallint, previous_state smallint, kind smallint,
        reason smallint, message text, now_us bigint)
), done AS (
    UPDATE jobs
    SET state = stopped.state, reason = stopped.reason, message = stopped.message,
        revision = revision + 1, start_us = NULL, updated_us = stopped.now_us,
        ended_us = CASE stopped.state WHEN {State.CANCELLED} THEN stopped.now_us END
    FROM stopped
    WHERE jobs.tenant = stopped.tenant AND jobs.job_id = stopped.job_id
        AND (
            jobs.state IN (
                {State.BLOCKED}, {State.SCHEDULED}, {State.HELD}, {State.QUEUED})
            AND stopped.state = {State.CANCELLED}
            OR jobs.state = {State.RUNNING} AND stopped.state = {State.STOPPING}
        )
    RETURNING jobs.tenant, jobs.job_id, jobs.revision, jobs.attempt_count
)
INSERT INTO events (
    tenant, job_id, revision, kind, state, previous_state, at_us, attempt, reason, message)
SELECT tenant, job_id, revision, kind, state, previous_state, now_us, attempt_count, reason,
    message
FROM stopped JOIN done USING (tenant, job_id)

-- name: list_jobs
-- A page in the order of creation, behind a place in it.
SELECT tenant, job_id, state, created_us FROM jobs
WHERE tenant = $1 AND state = ANY ($2::smallint[]) AND (created_us, job_id) > ($3, $4)
ORDER BY created_us, job_id
LIMIT $5

-- name: list_changes
-- What was told behind a position, as far as no transaction can still add to it.
SELECT xid::text AS xid, seq, tenant, job_id, revision, kind, state, previous_state, at_us,
    attempt, reason, message, exit_code, signal, start_us
FROM events
WHERE (xid, seq) > ($1::text::xid8, $2::bigint) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY xid, seq
LIMIT $3

-- name: head_position
-- Behind every change that no transaction can still come before.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text
