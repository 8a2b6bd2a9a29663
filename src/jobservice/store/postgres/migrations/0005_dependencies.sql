-- Dependencies: which jobs a job waits for, what became of each of them, and what is yet to be told to
-- the jobs that wait. See sqlite/migrations/0005_dependencies.sql for why it is as it is.
--
-- Whoever writes a verdict holds the lock of both jobs, but for a parent that is deleted. So there is
-- nobody who inserts a dependency on a job, or decides by one, while that job ends.

ALTER TABLE jobs ADD COLUMN dependent smallint NOT NULL DEFAULT 0;
-- 0: on no job; 1: the jobs that it depends on decide over it; 2: they let it go, or it runs regardless
ALTER TABLE jobs ADD COLUMN has_children boolean NOT NULL DEFAULT false;
-- others depend, or did depend, on it

-- The jobs that depend on others.
CREATE TABLE dependents (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    rule smallint NOT NULL,
    needed integer NOT NULL,                -- how many must be met; with ALWAYS, decided
    on_unmet smallint NOT NULL,
    total integer NOT NULL,
    met integer NOT NULL,
    unmet integer NOT NULL,
    is_delayed boolean NOT NULL,            -- one of the dependencies has a delay
    cause_id text COLLATE "C" NOT NULL,     -- whose end the job was skipped, failed or held for; '' before
    PRIMARY KEY (tenant, job_id)
);

CREATE TABLE dependencies (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    number integer NOT NULL,                -- its place in the job, from 0
    parent_id text COLLATE "C" NOT NULL,    -- the job that is waited for
    condition smallint NOT NULL,
    delay_us bigint NOT NULL,
    verdict smallint NOT NULL,
    ready_us bigint                         -- the end of the parent and the delay; NULL while PENDING
);

-- find_edges: who waits for a job, in order.
CREATE INDEX dependencies_parent ON dependencies (tenant, parent_id, job_id, number);
-- By key. It comes last for the reason that `jobs` says.
ALTER TABLE dependencies ADD PRIMARY KEY (tenant, job_id, number);

-- Jobs whose end, or whose retry, some of those that wait for them have not been told yet.
CREATE TABLE unsettled (
    tenant text COLLATE "C" NOT NULL,
    parent_id text COLLATE "C" NOT NULL,
    from_id text COLLATE "C" NOT NULL,      -- the first job that may not have been told
    PRIMARY KEY (tenant, parent_id)
);

-- find_buried: how a deleted job ended.
CREATE UNIQUE INDEX tombstones_job ON tombstones (tenant, job_id);
