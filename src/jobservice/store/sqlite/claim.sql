-- Claims: lanes, keys, turns.

-- name: find_lanes
-- The lanes in which something is ready, with the rules that hold for them, and what the worker offers. A
-- walk from lane to lane along `jobs_ready`, which looks at one job of each. It goes on at the next text
-- there can be, since SQLite begins a `>` of several columns at the first row that is equal, and would read
-- all of the lane.
WITH RECURSIVE
    lanes (lane) AS (
        SELECT (
            SELECT json_array(tenant, queue, fairness_key, placement) FROM jobs
            WHERE state = {State.QUEUED} AND blocked_key = ''
                AND (tenant, queue, fairness_key, placement) >= (?1, ?2, ?3, ?4 || char(0))
            ORDER BY tenant, queue, fairness_key, placement
            LIMIT 1)
        UNION ALL
        SELECT (
            SELECT json_array(tenant, queue, fairness_key, placement) FROM jobs
            WHERE state = {State.QUEUED} AND blocked_key = ''
                AND (tenant, queue, fairness_key, placement)
                    >= (lane ->> 0, lane ->> 1, lane ->> 2, (lane ->> 3) || char(0))
            ORDER BY tenant, queue, fairness_key, placement
            LIMIT 1)
        FROM lanes WHERE lane IS NOT NULL
        LIMIT ?5)
SELECT json_group_array(json_array(
    lane ->> 0, lane ->> 1, lane ->> 2, lane ->> 3, queues.pause_mode, queues.pause_until_us,
    queues.max_running, of_tenant.max_running, of_tenant.weight,
    (SELECT max_running FROM limits WHERE tenant = '' AND kind = {LimitKind.SERVICE} AND name = ''),
    workers.drain_us, workers.labels, workers.resources))
FROM lanes
    LEFT JOIN workers ON workers.worker_id = ?6
    LEFT JOIN queues ON queues.tenant = lane ->> 0 AND queues.name = lane ->> 1
    LEFT JOIN limits AS of_tenant
        ON of_tenant.tenant = lane ->> 0 AND of_tenant.kind = {LimitKind.TENANT}
        AND of_tenant.name = ''
WHERE lane IS NOT NULL

-- name: find_claimable
-- The next jobs of a lane, with all that is needed to run them. The order of the index is the order of
-- the lane, so nothing is sorted and nothing else is read.
SELECT json_group_array(json_array(
    claim_key, rank, job_id, attempt_count, epoch, revision, last_position, keys, fairness_weight,
    timeout_us, idle_timeout_us, stop_grace_us, output_limit_bytes, argv, work_dir, env, hex(stdin),
    array_size, array_id, array_index, array_item))
FROM (
    SELECT
        claim_key, rank, jobs.job_id, attempt_count, epoch, revision, last_position, keys,
        fairness_weight, timeout_us, idle_timeout_us, stop_grace_us, output_limit_bytes, argv,
        work_dir, env, stdin, array_size, array_id, array_index, array_item
    FROM jobs CROSS JOIN job_specs
    WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key = ''
        AND jobs.tenant = ?1 AND jobs.queue = ?2 AND jobs.fairness_key = ?3
        AND jobs.placement = ?4
        AND (jobs.claim_key, jobs.rank, jobs.job_id) > (?5, ?6, ?7)
        AND job_specs.tenant = jobs.tenant
        AND job_specs.job_id = coalesce(jobs.array_id, jobs.job_id)
    ORDER BY jobs.claim_key, jobs.rank, jobs.job_id
    LIMIT ?8
)

-- name: claim_jobs  moves: QUEUED -> RUNNING
-- Give jobs a new attempt under a new lease.
WITH claimed (tenant, job_id, position, worker_id, lease_until_us, now_us) AS (
    VALUES /*each*/ (
        :tenant, :job_id, :position, :worker_id, :lease_until_us, :now_us) /*end*/)
UPDATE jobs
SET state = {State.RUNNING}, attempt_count = attempt_count + 1, epoch = epoch + 1,
    lease_until_us = claimed.lease_until_us, worker_id = claimed.worker_id,
    claimed_us = claimed.now_us, attempt_started_us = NULL,
    revision = revision + 1, last_position = claimed.position, updated_us = claimed.now_us,
    reason = 0, message = ''
FROM claimed
WHERE jobs.tenant = claimed.tenant AND jobs.job_id = claimed.job_id
    AND jobs.state = {State.QUEUED}

-- name: find_held
-- What the live leases hold: queues and keys, and how many leases hold just these.
SELECT json_group_array(json_array(tenant, queue, keys, count))
FROM (
    SELECT tenant, queue, keys, count(*) AS count
    FROM jobs INDEXED BY jobs_leased
    WHERE lease_until_us IS NOT NULL
    GROUP BY tenant, queue, keys
)

