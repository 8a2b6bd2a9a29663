-- Schedules, what became of their fires, and which jobs they made.
--
-- * When a schedule is looked at next is in its row, `look_us`, so that finding what is due is a walk along
--   one index, however many schedules there are. Timer, buffer and backfill share it.
-- * A run that makes a job is keyed by its nominal time and written in the transaction that makes the
--   job: the key is what keeps a second server, or one that was killed, from making it twice. `slot` tells
--   apart what may share a nominal time: 0 made no job, 1 is the fire of that time, 2 was triggered.
-- * Whether a job of a schedule is active is read from the jobs, never from a counter beside them.

CREATE TABLE schedules (
    tenant TEXT NOT NULL,
    schedule TEXT NOT NULL,
    spec TEXT NOT NULL,                     -- JSON, see jobservice/store/spec_text.py
    edit_version INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    decided_us INTEGER NOT NULL,            -- no fire up to it is made by itself any more
    next_us INTEGER,                        -- the nominal time of the next fire
    look_us INTEGER,                        -- when there is something to decide; NULL is never
    pause TEXT,                             -- JSON, see model/schedule.py; NULL where it is not paused
    judged_us INTEGER,                      -- only jobs that ended later count as failures in a row
    buffered_count INTEGER NOT NULL,
    buffered_us INTEGER,                    -- since when
    backfill TEXT,                          -- JSON of the newest, see model/schedule.py
    run_count INTEGER NOT NULL DEFAULT 0,   -- how many runs were ever recorded
    PRIMARY KEY (tenant, schedule)
) STRICT, WITHOUT ROWID;

-- find_due_schedules.
CREATE INDEX schedules_due ON schedules (look_us) WHERE look_us IS NOT NULL;

CREATE TABLE schedule_runs (
    tenant TEXT NOT NULL,
    schedule TEXT NOT NULL,
    nominal_us INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    cause INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    decided_us INTEGER NOT NULL,
    message TEXT NOT NULL,
    job_id TEXT,                            -- NULL where none was made
    count INTEGER NOT NULL,                 -- how many fires it stands for
    first_us INTEGER,                       -- the nominal time of the first of several
    PRIMARY KEY (tenant, schedule, nominal_us, slot)
) STRICT, WITHOUT ROWID;

-- find_buffered (2 is BUFFERED).
CREATE INDEX schedule_runs_buffered ON schedule_runs (tenant, schedule, nominal_us) WHERE outcome = 2;

-- Which schedule made a job, and for which nominal time; NULL where none did.
ALTER TABLE jobs ADD COLUMN schedule TEXT;
ALTER TABLE jobs ADD COLUMN schedule_us INTEGER;

-- find_active_of: jobs of schedules that are not final.
CREATE INDEX jobs_of_schedules ON jobs (tenant, schedule, job_id)
    WHERE schedule IS NOT NULL AND ended_us IS NULL;
