-- The schema of the SQLite store's first migration, as far as the spike needs it, in PostgreSQL.
--
-- What differs: `position` is (xid, seq). A sequence alone is not in the order of commits: a number is
-- drawn when the row is written, and the transaction that drew the smaller one may commit later, when a
-- reader is past it. The id of a transaction is no better alone, but PostgreSQL tells the oldest that
-- may still be running: what is below that is complete and in an order that no commit can change.

CREATE TABLE jobs (
    tenant text NOT NULL,
    job_id text NOT NULL,
    state smallint NOT NULL,
    revision bigint NOT NULL,
    attempt_count integer NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    claim_key bigint NOT NULL,
    queued_us bigint NOT NULL,
    lease_until_us bigint,
    worker_id text,
    claimed_us bigint,
    attempt_started_us bigint,
    failure_count integer NOT NULL DEFAULT 0,
    lost_count integer NOT NULL DEFAULT 0,
    delete_requested boolean NOT NULL DEFAULT false,
    edit_version integer NOT NULL DEFAULT 1,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    start_us bigint,
    started_us bigint,
    ended_us bigint,
    exit_code integer,
    signal integer,
    reason smallint NOT NULL DEFAULT 0,
    message text NOT NULL DEFAULT '',
    priority integer NOT NULL,
    timeout_us bigint,
    stop_grace_us bigint NOT NULL,
    retry text NOT NULL,
    queue text NOT NULL,
    name text NOT NULL,
    labels jsonb NOT NULL,
    PRIMARY KEY (tenant, job_id)
);

CREATE INDEX jobs_queued ON jobs (claim_key, job_id) WHERE state = 4;
CREATE INDEX jobs_leased ON jobs (lease_until_us, worker_id) WHERE lease_until_us IS NOT NULL;
CREATE INDEX jobs_created ON jobs (tenant, created_us, job_id);

CREATE TABLE job_specs (
    tenant text NOT NULL,
    job_id text NOT NULL,
    cluster text NOT NULL,
    output_limit_bytes bigint NOT NULL,
    work_dir text NOT NULL,
    argv text NOT NULL,
    env text NOT NULL,
    stdin bytea,
    PRIMARY KEY (tenant, job_id)
);

CREATE TABLE attempts (
    tenant text NOT NULL,
    job_id text NOT NULL,
    attempt integer NOT NULL,
    state smallint NOT NULL,
    worker_id text NOT NULL,
    claimed_us bigint NOT NULL,
    started_us bigint,
    ended_us bigint NOT NULL,
    exit_code integer,
    signal integer,
    reason smallint NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (tenant, job_id, attempt)
);

CREATE TABLE events (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    tenant text NOT NULL,
    job_id text NOT NULL,
    revision bigint NOT NULL,
    kind smallint NOT NULL,
    state smallint NOT NULL,
    previous_state smallint,
    at_us bigint NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    reason smallint NOT NULL DEFAULT 0,
    message text NOT NULL DEFAULT '',
    exit_code integer,
    signal integer,
    start_us bigint,
    PRIMARY KEY (xid, seq),
    UNIQUE (tenant, job_id, revision)
);

CREATE TABLE requests (
    tenant text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    job_ids jsonb NOT NULL,
    created_us bigint NOT NULL,
    PRIMARY KEY (tenant, request_id)
);
