-- Claims: lanes, keys, turns.

-- name: lock_claims
-- Wait until no other server claims within limits, and keep them waiting until the commit.
SELECT 1 FROM pg_advisory_xact_lock(7305808869231650163)

-- fragment: lane_with_rules
found.tenant, found.queue, found.fairness_key, found.placement, queues.pause_mode,
    queues.pause_until_us, queues.max_running, of_tenant.max_running, of_tenant.weight,
    (SELECT max_running FROM limits WHERE tenant = '' AND kind = {LimitKind.SERVICE} AND name = ''),
    workers.drain_us, workers.labels, workers.resources

-- fragment: rules_of_lane
LEFT JOIN queues ON queues.tenant = found.tenant AND queues.name = found.queue
    LEFT JOIN limits AS of_tenant
        ON of_tenant.tenant = found.tenant AND of_tenant.kind = {LimitKind.TENANT}
        AND of_tenant.name = ''

-- name: find_lanes
-- The lanes in which something is ready, with the rules that hold for them, and what the worker offers. A
-- walk from lane to lane along `jobs_ready`, which looks at one job of each.
WITH RECURSIVE
    lanes AS (
        (SELECT tenant, queue, fairness_key, placement FROM jobs
        WHERE state = {State.QUEUED} AND blocked_key = ''
            AND (tenant, queue, fairness_key, placement) > ($1, $2, $3, $4)
        ORDER BY tenant, queue, fairness_key, placement
        LIMIT 1)
        UNION ALL
        SELECT next.* FROM lanes CROSS JOIN LATERAL (
            SELECT tenant, queue, fairness_key, placement FROM jobs
            WHERE state = {State.QUEUED} AND blocked_key = ''
                AND (jobs.tenant, jobs.queue, jobs.fairness_key, jobs.placement)
                    > (lanes.tenant, lanes.queue, lanes.fairness_key, lanes.placement)
            ORDER BY tenant, queue, fairness_key, placement
            LIMIT 1) AS next),
    found AS MATERIALIZED (SELECT * FROM lanes LIMIT $5)
SELECT {{lane_with_rules}}
FROM found
    LEFT JOIN workers ON workers.worker_id = $6
    {{rules_of_lane}}

-- name: find_lanes_from
-- The same of some lanes, for jobs at their floors or behind them.
SELECT {{lane_with_rules}}
FROM (
    SELECT * FROM rows(
        tenant text, queue text, fairness_key text, placement text, claim_key bigint, rank bigint,
        worker_id text)
) AS found
    CROSS JOIN LATERAL (
        SELECT FROM jobs
        WHERE state = {State.QUEUED} AND blocked_key = ''
            AND jobs.tenant = found.tenant AND jobs.queue = found.queue
            AND jobs.fairness_key = found.fairness_key AND jobs.placement = found.placement
            AND (jobs.claim_key, jobs.rank, jobs.job_id) >= (found.claim_key, found.rank, '')
        ORDER BY jobs.claim_key, jobs.rank, jobs.job_id
        LIMIT 1) AS first
    LEFT JOIN workers ON workers.worker_id = found.worker_id
    {{rules_of_lane}}

-- name: count_dead_rows
-- How many rows of the table of jobs nobody needs, and nobody may clean up; 0 where no transaction has been
-- open for so many seconds. One that we may not see may have been.
SELECT CASE WHEN
    EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'
            AND (state IS NULL OR clock_timestamp() - xact_start > $1 * interval '1 second'))
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
    OR EXISTS (SELECT FROM pg_replication_slots WHERE xmin IS NOT NULL)
THEN pg_stat_get_dead_tuples(to_regclass('jobs')) ELSE 0 END

-- name: find_claimable
-- The next jobs of a lane that no other server is looking at, with all that is needed to run them.
WITH first AS MATERIALIZED (
    SELECT tenant, claim_key, rank, job_id, attempt_count, epoch, revision, keys, fairness_weight,
        timeout_us, idle_timeout_us, stop_grace_us, array_size, array_id, array_index, array_item
    FROM jobs
    WHERE state = {State.QUEUED} AND blocked_key = ''
        AND tenant = $1 AND queue = $2 AND fairness_key = $3 AND placement = $4
        AND (claim_key, rank, job_id) > ($5, $6, $7)
    ORDER BY claim_key, rank, job_id
    LIMIT $8
    FOR UPDATE SKIP LOCKED
)
SELECT claim_key, rank, first.job_id, attempt_count, epoch, revision, 0, keys, fairness_weight,
    timeout_us, idle_timeout_us, stop_grace_us, output_limit_bytes, argv, work_dir, env,
    coalesce(encode(stdin, 'hex'), ''), array_size, array_id, array_index, array_item
FROM first JOIN job_specs
    ON job_specs.tenant = first.tenant
    AND job_specs.job_id = coalesce(first.array_id, first.job_id)
