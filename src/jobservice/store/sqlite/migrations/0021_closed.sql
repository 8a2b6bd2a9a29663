-- Each job is in one index of the order of creation: in `jobs_active` until it is final, then in `jobs_closed`.
-- Lists of all jobs merge the two. `jobs_created` had all jobs: one entry more for each that was not final.

DROP INDEX jobs_created;
-- walk_closed (`ended_us` is in it only so that a walk need not look at the rows).
CREATE INDEX jobs_closed ON jobs (tenant, created_us, job_id, ended_us) WHERE ended_us IS NOT NULL;
