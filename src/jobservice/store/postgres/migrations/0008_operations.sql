-- Operations: changes of many jobs by a filter; as in the SQLite store.

CREATE TABLE operations (
    tenant text COLLATE "C" NOT NULL,
    operation_id text COLLATE "C" NOT NULL,
    filter text NOT NULL,
    action smallint NOT NULL,
    priority integer,                       -- the new one, where the action sets it
    reason text NOT NULL,
    max_per_second integer NOT NULL,        -- 0 is without a limit
    request_id text COLLATE "C",            -- NULL where the caller gave none
    state smallint NOT NULL,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    due_us bigint NOT NULL,                 -- when it may go on
    ended_us bigint,                        -- NULL exactly while it is RUNNING
    place_us bigint,                        -- the creation and the id of the last job looked at; NULL before
    place_job_id text COLLATE "C",
    done_count bigint NOT NULL,
    skipped_count bigint NOT NULL,
    failed_count bigint NOT NULL,
    PRIMARY KEY (tenant, operation_id)
);

-- What goes on, the one that is due first in front (1 is RUNNING).
CREATE INDEX operations_running ON operations (due_us, tenant, operation_id) WHERE state = 1;
CREATE UNIQUE INDEX operations_request ON operations (tenant, request_id) WHERE request_id IS NOT NULL;
-- forget_operations.
CREATE INDEX operations_ended ON operations (ended_us) WHERE ended_us IS NOT NULL;
