-- Which jobs that are not final name a concurrency key: for jobs that do something else than to wait for it.
-- A row of a job that has become final may be left; whoever reads looks at the job.

CREATE TABLE job_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    job_id TEXT NOT NULL,
    PRIMARY KEY (tenant, key, job_id)
) STRICT, WITHOUT ROWID;

INSERT INTO job_keys (tenant, key, job_id)
SELECT jobs.tenant, each.value ->> 0, jobs.job_id
FROM jobs, json_each(jobs.keys) AS each
WHERE jobs.keys <> '' AND jobs.ended_us IS NULL;
