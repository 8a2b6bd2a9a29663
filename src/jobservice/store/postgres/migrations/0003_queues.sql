-- Queues with rules, limits, and the order in which tenants and fairness keys take turns; see
-- sqlite/migrations/0003_queues.sql for why it is as it is.

ALTER TABLE jobs ADD COLUMN fairness_key text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN fairness_weight integer NOT NULL DEFAULT 1000;
ALTER TABLE jobs ADD COLUMN keys text COLLATE "C" NOT NULL DEFAULT '';         -- JSON array, see store/rows.py; or empty
ALTER TABLE jobs ADD COLUMN blocked_key text COLLATE "C" NOT NULL DEFAULT '';  -- of a QUEUED job that is parked
ALTER TABLE jobs ADD COLUMN rank bigint NOT NULL DEFAULT 0;       -- among those with its claim_key

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
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text COLLATE "C" NOT NULL,
    max_running bigint,                     -- NULL is without a limit, here and below
    max_depth bigint,
    max_age_us bigint,
    on_full smallint NOT NULL,
    pause_mode smallint,                    -- NULL where it is not paused
    pause_us bigint,                        -- since when
    pause_until_us bigint,
    pause_reason text COLLATE "C" NOT NULL,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    edit_version bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE limits (
    tenant text COLLATE "C" NOT NULL,       -- empty for the whole service
    kind smallint NOT NULL,                 -- see jobservice/model/limit.py
    name text COLLATE "C" NOT NULL,
    max_running bigint,
    rate_starts bigint,                     -- NULL is without a rate
    rate_period_us bigint,
    rate_burst bigint,
    weight integer NOT NULL,
    updated_us bigint NOT NULL,
    used_until_us bigint NOT NULL DEFAULT 0,-- until when the starts so far used the rate up
    wake_us bigint,                         -- when the rate allows the next of those that are parked
    PRIMARY KEY (tenant, kind, name)
);

-- find_rates_due.
CREATE INDEX limits_wake ON limits (wake_us) WHERE wake_us IS NOT NULL;

-- Whose turn it is: the passes of the tenants (scope empty) and of the fairness keys of each tenant (its
-- name is the scope), see jobservice/model/turns.py. The member without a name is the floor; all others
-- begin with `=`. A pass that is not above the floor says nothing and may be dropped.
CREATE TABLE shares (
    scope text COLLATE "C" NOT NULL,
    member text COLLATE "C" NOT NULL,
    pass bigint NOT NULL,
    PRIMARY KEY (scope, member)
);
