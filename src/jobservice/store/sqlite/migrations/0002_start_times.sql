-- The earliest start of a job, as it was asked for. While the job waits for it, `start_us` has it.
ALTER TABLE jobs ADD COLUMN start_after_us INTEGER;
ALTER TABLE jobs ADD COLUMN start_delay_us INTEGER;
