-- Arrays: one job that stands for many of the same command; see sqlite/migrations/0012_arrays.sql for why
-- it is as it is.

ALTER TABLE jobs ADD COLUMN array_size integer;    -- of an array, and of each of its indices; else NULL
ALTER TABLE jobs ADD COLUMN array_id text COLLATE "C";  -- the array that it is an index of
ALTER TABLE jobs ADD COLUMN array_index integer;
ALTER TABLE jobs ADD COLUMN array_item text COLLATE "C";
ALTER TABLE jobs ADD COLUMN array_told smallint NOT NULL DEFAULT 0;
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
        AND (state = 6 OR delete_requested AND ended_us IS NOT NULL);

CREATE TABLE arrays (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    size integer NOT NULL,
    max_parallel integer,                   -- NULL is without a limit, here and below
    max_failures integer,
    has_items boolean NOT NULL,
    made integer NOT NULL DEFAULT 0,        -- the indices below it are jobs, or were
    succeeded integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    dropped integer NOT NULL DEFAULT 0,     -- CANCELLED or SKIPPED
    revive_from integer,                    -- the first index that a retry has yet to look at
    is_growing boolean NOT NULL DEFAULT false  -- indices are to be made or revived while it is RUNNING
);

ALTER TABLE arrays ADD PRIMARY KEY (tenant, job_id);
-- find_growing_arrays. It comes last, for the reason that the key of `jobs` does.
CREATE INDEX arrays_growing ON arrays (tenant, job_id) WHERE is_growing;

CREATE TABLE array_items (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    first_index integer NOT NULL,
    items text NOT NULL,                    -- JSON array, from that index on
    PRIMARY KEY (tenant, job_id, first_index)
);
