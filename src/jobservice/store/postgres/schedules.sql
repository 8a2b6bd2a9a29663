-- Schedules: when they are due, what becomes of their fires, which jobs they made.

-- fragment: schedule_columns
schedules.tenant, schedules.schedule, spec, edit_version, created_us, updated_us, decided_us, next_us,
    look_us, pause, judged_us, buffered_count, buffered_us, backfill

-- fragment: run_columns
nominal_us, cause, outcome, decided_us, message, job_id, count, first_us

-- name: lock_schedules
-- Lock schedules, in an order that all callers share.
SELECT 1
FROM (SELECT * FROM rows(tenant text, schedule text)) AS wanted
JOIN schedules ON schedules.tenant = wanted.tenant AND schedules.schedule = wanted.schedule
ORDER BY schedules.tenant, schedules.schedule
FOR UPDATE OF schedules

-- name: insert_schedules
-- Keep new schedules. Another server may do so at the same time: one of the two fails, is run again, and
-- then finds it.
INSERT INTO schedules (
    tenant, schedule, spec, edit_version, updated_us, created_us, decided_us, next_us, look_us, pause,
    judged_us, buffered_count, buffered_us, backfill
)
SELECT * FROM rows(
    tenant text, schedule text, spec text, edit_version bigint, updated_us bigint, created_us bigint,
    decided_us bigint, next_us bigint, look_us bigint, pause text, judged_us bigint,
    buffered_count integer, buffered_us bigint, backfill text)

-- name: find_schedules
-- Schedules by name, locked.
SELECT {{schedule_columns}}, run_count
FROM (SELECT * FROM rows(tenant text, schedule text)) AS wanted
JOIN schedules ON schedules.tenant = wanted.tenant AND schedules.schedule = wanted.schedule
ORDER BY schedules.tenant, schedules.schedule
FOR UPDATE OF schedules

-- name: find_due_schedules
-- Schedules at which there is something to decide, the earliest first, but for those that another server
-- is deciding about.
SELECT {{schedule_columns}}, run_count
FROM schedules
WHERE look_us <= $1
ORDER BY look_us
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: edit_schedules
-- Put what a user changed.
UPDATE schedules
SET spec = edited.spec, edit_version = edited.edit_version, updated_us = edited.updated_us
FROM (
    SELECT * FROM rows(
        tenant text, schedule text, spec text, edit_version bigint, updated_us bigint)
) AS edited
WHERE schedules.tenant = edited.tenant AND schedules.schedule = edited.schedule

-- name: wake_schedules
-- Look at once at schedules of which fires wait for the end of a job, now that these jobs have ended. One
-- that another is firing is left out: it may be waiting for one of the jobs, and looks again by itself.
UPDATE schedules
SET look_us = waiting.now_us
FROM (
    SELECT found.*, ended.now_us
    FROM (SELECT * FROM rows(tenant text, job_id text, now_us bigint)) AS ended
    JOIN jobs ON jobs.tenant = ended.tenant AND jobs.job_id = ended.job_id
    CROSS JOIN LATERAL (
        SELECT tenant, schedule FROM schedules
        WHERE schedules.tenant = jobs.tenant AND schedules.schedule = jobs.schedule
            AND schedules.buffered_count > 0 AND schedules.look_us > ended.now_us
        FOR UPDATE SKIP LOCKED
    ) AS found
) AS waiting
WHERE schedules.tenant = waiting.tenant AND schedules.schedule = waiting.schedule

-- name: move_schedules
-- Put what was decided.
UPDATE schedules
SET decided_us = moved.decided_us, next_us = moved.next_us, look_us = moved.look_us,
    pause = moved.pause, judged_us = moved.judged_us, buffered_count = moved.buffered_count,
    buffered_us = moved.buffered_us, backfill = moved.backfill, run_count = run_count + moved.runs
FROM (
    SELECT * FROM rows(
        tenant text, schedule text, decided_us bigint, next_us bigint, look_us bigint, pause text,
        judged_us bigint, buffered_count integer, buffered_us bigint, backfill text, runs bigint)
) AS moved
WHERE schedules.tenant = moved.tenant AND schedules.schedule = moved.schedule

-- name: delete_schedules
-- Remove schedules.
DELETE FROM schedules
USING (SELECT * FROM rows(tenant text, schedule text)) AS gone
WHERE schedules.tenant = gone.tenant AND schedules.schedule = gone.schedule

-- name: delete_runs
-- Remove what became of the fires of schedules.
DELETE FROM schedule_runs
USING (SELECT * FROM rows(tenant text, schedule text)) AS gone
WHERE schedule_runs.tenant = gone.tenant AND schedule_runs.schedule = gone.schedule

-- name: find_active
-- Which schedules, by the numbers of their rows, have a job that is not final.
SELECT wanted.n
FROM (SELECT * FROM rows(n integer, tenant text, schedule text)) AS wanted
CROSS JOIN LATERAL (
    SELECT 1 FROM jobs
    WHERE jobs.tenant = wanted.tenant AND jobs.schedule = wanted.schedule
        AND jobs.schedule IS NOT NULL AND jobs.ended_us IS NULL
    LIMIT 1
) AS active

