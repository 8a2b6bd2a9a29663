-- Queues with rules, limits, and the order in which tenants and fairness keys take turns.
--
-- A claim does not walk one line of all jobs any more: a full or paused queue at its head would hold up
-- all others. Jobs that are QUEUED lie in lanes (tenant, queue, fairness key), each in its order, and a
-- claim looks at the first of the lanes that are open. A job whose concurrency key is taken is parked:
-- `blocked_key` names the key, and takes it out of its lane until one of the holders is done. So a claim
-- costs the same whatever waits behind a limit.
--
-- Limits are counted from the leases (`lease_until_us IS NOT NULL`) in the transaction of the claim.
-- There is no counter.

ALTER TABLE jobs ADD COLUMN fairness_key TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN fairness_weight INTEGER NOT NULL DEFAULT 1000;
ALTER TABLE jobs ADD COLUMN keys TEXT NOT NULL DEFAULT '';         -- JSON array, see store/rows.py; or empty
ALTER TABLE jobs ADD COLUMN blocked_key TEXT NOT NULL DEFAULT '';  -- of a QUEUED job that is parked
ALTER TABLE jobs ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;       -- among those with its claim_key

-- find_lanes, find_claimable: the lanes, each in its order (4 is QUEUED).
CREATE INDEX jobs_ready ON jobs (tenant, queue, fairness_key, claim_key, rank, job_id)
    WHERE state = 4 AND blocked_key = '';
-- find_waiters: who waits for a key, in order.
CREATE INDEX jobs_parked ON jobs (tenant, blocked_key, claim_key, rank, job_id)
    WHERE state = 4 AND blocked_key <> '';
-- The depth of a queue, and since when its oldest job waits.
CREATE INDEX jobs_waiting ON jobs (tenant, queue, queued_us) WHERE state = 4;
DROP INDEX jobs_queued;

CREATE TABLE queues (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    max_running INTEGER,                    -- NULL is without a limit, here and below
    max_depth INTEGER,
    max_age_us INTEGER,
    on_full INTEGER NOT NULL,
    pause_mode INTEGER,                     -- NULL where it is not paused
    pause_us INTEGER,                       -- since when
    pause_until_us INTEGER,
    pause_reason TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    edit_version INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE limits (
    tenant TEXT NOT NULL,                   -- empty for the whole service
    kind INTEGER NOT NULL,                  -- see jobservice/model/limit.py
    name TEXT NOT NULL,
    max_running INTEGER,
    rate_starts INTEGER,                    -- NULL is without a rate
    rate_period_us INTEGER,
    rate_burst INTEGER,
    weight INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    used_until_us INTEGER NOT NULL DEFAULT 0,  -- until when the starts so far used the rate up
    wake_us INTEGER,                        -- when the rate allows the next of those that are parked
    PRIMARY KEY (tenant, kind, name)
) STRICT, WITHOUT ROWID;

-- find_rates_due.
CREATE INDEX limits_wake ON limits (wake_us) WHERE wake_us IS NOT NULL;

-- Whose turn it is: the passes of the tenants (scope empty) and of the fairness keys of each tenant (its
-- name is the scope), see jobservice/model/turns.py. The member without a name is the floor; all others
-- begin with `=`. A pass that is not above the floor says nothing and may be dropped.
CREATE TABLE shares (
    scope TEXT NOT NULL,
    member TEXT NOT NULL,
    pass INTEGER NOT NULL,
    PRIMARY KEY (scope, member)
) STRICT, WITHOUT ROWID;
