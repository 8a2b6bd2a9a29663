-- Dependencies: which jobs a job waits for, what became of each of them, and what is yet to be told to
-- the jobs that wait.
--
-- * A job that others wait for says so in its own row (`has_children`), so the end of a job without any
--   costs nothing more.
-- * The verdicts of a job are counted in `dependents`: a job with 1,000 dependencies is judged by one row
--   at each of 1,000 ends. `dependencies` and the counts are kept up to date while `dependent` is 1.
-- * The end of a job is told to so many others at once as one transaction should take; `unsettled` says
--   from which on the others do not know yet.

ALTER TABLE jobs ADD COLUMN dependent INTEGER NOT NULL DEFAULT 0;
-- 0: on no job; 1: the jobs that it depends on decide over it; 2: they let it go, or it runs regardless
ALTER TABLE jobs ADD COLUMN has_children INTEGER NOT NULL DEFAULT 0;
-- 1: others depend, or did depend, on it

-- The jobs that depend on others.
CREATE TABLE dependents (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    rule INTEGER NOT NULL,
    needed INTEGER NOT NULL,                -- how many must be met; with ALWAYS, decided
    on_unmet INTEGER NOT NULL,
    total INTEGER NOT NULL,
    met INTEGER NOT NULL,
    unmet INTEGER NOT NULL,
    is_delayed INTEGER NOT NULL,            -- 1: one of the dependencies has a delay
    cause_id TEXT NOT NULL,                 -- whose end the job was skipped, failed or held for; '' before
    PRIMARY KEY (tenant, job_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE dependencies (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,                -- its place in the job, from 0
    parent_id TEXT NOT NULL,                -- the job that is waited for
    condition INTEGER NOT NULL,
    delay_us INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    ready_us INTEGER,                       -- the end of the parent and the delay; NULL while PENDING
    PRIMARY KEY (tenant, job_id, number)
) STRICT, WITHOUT ROWID;

-- find_edges: who waits for a job, in order.
CREATE INDEX dependencies_parent ON dependencies (tenant, parent_id, job_id, number);

-- Jobs whose end, or whose retry, some of those that wait for them have not been told yet.
CREATE TABLE unsettled (
    tenant TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    from_id TEXT NOT NULL,                  -- the first job that may not have been told
    PRIMARY KEY (tenant, parent_id)
) STRICT, WITHOUT ROWID;

-- find_buried: how a deleted job ended.
CREATE UNIQUE INDEX tombstones_job ON tombstones (tenant, job_id);
