-- Lists of all jobs are merged from `jobs_active` and this; see sqlite/migrations/0021_closed.sql. The drop goes
-- first, for it needs the stronger lock: to ask for that while holding the weaker one may end in a deadlock.

DROP INDEX jobs_created;
-- walk_closed.
CREATE INDEX jobs_closed ON jobs (tenant, created_us, job_id) WHERE ended_us IS NOT NULL;