-- name: find_rules
-- Limits by name, each with the number of its row.
WITH wanted (n, tenant, kind, name) AS (VALUES /*each*/ (:n, :tenant, :kind, :name) /*end*/)
SELECT json_group_array(json_array(
    wanted.n, max_running, rate_starts, rate_period_us, rate_burst, used_until_us))
FROM wanted CROSS JOIN limits
WHERE limits.tenant = wanted.tenant AND limits.kind = wanted.kind AND limits.name = wanted.name

-- name: use_rates
-- Starts used a rate up until then.
WITH used (tenant, kind, name, used_until_us) AS (
    VALUES /*each*/ (:tenant, :kind, :name, :used_until_us) /*end*/)
UPDATE limits
SET used_until_us = used.used_until_us
FROM used
WHERE limits.tenant = used.tenant AND limits.kind = used.kind AND limits.name = used.name

-- name: advance_wakes
-- Jobs were parked that a rate allows then; others that are parked for it may be due before.
WITH waking (tenant, kind, name, wake_us) AS (
    VALUES /*each*/ (:tenant, :kind, :name, :wake_us) /*end*/)
UPDATE limits
SET wake_us = min(coalesce(limits.wake_us, waking.wake_us), waking.wake_us)
FROM waking
WHERE limits.tenant = waking.tenant AND limits.kind = waking.kind AND limits.name = waking.name

-- name: put_wakes
-- When a rate allows the next of those that are parked for it; NULL when none is.
WITH waking (tenant, kind, name, wake_us) AS (
    VALUES /*each*/ (:tenant, :kind, :name, :wake_us) /*end*/)
UPDATE limits
SET wake_us = waking.wake_us
FROM waking
WHERE limits.tenant = waking.tenant AND limits.kind = waking.kind AND limits.name = waking.name

-- name: find_rates_due
-- Rates that allow a start now, for which jobs are parked.
SELECT json_group_array(json_array(
    tenant, name, rate_starts, rate_period_us, rate_burst, used_until_us))
FROM (
    SELECT tenant, name, rate_starts, rate_period_us, rate_burst, used_until_us FROM limits
    WHERE wake_us <= ?1
    ORDER BY wake_us
    LIMIT ?2
)

-- name: park_jobs
-- Take jobs out of their lanes until a key is free.
WITH parked (tenant, job_id, blocked_key) AS (
    VALUES /*each*/ (:tenant, :job_id, :blocked_key) /*end*/)
UPDATE jobs
SET blocked_key = parked.blocked_key
FROM parked
WHERE jobs.tenant = parked.tenant AND jobs.job_id = parked.job_id AND jobs.state = {State.QUEUED}

-- name: find_waiters
-- The first jobs of each queue that are parked for keys, each line with the number of the row of its key:
-- a walk from queue to queue along `jobs_parked`.
WITH RECURSIVE
    wanted (n, tenant, blocked_key) AS (VALUES /*each*/ (:n, :tenant, :blocked_key) /*end*/),
    lines (n, tenant, blocked_key, queue) AS (
        SELECT n, tenant, blocked_key, (
            SELECT queue FROM jobs INDEXED BY jobs_parked
            WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
                AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key
            ORDER BY queue
            LIMIT 1)
        FROM wanted
        UNION ALL
        SELECT n, tenant, blocked_key, (
            SELECT queue FROM jobs INDEXED BY jobs_parked
            WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
                AND jobs.tenant = lines.tenant AND jobs.blocked_key = lines.blocked_key
                AND jobs.queue > lines.queue
            ORDER BY queue
            LIMIT 1)
        FROM lines WHERE queue IS NOT NULL)
SELECT json_group_array(json_array(n, waiters || ''))
FROM (
    SELECT n, (
        SELECT json_group_array(job_id) FROM (
            SELECT job_id FROM jobs INDEXED BY jobs_parked
            WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
                AND jobs.tenant = lines.tenant AND jobs.blocked_key = lines.blocked_key
                AND jobs.queue = lines.queue
            ORDER BY claim_key, rank, job_id
            LIMIT 100)) AS waiters
    FROM lines WHERE queue IS NOT NULL)

-- name: find_lines
-- Where the first jobs stand that are parked for keys in queues, each with the number of the row.
WITH wanted (n, tenant, blocked_key, queue) AS (
    VALUES /*each*/ (:n, :tenant, :blocked_key, :queue) /*end*/)