ORDER BY claim_key, rank, first.job_id

-- name: claim_jobs  moves: QUEUED -> RUNNING
-- Give jobs a new attempt under a new lease.
UPDATE jobs
SET state = {State.RUNNING}, attempt_count = attempt_count + 1, epoch = epoch + 1,
    lease_until_us = claimed.lease_until_us, worker_id = claimed.worker_id,
    claimed_us = claimed.now_us, attempt_started_us = NULL,
    revision = revision + 1, updated_us = claimed.now_us, reason = 0, message = ''
FROM (
    SELECT * FROM rows(
        tenant text, job_id text, position bigint; worker_id text, lease_until_us bigint,
        now_us bigint)
) AS claimed
WHERE jobs.tenant = claimed.tenant AND jobs.job_id = claimed.job_id
    AND jobs.state + 0 = {State.QUEUED}

-- name: find_held
-- What the live leases hold that end no sooner than an instant: queues and keys, how many leases hold just
-- these, and when the first of them ends.
SELECT tenant, queue, keys, count(*), min(lease_until_us)
FROM (SELECT tenant, queue, keys, lease_until_us FROM jobs WHERE lease_until_us >= $1 OFFSET 0) AS live
GROUP BY tenant, queue, keys

-- name: find_rules
-- Limits by name, each with the number of its row.
SELECT wanted.n, max_running, rate_starts, rate_period_us, rate_burst, used_until_us
FROM (SELECT * FROM rows(n integer, tenant text, kind smallint, name text)) AS wanted
    CROSS JOIN LATERAL (
        SELECT * FROM limits
        WHERE tenant = wanted.tenant AND kind = wanted.kind AND name = wanted.name OFFSET 0
    ) AS limits

-- name: use_rates
-- Starts used a rate up until then.
UPDATE limits
SET used_until_us = used.used_until_us
FROM (SELECT * FROM rows(tenant text, kind smallint, name text, used_until_us bigint)) AS used
WHERE limits.tenant = used.tenant AND limits.kind = used.kind AND limits.name = used.name

-- name: advance_wakes
-- Jobs were parked that a rate allows then; others that are parked for it may be due before.
UPDATE limits
SET wake_us = least(limits.wake_us, waking.wake_us)
FROM (SELECT * FROM rows(tenant text, kind smallint, name text, wake_us bigint)) AS waking
WHERE limits.tenant = waking.tenant AND limits.kind = waking.kind AND limits.name = waking.name

-- name: put_wakes
-- When a rate allows the next of those that are parked for it; NULL when none is.
UPDATE limits
SET wake_us = waking.wake_us
FROM (SELECT * FROM rows(tenant text, kind smallint, name text, wake_us bigint)) AS waking
WHERE limits.tenant = waking.tenant AND limits.kind = waking.kind AND limits.name = waking.name

-- name: find_rates_due
-- Rates that allow a start now, for which jobs are parked.
SELECT tenant, name, rate_starts, rate_period_us, rate_burst, used_until_us FROM limits
WHERE wake_us <= $1
ORDER BY wake_us
LIMIT $2

-- name: park_jobs
-- Take jobs out of their lanes until a key is free.
UPDATE jobs
SET blocked_key = parked.blocked_key
FROM (SELECT * FROM rows(tenant text, job_id text, blocked_key text)) AS parked
WHERE jobs.tenant = parked.tenant AND jobs.job_id = parked.job_id
    AND jobs.state + 0 = {State.QUEUED}

-- name: find_waiters
-- The first jobs of each queue that are parked for keys and that no other server is looking at, each line
-- with the number of the row of its key: a walk from queue to queue along `jobs_parked`.
WITH RECURSIVE
    wanted AS (SELECT * FROM rows(n integer, tenant text, blocked_key text)),
    lines AS (
        SELECT wanted.n, wanted.tenant, wanted.blocked_key, first.queue
        FROM wanted CROSS JOIN LATERAL (
            SELECT queue FROM jobs
            WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
                AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key
            ORDER BY queue
            LIMIT 1) AS first
        UNION ALL
        SELECT lines.n, lines.tenant, lines.blocked_key, next.queue
        FROM lines CROSS JOIN LATERAL (
            SELECT queue FROM jobs
            WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
                AND jobs.tenant = lines.tenant AND jobs.blocked_key = lines.blocked_key
                AND jobs.queue > lines.queue
            ORDER BY queue
            LIMIT 1) AS next)
SELECT lines.n, json_agg(waiters.job_id ORDER BY claim_key, rank, job_id)::text
FROM lines CROSS JOIN LATERAL (
    SELECT claim_key, rank, job_id FROM jobs
    WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
        AND jobs.tenant = lines.tenant AND jobs.blocked_key = lines.blocked_key
        AND jobs.queue = lines.queue
    ORDER BY claim_key, rank, job_id
    LIMIT 100
    FOR UPDATE SKIP LOCKED
) AS waiters
GROUP BY lines.n, lines.queue

