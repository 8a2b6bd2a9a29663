-- With `- 0` this index fits only the statements that it is for. Else a claim may be planned along it: it begins
-- with the same columns as `jobs_ready`, and where a table is believed to have few rows, reading a whole queue
-- and sorting it looks as cheap as walking along the right index. (4 is QUEUED.)

DROP INDEX jobs_waiting;
-- The depth of a queue, and since when its oldest job waits.
CREATE INDEX jobs_waiting ON jobs (tenant, queue, queued_us) WHERE state - 0 = 4;
