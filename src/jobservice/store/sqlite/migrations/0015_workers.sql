-- Workers: what each says of itself, when it was last heard of, and whether it takes jobs. Of no tenant. What a
-- worker runs is not here: its leases are in `jobs`.

CREATE TABLE workers (
    worker_id TEXT NOT NULL,
    host TEXT NOT NULL,
    version TEXT NOT NULL,
    slots INTEGER NOT NULL,
    labels TEXT NOT NULL,                   -- JSON object of strings
    resources TEXT NOT NULL,                -- JSON array, see store/worker_rows.py
    embedded INTEGER NOT NULL,
    registered_us INTEGER NOT NULL,
    contact_us INTEGER NOT NULL,
    drain_us INTEGER,                       -- since when it takes nothing new; NULL while it does
    drain_reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (worker_id)
) STRICT, WITHOUT ROWID;
