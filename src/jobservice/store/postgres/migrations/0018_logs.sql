-- Output of attempts; see sqlite/migrations/0018_logs.sql.

CREATE TABLE logs (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    stream smallint NOT NULL,
    begin_at bigint NOT NULL,
    end_at bigint NOT NULL,
    data bytea,
    PRIMARY KEY (tenant, job_id, attempt, stream, begin_at)
);
