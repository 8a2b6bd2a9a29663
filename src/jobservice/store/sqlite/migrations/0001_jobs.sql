-- The first schema: jobs, what was submitted, attempts, and what is told of them.
--
-- Why it is as it is (figures: this schema against the plain one, in batches of 100):
--
-- * Nothing here is SQLite's alone. Every table is STRICT and keyed by what we give it, never by a
--   rowid; WITHOUT ROWID is only how the rows lie on disk (one b-tree less on each write, 10 to 15 %
--   of an insert). `tenant` is in every table and key.
-- * `jobs` is what is read and written at every step. What a user sent and nobody changes (the
--   command, up to megabytes) lies in `job_specs` and is read when a job is run or shown.
-- * The live attempt of a job is part of its row, so there cannot be two, and a fence is checked by
--   the same look-up that finds the job. A row of `attempts` is written once, when one has ended. With
--   live attempts in a table of their own, claim, start and finish took 24 changes of b-trees, and
--   take 12 like this.
-- * Events of a job are a chain from `jobs.last_position` back through `previous_position`. They are
--   looked up by job only to delete them, and an index by job would cost as much on every event as
--   the event itself (4.4 instead of 1.1 us).
-- * States, reasons and kinds are the numbers of `jobservice/model`. Instants (`_us`) are
--   microseconds of UTC since 1970.
-- * Every index of `jobs` that serves the present is partial, so that what a claim, a timer or a
--   sweep costs does not depend on how much history there is; and none has a column that changes at
--   each step.
-- * `position` numbers all changes of the store. The writer counts it, in the transaction that makes
--   the change, so that order of positions is order of commits. It is spread over `events`,
--   `progress` and `tombstones`, and no two rows of these have the same.

CREATE TABLE jobs (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    revision INTEGER NOT NULL,              -- of its newest event; events are numbered without gaps
    last_position INTEGER NOT NULL,         -- of its newest event
    attempt_count INTEGER NOT NULL,         -- also the number of the newest attempt
    epoch INTEGER NOT NULL,                 -- of the newest lease; never used twice
    claim_key INTEGER NOT NULL,             -- place in the queue, see jobservice/model/queue.py
    queued_us INTEGER NOT NULL,             -- since when it waits for a claim; claim_key is made of it
    -- The live attempt, which is there exactly while the job is RUNNING or STOPPING.
    lease_until_us INTEGER,
    worker_id TEXT,
    claimed_us INTEGER,
    attempt_started_us INTEGER,             -- NULL while it is STARTING
    failure_count INTEGER NOT NULL DEFAULT 0,
    lost_count INTEGER NOT NULL DEFAULT 0,
    delete_requested INTEGER NOT NULL DEFAULT 0,
    edit_version INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    start_us INTEGER,                       -- when a SCHEDULED job becomes due
    started_us INTEGER,                     -- of the first process
    ended_us INTEGER,                       -- since when it is final; NULL exactly while it is not
    exit_code INTEGER,                      -- of the newest attempt that ended
    signal INTEGER,
    reason INTEGER NOT NULL DEFAULT 0,
    message TEXT NOT NULL DEFAULT '',
    -- What a user may edit, as it is now.
    priority INTEGER NOT NULL,
    timeout_us INTEGER,
    stop_grace_us INTEGER NOT NULL,
    retry TEXT NOT NULL,                    -- JSON array: see jobservice/store/rows.py
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    labels TEXT NOT NULL,                   -- JSON object of strings
    PRIMARY KEY (tenant, job_id)
) STRICT, WITHOUT ROWID;

-- claim_jobs: the first of the queue are the first of the index (4 is QUEUED).
CREATE INDEX jobs_queued ON jobs (claim_key, job_id) WHERE state = 4;
-- release_due (2 is SCHEDULED).
CREATE INDEX jobs_scheduled ON jobs (start_us) WHERE state = 2;
-- expire_leases; list_live and lists of what runs read all of it, which is as much as runs now.
CREATE INDEX jobs_leased ON jobs (lease_until_us, worker_id) WHERE lease_until_us IS NOT NULL;
-- Lists in the order of creation: of all jobs, of those that are not final (`ended_us` is in it only so
-- that a walk need not look at the rows).
CREATE INDEX jobs_created ON jobs (tenant, created_us, job_id);
CREATE INDEX jobs_active ON jobs (tenant, created_us, job_id, ended_us) WHERE ended_us IS NULL;
-- The history, newest end first: one ordered run per state, merged.
CREATE INDEX jobs_ended ON jobs (tenant, state, ended_us, job_id) WHERE ended_us IS NOT NULL;
-- list_deletable.
CREATE INDEX jobs_to_delete ON jobs (tenant, job_id) WHERE delete_requested = 1;

-- The command of a job, never changed. What may be edited is in `jobs`; the first edit puts here how
-- it was submitted, so that the submitted job can always be told.
CREATE TABLE job_specs (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    cluster TEXT NOT NULL,
    output_limit_bytes INTEGER NOT NULL,
    work_dir TEXT NOT NULL,
    submitted TEXT,                         -- JSON array of the editable columns before it
    argv TEXT NOT NULL,                     -- JSON array
    env TEXT NOT NULL,                      -- JSON object
    stdin BLOB,                             -- NULL where empty
    PRIMARY KEY (tenant, job_id)
) STRICT, WITHOUT ROWID;

-- Attempts that have ended.
CREATE TABLE attempts (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    state INTEGER NOT NULL,
    worker_id TEXT NOT NULL,
    claimed_us INTEGER NOT NULL,
    started_us INTEGER,
    ended_us INTEGER NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    reason INTEGER NOT NULL,
    message TEXT NOT NULL,
    cpu_us INTEGER NOT NULL,
    max_rss_bytes INTEGER NOT NULL,
    stdout_bytes INTEGER NOT NULL,
    stderr_bytes INTEGER NOT NULL,
    dropped_bytes INTEGER NOT NULL,
    PRIMARY KEY (tenant, job_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    position INTEGER NOT NULL PRIMARY KEY,
    previous_position INTEGER,              -- of the same job; NULL for its first
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    state INTEGER NOT NULL,
    previous_state INTEGER,
    at_us INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    message TEXT NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    start_us INTEGER
) STRICT;

-- The newest word of each job on its progress. A newer one takes a new position.
CREATE TABLE progress (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    percent REAL NOT NULL,
    step TEXT NOT NULL,
    estimated_us INTEGER,
    reported_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, job_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX progress_position ON progress (position);

-- What is left of a deleted job, for those who watch, until it is forgotten.
CREATE TABLE tombstones (
    position INTEGER NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    deleted_us INTEGER NOT NULL
) STRICT;

CREATE INDEX tombstones_deleted ON tombstones (deleted_us);

-- The newest position that was forgotten: whoever has not come so far has missed something.
CREATE TABLE feed (
    forgotten_position INTEGER NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

INSERT INTO feed (forgotten_position) VALUES (0);

-- What each request_id made. Kept when its jobs are deleted, so that a request that is sent again
-- does not make them anew.
CREATE TABLE requests (
    tenant TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    job_ids TEXT NOT NULL,                  -- JSON array, in the order of the request
    created_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_created ON requests (created_us);
