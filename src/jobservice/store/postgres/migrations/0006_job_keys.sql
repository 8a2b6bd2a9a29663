-- Which jobs that are not final name a concurrency key: for jobs that do something else than to wait for it.
-- A row of a job that has become final may be left; whoever reads looks at the job.

CREATE TABLE job_keys (
    tenant text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, key, job_id)
);

INSERT INTO job_keys (tenant, key, job_id)
SELECT jobs.tenant, each.value ->> 0, jobs.job_id
FROM jobs CROSS JOIN LATERAL json_array_elements(nullif(jobs.keys, '')::json) AS each (value)
WHERE jobs.keys <> '' AND jobs.ended_us IS NULL;