-- name: find_active_of
-- The jobs of a schedule that are not final.
SELECT job_id FROM jobs
WHERE tenant = $1 AND schedule = $2 AND schedule IS NOT NULL AND ended_us IS NULL
ORDER BY job_id
LIMIT $3

-- name: find_buffered
-- The fires of a schedule that wait, the oldest first.
SELECT nominal_us FROM schedule_runs
WHERE tenant = $1 AND schedule = $2 AND outcome = 2
ORDER BY nominal_us
LIMIT $3

-- name: find_made
-- The times from one on at which a slot of a schedule is taken.
SELECT nominal_us FROM schedule_runs
WHERE tenant = $1 AND schedule = $2 AND nominal_us >= $3 AND slot = $4
ORDER BY nominal_us
LIMIT $5

-- name: find_ends
-- How the jobs of the newest runs ended that succeeded or failed since an instant, the newest end first.
SELECT jobs.state
FROM (
    SELECT tenant, job_id FROM schedule_runs
    WHERE tenant = $1 AND schedule = $2 AND job_id IS NOT NULL
    ORDER BY nominal_us DESC, slot DESC
    LIMIT $3
) AS newest
JOIN jobs ON jobs.tenant = newest.tenant AND jobs.job_id = newest.job_id
WHERE coalesce(jobs.ended_us, 0) > $4 AND jobs.state + 0 IN ({State.SUCCEEDED}, {State.FAILED})
ORDER BY jobs.ended_us DESC, jobs.job_id DESC
LIMIT $5

-- name: insert_runs
-- Record runs that have or get a job; there is one for each nominal time and slot.
INSERT INTO schedule_runs (
    tenant, schedule, nominal_us, slot, cause, outcome, decided_us, message, job_id, count, first_us
)
SELECT * FROM rows(
    tenant text, schedule text, nominal_us bigint, slot smallint, cause smallint, outcome smallint,
    decided_us bigint, message text, job_id text, count integer, first_us bigint)

-- name: note_runs
-- Record runs without a job.
INSERT INTO schedule_runs (
    tenant, schedule, nominal_us, slot, cause, outcome, decided_us, message, job_id, count, first_us
)
SELECT * FROM rows(
    tenant text, schedule text, nominal_us bigint, slot smallint, cause smallint, outcome smallint,
    decided_us bigint, message text, job_id text, count integer, first_us bigint)
ON CONFLICT (tenant, schedule, nominal_us, slot) DO UPDATE
SET cause = excluded.cause, outcome = excluded.outcome, decided_us = excluded.decided_us,
    message = excluded.message, count = excluded.count, first_us = excluded.first_us

-- name: release_runs
-- Fires that waited are made.
UPDATE schedule_runs
SET outcome = released.outcome, job_id = released.job_id, decided_us = released.now_us
FROM (
    SELECT * FROM rows(
        tenant text, schedule text, nominal_us bigint, slot smallint, previous_outcome smallint,
        outcome smallint, job_id text, now_us bigint)
) AS released
WHERE schedule_runs.tenant = released.tenant AND schedule_runs.schedule = released.schedule
    AND schedule_runs.nominal_us = released.nominal_us AND schedule_runs.slot = released.slot
    AND schedule_runs.outcome = released.previous_outcome

-- name: prune_runs
-- Drop all runs of a schedule but the newest, and those that wait.
DELETE FROM schedule_runs
USING (
    SELECT given.tenant, given.schedule, newest.nominal_us
    FROM (SELECT * FROM rows(tenant text, schedule text, kept bigint)) AS given
    CROSS JOIN LATERAL (
        SELECT nominal_us FROM schedule_runs
        WHERE schedule_runs.tenant = given.tenant AND schedule_runs.schedule = given.schedule
        ORDER BY nominal_us DESC
        LIMIT 1 OFFSET given.kept - 1
    ) AS newest
) AS pruned
WHERE schedule_runs.tenant = pruned.tenant AND schedule_runs.schedule = pruned.schedule
    AND schedule_runs.nominal_us < pruned.nominal_us AND schedule_runs.outcome + 0 <> 2

-- --- reads: on connections that cannot write ---

-- name: find_schedule
-- One schedule.
SELECT {{schedule_columns}} FROM schedules WHERE tenant = $1 AND schedule = $2

-- name: list_schedules
-- Schedules by name.
SELECT {{schedule_columns}} FROM schedules
WHERE tenant = $1 AND schedule > $2
ORDER BY schedule
LIMIT $3

-- name: list_all_schedules
-- Schedules of all tenants in order, from one on.
SELECT {{schedule_columns}} FROM schedules
WHERE (tenant, schedule) > ($1, $2)
ORDER BY tenant, schedule
LIMIT $3

-- name: list_runs
-- Runs of a schedule, the newest nominal time first.
SELECT {{run_columns}}, slot FROM schedule_runs
WHERE tenant = $1 AND schedule = $2 AND (nominal_us, slot) < ($3, $4)
ORDER BY nominal_us DESC, slot DESC
LIMIT $5

-- name: next_look
-- When there is something to decide at a schedule.
SELECT min(look_us) FROM schedules WHERE look_us IS NOT NULL
