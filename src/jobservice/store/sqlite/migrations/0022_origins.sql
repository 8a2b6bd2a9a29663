-- Where a worker is that says an id: two that say the same one from two places are copies of one data directory.
-- Empty where nobody said it.
ALTER TABLE workers ADD COLUMN origin TEXT NOT NULL DEFAULT '';
