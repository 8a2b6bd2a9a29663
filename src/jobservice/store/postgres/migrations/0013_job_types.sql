-- Jobs are of types, which limits and filters name; '' is none.
ALTER TABLE jobs ADD COLUMN job_type text COLLATE "C" NOT NULL DEFAULT '';
