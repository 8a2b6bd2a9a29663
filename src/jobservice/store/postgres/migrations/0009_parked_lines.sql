-- Those that are parked for a key stand in a line for each queue: a pause or the limit of one queue keeps
-- nobody of another from the key. And a job that no longer waits is parked for nothing.

UPDATE jobs SET blocked_key = '' WHERE state <> 4 AND blocked_key <> '';

DROP INDEX jobs_parked;
-- find_waiters, find_lines: who waits for a key in a queue, in order (4 is QUEUED).
CREATE INDEX jobs_parked ON jobs (tenant, blocked_key, queue, claim_key, rank, job_id)
    WHERE state = 4 AND blocked_key <> '';
