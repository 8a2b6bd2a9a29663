-- How long an attempt may be silent.
ALTER TABLE jobs ADD COLUMN idle_timeout_us INTEGER;
