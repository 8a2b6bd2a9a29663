-- Output of attempts that ran on other hosts than that of the server, in pieces of at most 64 KiB. A piece without
-- data is a gap: what was over the limit of the job.

CREATE TABLE logs (
    tenant TEXT NOT NULL,
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    begin_at INTEGER NOT NULL,              -- position of its first byte in the stream
    end_at INTEGER NOT NULL,                -- that of the first byte behind it
    data BLOB,
    PRIMARY KEY (tenant, job_id, attempt, stream, begin_at)
) STRICT;