SELECT json_group_array(json_array(n, place ->> 0, place ->> 1, place ->> 2))
FROM (
    SELECT n, (
        SELECT json_array(claim_key, rank, job_id) FROM jobs INDEXED BY jobs_parked
        WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
            AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key
            AND jobs.queue = wanted.queue
        ORDER BY claim_key, rank, job_id
        LIMIT 1) AS place
    FROM wanted)
WHERE place IS NOT NULL

-- name: find_parked
-- The rows whose keys jobs are parked for.
WITH wanted (n, tenant, blocked_key) AS (VALUES /*each*/ (:n, :tenant, :blocked_key) /*end*/)
SELECT json_group_array(json_array(n))
FROM wanted
WHERE EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_parked
    WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
        AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key)

-- name: find_parked_keys
-- The keys that jobs are parked for, from one on: a walk from key to key along `jobs_parked`, as that of
-- `find_lanes`.
WITH RECURSIVE
    keys (key) AS (
        SELECT (
            SELECT json_array(tenant, blocked_key) FROM jobs INDEXED BY jobs_parked
            WHERE state = {State.QUEUED} AND blocked_key <> ''
                AND (tenant, blocked_key) >= (?1, ?2 || char(0))
            ORDER BY tenant, blocked_key
            LIMIT 1)
        UNION ALL
        SELECT (
            SELECT json_array(tenant, blocked_key) FROM jobs INDEXED BY jobs_parked
            WHERE state = {State.QUEUED} AND blocked_key <> ''
                AND (tenant, blocked_key) >= (key ->> 0, (key ->> 1) || char(0))
            ORDER BY tenant, blocked_key
            LIMIT 1)
        FROM keys WHERE key IS NOT NULL
        LIMIT ?3)
SELECT json_group_array(json(key)) FROM keys WHERE key IS NOT NULL

-- name: wake_jobs
-- Put parked jobs back into their lanes, at their old places.
WITH woken (tenant, job_id) AS (VALUES /*each*/ (:tenant, :job_id) /*end*/)
UPDATE jobs
SET blocked_key = ''
FROM woken
WHERE jobs.tenant = woken.tenant AND jobs.job_id = woken.job_id AND jobs.state = {State.QUEUED}

-- name: find_shares
-- The passes of members of scopes.
WITH wanted (scope, member) AS (VALUES /*each*/ (:scope, :member) /*end*/)
SELECT json_group_array(json_array(shares.scope, shares.member, pass))
FROM wanted CROSS JOIN shares
WHERE shares.scope = wanted.scope AND shares.member = wanted.member

-- name: put_shares
-- Move passes on.
INSERT INTO shares (scope, member, pass)
VALUES /*each*/ (:scope, :member, :pass) /*end*/
ON CONFLICT (scope, member) DO UPDATE SET pass = excluded.pass

-- name: forget_shares
-- Drop passes that are not above the floor of their scope: they say nothing.
DELETE FROM shares
WHERE member <> ''
    AND pass <= (SELECT pass FROM shares AS floors WHERE floors.scope = shares.scope AND floors.member = '')

-- name: insert_job_keys
-- Jobs name keys.
INSERT INTO job_keys (tenant, key, job_id)
VALUES /*each*/ (:tenant, :key, :job_id) /*end*/
ON CONFLICT (tenant, key, job_id) DO NOTHING

-- name: delete_job_keys
-- Jobs are final.
WITH gone (tenant, key, job_id) AS (VALUES /*each*/ (:tenant, :key, :job_id) /*end*/)
DELETE FROM job_keys WHERE (tenant, key, job_id) IN (SELECT * FROM gone)

-- name: find_members
-- The jobs that name keys and are not final, each with the number of the row of its key. An array is
-- none: its indices are.
WITH wanted (n, tenant, key) AS (VALUES /*each*/ (:n, :tenant, :key) /*end*/)
SELECT json_group_array(json_array(wanted.n, jobs.job_id, state, keys, claim_key))
FROM wanted CROSS JOIN job_keys CROSS JOIN jobs
WHERE job_keys.tenant = wanted.tenant AND job_keys.key = wanted.key
    AND jobs.tenant = job_keys.tenant AND jobs.job_id = job_keys.job_id
    AND jobs.ended_us IS NULL AND (jobs.array_size IS NULL OR jobs.array_id IS NOT NULL)

-- name: find_taken
-- What the live attempts of a worker ask of it, and how many ask for just this.
SELECT json_group_array(json_array(placement, count))
FROM (
    SELECT placement, count(*) AS count FROM jobs INDEXED BY jobs_placed
    WHERE lease_until_us IS NOT NULL AND placement <> '' AND worker_id = ?1
    GROUP BY placement
)
