-- Arrays: one job that stands for many of the same command.
--
-- * An array is one row of `jobs` and one of `arrays`, whatever its size. Its indices become rows of `jobs`
--   a few ahead of their start. What they run is in the `job_specs` of the array alone.
-- * What an array has counted of an index is in the row of the index (`array_told`), and one that ended
--   and is not counted yet is found by `jobs_untold`. So no statement that ends a job has to know of arrays,
--   many that end at once do not wait for one row, and a crash in between loses and doubles nothing.

ALTER TABLE jobs ADD COLUMN array_size INTEGER;    -- of an array, and of each of its indices; else NULL
ALTER TABLE jobs ADD COLUMN array_id TEXT;         -- the array that it is an index of
ALTER TABLE jobs ADD COLUMN array_index INTEGER;
ALTER TABLE jobs ADD COLUMN array_item TEXT;
ALTER TABLE jobs ADD COLUMN array_told INTEGER NOT NULL DEFAULT 0;
-- the final state that the array has counted; 0 is none

-- find_unmade, and every index is made once.
CREATE UNIQUE INDEX jobs_of_arrays ON jobs (tenant, array_id, array_index) WHERE array_id IS NOT NULL;
-- count_queued_indices, find_live_indices.
CREATE INDEX jobs_indices_live ON jobs (tenant, array_id, state, array_index)
    WHERE array_id IS NOT NULL AND ended_us IS NULL;
-- find_unmet_indices (7 is SUCCEEDED; behind it are the other final states).
CREATE INDEX jobs_indices_unmet ON jobs (tenant, array_id, array_index)
    WHERE array_id IS NOT NULL AND ended_us IS NOT NULL AND state > 7;
-- find_untold_arrays, find_untold_indices.
CREATE INDEX jobs_untold ON jobs (tenant, array_id, job_id)
    WHERE array_id IS NOT NULL AND array_told = 0 AND ended_us IS NOT NULL;
-- walk_indices.
CREATE INDEX jobs_indices_created ON jobs (tenant, array_id, created_us, job_id)
    WHERE array_id IS NOT NULL;
-- walk_open_arrays (5 is RUNNING, 6 STOPPING).
CREATE INDEX jobs_open_arrays ON jobs (tenant, created_us, job_id)
    WHERE array_size IS NOT NULL AND array_id IS NULL AND (state = 5 OR state = 6);
-- find_ending_arrays: those that are STOPPING (6), or are final and to be deleted.
CREATE INDEX jobs_ending_arrays ON jobs (tenant, job_id)
    WHERE array_size IS NOT NULL AND array_id IS NULL
        AND (state = 6 OR delete_requested = 1 AND ended_us IS NOT NULL);

CREATE TABLE arrays (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    max_parallel INTEGER,                   -- NULL is without a limit, here and below
    max_failures INTEGER,
    has_items INTEGER NOT NULL,
    made INTEGER NOT NULL DEFAULT 0,        -- the indices below it are jobs, or were
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,     -- CANCELLED or SKIPPED
    revive_from INTEGER,                    -- the first index that a retry has yet to look at
    is_growing INTEGER NOT NULL DEFAULT 0,  -- 1: indices are to be made or revived while it is RUNNING
    PRIMARY KEY (tenant, job_id)
) STRICT, WITHOUT ROWID;

-- find_growing_arrays.
CREATE INDEX arrays_growing ON arrays (tenant, job_id) WHERE is_growing = 1;

CREATE TABLE array_items (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    first_index INTEGER NOT NULL,
    items TEXT NOT NULL,                    -- JSON array, from that index on
    PRIMARY KEY (tenant, job_id, first_index)
) STRICT, WITHOUT ROWID;
