-- Workers; see sqlite/migrations/0015_workers.sql for why it is as it is.

CREATE TABLE workers (
    worker_id text COLLATE "C" NOT NULL,
    host text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    slots bigint NOT NULL,
    labels text COLLATE "C" NOT NULL,       -- JSON object of strings
    resources text COLLATE "C" NOT NULL,    -- JSON array, see store/worker_rows.py
    embedded boolean NOT NULL,
    registered_us bigint NOT NULL,
    contact_us bigint NOT NULL,
    drain_us bigint,                        -- since when it takes nothing new; NULL while it does
    drain_reason text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (worker_id)
) WITH (fillfactor = 50);
