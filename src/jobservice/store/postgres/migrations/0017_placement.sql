-- What jobs ask of their worker; see sqlite/migrations/0017_placement.sql.

ALTER TABLE jobs ADD COLUMN placement text COLLATE "C" NOT NULL DEFAULT '';  -- JSON array, see model/placements.py

DROP INDEX jobs_ready;
-- find_lanes, find_claimable: the lanes, each in its order (4 is QUEUED).
CREATE INDEX jobs_ready ON jobs (
    tenant, queue, fairness_key, placement, claim_key, rank, job_id
) WHERE state = 4 AND blocked_key = '';
-- find_taken: what the live attempts of a worker take.
CREATE INDEX jobs_placed ON jobs (worker_id, placement)
    WHERE lease_until_us IS NOT NULL AND placement <> '';
