-- Unique keys. The name is looked up with what the row of the job says of itself; what else the key of a
-- job says is about its own creation.

ALTER TABLE jobs ADD COLUMN unique_name text COLLATE "C";       -- NULL where it has none
ALTER TABLE job_specs ADD COLUMN unique_key text COLLATE "C";   -- JSON array, see store/rows.py

-- find_duplicate, find_duplicates. Nothing is in it of jobs without such a key.
CREATE INDEX jobs_unique ON jobs (tenant, unique_name, state, created_us, job_id)
    WHERE unique_name IS NOT NULL;
