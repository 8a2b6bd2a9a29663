-- Operations: changes of many jobs by a filter. One row each, moved on in the transaction that changes the
-- jobs of a batch, so that a crash repeats none and leaves none out.

CREATE TABLE operations (
    tenant TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    filter TEXT NOT NULL,
    action INTEGER NOT NULL,
    priority INTEGER,                       -- the new one, where the action sets it
    reason TEXT NOT NULL,
    max_per_second INTEGER NOT NULL,        -- 0 is without a limit
    request_id TEXT,                        -- NULL where the caller gave none
    state INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,                -- when it may go on
    ended_us INTEGER,                       -- NULL exactly while it is RUNNING
    place_us INTEGER,                       -- the creation and the id of the last job looked at; NULL before
    place_job_id TEXT,
    done_count INTEGER NOT NULL,
    skipped_count INTEGER NOT NULL,
    failed_count INTEGER NOT NULL,
    PRIMARY KEY (tenant, operation_id)
) STRICT, WITHOUT ROWID;

-- What goes on, the one that is due first in front (1 is RUNNING).
CREATE INDEX operations_running ON operations (due_us, tenant, operation_id) WHERE state = 1;
CREATE UNIQUE INDEX operations_request ON operations (tenant, request_id) WHERE request_id IS NOT NULL;
-- forget_operations.
CREATE INDEX operations_ended ON operations (ended_us) WHERE ended_us IS NOT NULL;