-- name: find_lines
-- Where the first jobs stand that are parked for keys in queues, each with the number of the row.
SELECT wanted.n, first.claim_key, first.rank, first.job_id
FROM (SELECT * FROM rows(n integer, tenant text, blocked_key text, queue text)) AS wanted
    CROSS JOIN LATERAL (
        SELECT claim_key, rank, job_id FROM jobs
        WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
            AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key
            AND jobs.queue = wanted.queue
        ORDER BY claim_key, rank, job_id
        LIMIT 1
    ) AS first

-- name: find_parked
-- The rows whose keys jobs are parked for.
SELECT wanted.n
FROM (SELECT * FROM rows(n integer, tenant text, blocked_key text)) AS wanted
WHERE EXISTS (
    SELECT 1 FROM jobs
    WHERE jobs.state = {State.QUEUED} AND jobs.blocked_key <> ''
        AND jobs.tenant = wanted.tenant AND jobs.blocked_key = wanted.blocked_key)

-- name: find_parked_keys
-- The keys that jobs are parked for, from one on: a walk from key to key along `jobs_parked`.
WITH RECURSIVE
    keys AS (
        (SELECT tenant, blocked_key FROM jobs
        WHERE state = {State.QUEUED} AND blocked_key <> ''
            AND (tenant, blocked_key) > ($1, $2)
        ORDER BY tenant, blocked_key
        LIMIT 1)
        UNION ALL
        SELECT next.* FROM keys CROSS JOIN LATERAL (
            SELECT tenant, blocked_key FROM jobs
            WHERE state = {State.QUEUED} AND blocked_key <> ''
                AND (jobs.tenant, jobs.blocked_key) > (keys.tenant, keys.blocked_key)
            ORDER BY tenant, blocked_key
            LIMIT 1) AS next)
SELECT tenant, blocked_key FROM keys LIMIT $3

-- name: wake_jobs
-- Put parked jobs back into their lanes, at their old places.
UPDATE jobs
SET blocked_key = ''
FROM (SELECT * FROM rows(tenant text, job_id text)) AS woken
WHERE jobs.tenant = woken.tenant AND jobs.job_id = woken.job_id
    AND jobs.state + 0 = {State.QUEUED}

-- name: find_shares
-- The passes of members of scopes.
SELECT shares.scope, shares.member, pass
FROM (SELECT * FROM rows(scope text, member text)) AS wanted
    CROSS JOIN LATERAL (
        SELECT * FROM shares WHERE scope = wanted.scope AND member = wanted.member OFFSET 0
    ) AS shares

-- name: put_shares
-- Move passes on.
INSERT INTO shares (scope, member, pass)
SELECT * FROM rows(scope text, member text, pass bigint)
ON CONFLICT (scope, member) DO UPDATE SET pass = excluded.pass

-- name: forget_shares
-- Drop passes that are not above the floor of their scope: they say nothing.
DELETE FROM shares
WHERE member <> ''
    AND pass <= (SELECT pass FROM shares AS floors WHERE floors.scope = shares.scope AND floors.member = '')

-- name: insert_job_keys
-- Jobs name keys.
INSERT INTO job_keys (tenant, key, job_id)
SELECT * FROM rows(tenant text, key text, job_id text)
ON CONFLICT (tenant, key, job_id) DO NOTHING

-- name: delete_job_keys
-- Jobs are final.
DELETE FROM job_keys
USING (
    SELECT found.place
    FROM (SELECT * FROM rows(tenant text, key text, job_id text)) AS gone
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM job_keys
            WHERE tenant = gone.tenant AND key = gone.key AND job_id = gone.job_id OFFSET 0
        ) AS found
) AS doomed
WHERE job_keys.ctid = doomed.place

-- name: find_members
-- The jobs that name keys and are not final, each with the number of the row of its key. An array is
-- none: its indices are.
SELECT wanted.n, jobs.job_id, jobs.state, jobs.keys, jobs.claim_key
FROM (SELECT * FROM rows(n integer, tenant text, key text)) AS wanted
    CROSS JOIN LATERAL (
        SELECT * FROM job_keys WHERE tenant = wanted.tenant AND key = wanted.key OFFSET 0
    ) AS named
    CROSS JOIN LATERAL (
        SELECT * FROM jobs WHERE tenant = named.tenant AND job_id = named.job_id OFFSET 0
    ) AS jobs
WHERE jobs.ended_us IS NULL AND (jobs.array_size IS NULL OR jobs.array_id IS NOT NULL)

-- name: find_taken
-- What the live attempts of a worker ask of it, and how many ask for just this.
SELECT placement, count(*) FROM jobs
WHERE lease_until_us IS NOT NULL AND placement <> '' AND worker_id = $1
GROUP BY placement
