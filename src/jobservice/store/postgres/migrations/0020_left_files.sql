-- Directories of attempts that are left at servers although the job was deleted: another server did it, and cannot
-- reach them. A server removes those of its own worker, and then their rows. Whoever leads deletes jobs and forgets
-- workers over one connection, so that no row comes while its worker goes.

CREATE TABLE left_files (
    -- A worker that is forgotten does not come back for them.
    worker_id text COLLATE "C" NOT NULL REFERENCES workers ON DELETE CASCADE,
    job_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    PRIMARY KEY (worker_id, job_id, attempt)
);
