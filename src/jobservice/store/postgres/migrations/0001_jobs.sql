-- The first schema: jobs, what was submitted, attempts, and what is told of them.
--
-- It is the schema of the SQLite store (see sqlite/migrations/0001_jobs.sql for why it is as it is),
-- with what differs:
--
-- * `next_position()` gives the positions of changes. A sequence alone is not in the order of commits:
--   a number is drawn when a row is written, and the transaction that drew the smaller one may commit
--   later, when a reader is past it. So a lock goes before the first number of a transaction and is
--   held until its commit is visible: order of positions is order of commits, whatever else runs. The
--   lock is taken late, when everything but the events is written. (Reading only what is older than
--   the oldest running transaction needs no lock, but then one forgotten transaction, of anybody on
--   the same server, stops every watcher.)
-- * Events are found by job through their unique key, which also makes sure that no revision is told
--   twice; there is no chain through `last_position`.
-- * Text is in the order of its code points (COLLATE "C"), as in SQLite, whatever the database has.

CREATE SEQUENCE positions;

CREATE FUNCTION next_position() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7305808869231650162);  -- "jobservr"; see postgres/migrate.py
    RETURN nextval('positions');
END
$$;

CREATE TABLE jobs (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    state smallint NOT NULL,
    revision bigint NOT NULL,               -- of its newest event; events are numbered without gaps
    attempt_count integer NOT NULL,         -- also the number of the newest attempt
    epoch bigint NOT NULL,                  -- of the newest lease; never used twice
    claim_key bigint NOT NULL,              -- place in the queue, see jobservice/model/queue.py
    queued_us bigint NOT NULL,              -- since when it waits for a claim; claim_key is made of it
    -- The live attempt, which is there exactly while the job is RUNNING or STOPPING.
    lease_until_us bigint,
    worker_id text COLLATE "C",
    claimed_us bigint,
    attempt_started_us bigint,              -- NULL while it is STARTING
    failure_count integer NOT NULL DEFAULT 0,
    lost_count integer NOT NULL DEFAULT 0,
    delete_requested boolean NOT NULL DEFAULT false,
    edit_version bigint NOT NULL,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    start_us bigint,                        -- when a SCHEDULED job becomes due
    started_us bigint,                      -- of the first process
    ended_us bigint,                        -- since when it is final; NULL exactly while it is not
    exit_code bigint,                       -- of the newest attempt that ended
    signal integer,
    reason smallint NOT NULL DEFAULT 0,
    message text NOT NULL DEFAULT '',
    -- What a user may edit, as it is now.
    priority integer NOT NULL,
    timeout_us bigint,
    stop_grace_us bigint NOT NULL,
    retry text NOT NULL,                    -- JSON array: see jobservice/store/rows.py
    queue text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    labels jsonb NOT NULL                   -- an object of strings
);

-- claim_jobs: the first of the queue are the first of the index (4 is QUEUED).
CREATE INDEX jobs_queued ON jobs (claim_key, job_id) WHERE state = 4;
-- release_due (2 is SCHEDULED).
CREATE INDEX jobs_scheduled ON jobs (start_us) WHERE state = 2;
-- expire_leases; list_live and lists of what runs read all of it, which is as much as runs now.
CREATE INDEX jobs_leased ON jobs (lease_until_us, worker_id) WHERE lease_until_us IS NOT NULL;
-- Lists in the order of creation: of all jobs, of those that are not final.
CREATE INDEX jobs_created ON jobs (tenant, created_us, job_id);
CREATE INDEX jobs_active ON jobs (tenant, created_us, job_id) WHERE ended_us IS NULL;
-- The history, newest end first: one ordered run per state, merged.
CREATE INDEX jobs_ended ON jobs (tenant, state, ended_us, job_id) WHERE ended_us IS NOT NULL;
-- list_deletable.
CREATE INDEX jobs_to_delete ON jobs (tenant, job_id) WHERE delete_requested;
-- By key. It comes last because in an empty table all indexes cost the same, and the newest is taken:
-- `jobs_created` begins with the tenant too.
ALTER TABLE jobs ADD PRIMARY KEY (tenant, job_id);

-- The command of a job, never changed. What may be edited is in `jobs`; the first edit puts here how
-- it was submitted, so that the submitted job can always be told.
CREATE TABLE job_specs (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    cluster text COLLATE "C" NOT NULL,
    output_limit_bytes bigint NOT NULL,
    work_dir text NOT NULL,
    submitted text,                         -- JSON array of the editable columns before it
    argv text NOT NULL,                     -- JSON array
    env text NOT NULL,                      -- JSON object
    stdin bytea,                            -- NULL where empty
    PRIMARY KEY (tenant, job_id)
);

-- Attempts that have ended.
CREATE TABLE attempts (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    state smallint NOT NULL,
    worker_id text COLLATE "C" NOT NULL,
    claimed_us bigint NOT NULL,
    started_us bigint,
    ended_us bigint NOT NULL,
    exit_code bigint,
    signal integer,
    reason smallint NOT NULL,
    message text NOT NULL,
    cpu_us bigint NOT NULL,
    max_rss_bytes bigint NOT NULL,
    stdout_bytes bigint NOT NULL,
    stderr_bytes bigint NOT NULL,
    dropped_bytes bigint NOT NULL,
    PRIMARY KEY (tenant, job_id, attempt)
);

CREATE TABLE events (
    position bigint NOT NULL PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    kind smallint NOT NULL,
    state smallint NOT NULL,
    previous_state smallint,
    at_us bigint NOT NULL,
    attempt integer NOT NULL,
    reason smallint NOT NULL,
    message text NOT NULL,
    exit_code bigint,
    signal integer,
    start_us bigint,
    UNIQUE (tenant, job_id, revision)
);

-- The newest word of each job on its progress. A newer one takes a new position.
CREATE TABLE progress (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    revision bigint NOT NULL,
    state smallint NOT NULL,
    attempt integer NOT NULL,
    percent double precision NOT NULL,
    step text NOT NULL,
    estimated_us bigint,
    reported_us bigint NOT NULL,
    PRIMARY KEY (tenant, job_id)
);

CREATE UNIQUE INDEX progress_position ON progress (position);

-- What is left of a deleted job, for those who watch, until it is forgotten.
CREATE TABLE tombstones (
    position bigint NOT NULL PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    state smallint NOT NULL,
    attempt integer NOT NULL,
    deleted_us bigint NOT NULL
);

CREATE INDEX tombstones_deleted ON tombstones (deleted_us);

-- The newest position that was forgotten: whoever has not come so far has missed something.
CREATE TABLE feed (
    forgotten_position bigint NOT NULL PRIMARY KEY
);

INSERT INTO feed (forgotten_position) VALUES (0);

-- What each request_id made. Kept when its jobs are deleted, so that a request that is sent again
-- does not make them anew.
CREATE TABLE requests (
    tenant text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    job_ids text NOT NULL,                  -- JSON array, in the order of the request
    created_us bigint NOT NULL,
    PRIMARY KEY (tenant, request_id)
);

CREATE INDEX requests_created ON requests (created_us);
