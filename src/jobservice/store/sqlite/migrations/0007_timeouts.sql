-- How long a job may wait in the queue, and take all in all.
ALTER TABLE jobs ADD COLUMN queue_timeout_us INTEGER;
ALTER TABLE jobs ADD COLUMN total_timeout_us INTEGER;
ALTER TABLE jobs ADD COLUMN deadline_us INTEGER;
-- Since when `total_timeout_us` counts, and when all of it is over: see jobservice/model/bounds.py.
ALTER TABLE jobs ADD COLUMN counted_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN expires_us INTEGER;
-- Until when it may be QUEUED; set whenever it becomes so, and looked at only while it is.
ALTER TABLE jobs ADD COLUMN queue_until_us INTEGER;

UPDATE jobs SET counted_us = created_us;

-- time_out_jobs (4 is QUEUED; below 6, STOPPING, are all states that may still be ended).
CREATE INDEX jobs_impatient ON jobs (queue_until_us) WHERE state = 4 AND queue_until_us IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (expires_us) WHERE state < 6 AND expires_us IS NOT NULL;
