-- Schedules, what became of their fires, and which jobs they made. See the file of the SQLite store for
-- why it is as it is.

CREATE TABLE schedules (
    tenant text COLLATE "C" NOT NULL,
    schedule text COLLATE "C" NOT NULL,
    spec text NOT NULL,                     -- JSON, see jobservice/store/spec_text.py
    edit_version bigint NOT NULL,
    created_us bigint NOT NULL,
    updated_us bigint NOT NULL,
    decided_us bigint NOT NULL,             -- no fire up to it is made by itself any more
    next_us bigint,                         -- the nominal time of the next fire
    look_us bigint,                         -- when there is something to decide; NULL is never
    pause text,                             -- JSON, see model/schedule.py; NULL where it is not paused
    judged_us bigint,                       -- only jobs that ended later count as failures in a row
    buffered_count integer NOT NULL,
    buffered_us bigint,                     -- since when
    backfill text,                          -- JSON of the newest, see model/schedule.py
    run_count bigint NOT NULL DEFAULT 0,    -- how many runs were ever recorded
    PRIMARY KEY (tenant, schedule)
);

-- find_due_schedules.
CREATE INDEX schedules_due ON schedules (look_us) WHERE look_us IS NOT NULL;

CREATE TABLE schedule_runs (
    tenant text COLLATE "C" NOT NULL,
    schedule text COLLATE "C" NOT NULL,
    nominal_us bigint NOT NULL,
    slot smallint NOT NULL,
    cause smallint NOT NULL,
    outcome smallint NOT NULL,
    decided_us bigint NOT NULL,
    message text NOT NULL,
    job_id text COLLATE "C",                -- NULL where none was made
    count integer NOT NULL,                 -- how many fires it stands for
    first_us bigint                         -- the nominal time of the first of several
);

-- find_buffered (2 is BUFFERED).
CREATE INDEX schedule_runs_buffered ON schedule_runs (tenant, schedule, nominal_us) WHERE outcome = 2;
-- By key; last, as that of jobs.
ALTER TABLE schedule_runs ADD PRIMARY KEY (tenant, schedule, nominal_us, slot);

-- Which schedule made a job, and for which nominal time; NULL where none did.
ALTER TABLE jobs ADD COLUMN schedule text COLLATE "C";
ALTER TABLE jobs ADD COLUMN schedule_us bigint;

-- find_active_of: jobs of schedules that are not final.
CREATE INDEX jobs_of_schedules ON jobs (tenant, schedule, job_id)
    WHERE schedule IS NOT NULL AND ended_us IS NULL;
