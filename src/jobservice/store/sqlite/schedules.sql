-- Schedules: when they are due, what becomes of their fires, which jobs they made.

-- fragment: schedule_columns
schedules.tenant, schedules.schedule, spec, edit_version, created_us, updated_us, decided_us, next_us,
    look_us, pause, judged_us, buffered_count, buffered_us, backfill

-- fragment: run_columns
nominal_us, cause, outcome, decided_us, message, job_id, count, first_us

-- name: insert_schedules
-- Keep new schedules.
INSERT INTO schedules (
    tenant, schedule, spec, edit_version, updated_us, created_us, decided_us, next_us, look_us, pause,
    judged_us, buffered_count, buffered_us, backfill
)
VALUES /*each*/ (
    :tenant, :schedule, :spec, :edit_version, :updated_us, :created_us, :decided_us, :next_us, :look_us,
    :pause, :judged_us, :buffered_count, :buffered_us, :backfill) /*end*/

-- name: find_schedules
-- Schedules by name.
WITH wanted (tenant, schedule) AS (VALUES /*each*/ (:tenant, :schedule) /*end*/)
SELECT json_group_array(json_array({{schedule_columns}}, run_count))
FROM wanted CROSS JOIN schedules
WHERE schedules.tenant = wanted.tenant AND schedules.schedule = wanted.schedule

-- name: find_due_schedules
-- Schedules at which there is something to decide, the earliest first.
SELECT json_group_array(json_array({{schedule_columns}}, run_count))
FROM (SELECT * FROM schedules WHERE look_us <= ? ORDER BY look_us LIMIT ?) AS schedules

-- name: edit_schedules
-- Put what a user changed.
WITH edited (tenant, schedule, spec, edit_version, updated_us) AS (
    VALUES /*each*/ (:tenant, :schedule, :spec, :edit_version, :updated_us) /*end*/)
UPDATE schedules
SET spec = edited.spec, edit_version = edited.edit_version, updated_us = edited.updated_us
FROM edited
WHERE schedules.tenant = edited.tenant AND schedules.schedule = edited.schedule

-- name: wake_schedules
-- Look at once at schedules of which fires wait for the end of a job, now that these jobs have ended.
WITH ended (tenant, job_id, now_us) AS (VALUES /*each*/ (:tenant, :job_id, :now_us) /*end*/)
UPDATE schedules
SET look_us = (SELECT min(now_us) FROM ended)
WHERE (tenant, schedule) IN (
        SELECT jobs.tenant, jobs.schedule FROM ended CROSS JOIN jobs
        WHERE jobs.tenant = ended.tenant AND jobs.job_id = ended.job_id)
    AND buffered_count > 0 AND look_us > (SELECT min(now_us) FROM ended)

-- name: move_schedules
-- Put what was decided.
WITH moved (
    tenant, schedule, decided_us, next_us, look_us, pause, judged_us, buffered_count, buffered_us,
    backfill, runs
) AS (
    VALUES /*each*/ (
        :tenant, :schedule, :decided_us, :next_us, :look_us, :pause, :judged_us, :buffered_count,
        :buffered_us, :backfill, :runs) /*end*/)
UPDATE schedules
SET decided_us = moved.decided_us, next_us = moved.next_us, look_us = moved.look_us,
    pause = moved.pause, judged_us = moved.judged_us, buffered_count = moved.buffered_count,
    buffered_us = moved.buffered_us, backfill = moved.backfill, run_count = run_count + moved.runs
FROM moved
WHERE schedules.tenant = moved.tenant AND schedules.schedule = moved.schedule

-- name: delete_schedules
-- Remove schedules.
WITH gone (tenant, schedule) AS (VALUES /*each*/ (:tenant, :schedule) /*end*/)
DELETE FROM schedules WHERE (tenant, schedule) IN (SELECT * FROM gone)

-- name: delete_runs
-- Remove what became of the fires of schedules.
WITH gone (tenant, schedule) AS (VALUES /*each*/ (:tenant, :schedule) /*end*/)
DELETE FROM schedule_runs WHERE (tenant, schedule) IN (SELECT * FROM gone)

-- name: find_active
-- Which schedules, by the numbers of their rows, have a job that is not final.
WITH wanted (n, tenant, schedule) AS (VALUES /*each*/ (:n, :tenant, :schedule) /*end*/)
SELECT json_group_array(json_array(n))
FROM wanted
WHERE EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_of_schedules
    WHERE jobs.tenant = wanted.tenant AND jobs.schedule = wanted.schedule
        AND jobs.schedule IS NOT NULL AND jobs.ended_us IS NULL)

-- name: find_active_of
-- The jobs of a schedule that are not final.
SELECT json_group_array(json_array(job_id))
FROM (
    SELECT job_id FROM jobs INDEXED BY jobs_of_schedules
    WHERE tenant = ? AND schedule = ? AND schedule IS NOT NULL AND ended_us IS NULL
    ORDER BY job_id
    LIMIT ?)

-- name: find_buffered
-- The fires of a schedule that wait, the oldest first.
SELECT json_group_array(json_array(nominal_us))
FROM (
    SELECT nominal_us FROM schedule_runs INDEXED BY schedule_runs_buffered
    WHERE tenant = ? AND schedule = ? AND outcome = 2
    ORDER BY nominal_us
    LIMIT ?)

-- name: find_made
-- The times from one on at which a slot of a schedule is taken.
SELECT json_group_array(json_array(nominal_us))
FROM (
    SELECT nominal_us FROM schedule_runs
    WHERE tenant = ? AND schedule = ? AND nominal_us >= ? AND slot = ?
    ORDER BY nominal_us
    LIMIT ?)

-- name: find_ends
-- How the jobs of the newest runs ended that succeeded or failed since an instant, the newest end first.
SELECT json_group_array(json_array(state))
FROM (
    SELECT jobs.state
    FROM (
        SELECT tenant, job_id FROM schedule_runs
        WHERE tenant = ? AND schedule = ? AND job_id IS NOT NULL
        ORDER BY nominal_us DESC, slot DESC
        LIMIT ?
    ) AS newest CROSS JOIN jobs
    WHERE jobs.tenant = newest.tenant AND jobs.job_id = newest.job_id AND jobs.ended_us > ?
        AND jobs.state IN ({State.SUCCEEDED}, {State.FAILED})
    ORDER BY jobs.ended_us DESC, jobs.job_id DESC
    LIMIT ?)

-- name: insert_runs
-- Record runs that have or get a job; there is one for each nominal time and slot.
INSERT INTO schedule_runs (
    tenant, schedule, nominal_us, slot, cause, outcome, decided_us, message, job_id, count, first_us
)
VALUES /*each*/ (
    :tenant, :schedule, :nominal_us, :slot, :cause, :outcome, :decided_us, :message, :job_id, :count,
    :first_us) /*end*/

-- name: note_runs
-- Record runs without a job.
INSERT INTO schedule_runs (
    tenant, schedule, nominal_us, slot, cause, outcome, decided_us, message, job_id, count, first_us
)
VALUES /*each*/ (
    :tenant, :schedule, :nominal_us, :slot, :cause, :outcome, :decided_us, :message, :job_id, :count,
    :first_us) /*end*/
ON CONFLICT (tenant, schedule, nominal_us, slot) DO UPDATE
SET cause = excluded.cause, outcome = excluded.outcome, decided_us = excluded.decided_us,
    message = excluded.message, count = excluded.count, first_us = excluded.first_us

-- name: release_runs
-- Fires that waited are made.
WITH released (tenant, schedule, nominal_us, slot, previous_outcome, outcome, job_id, now_us) AS (
    VALUES /*each*/ (
        :tenant, :schedule, :nominal_us, :slot, :previous_outcome, :outcome, :job_id, :now_us) /*end*/)
UPDATE schedule_runs
SET outcome = released.outcome, job_id = released.job_id, decided_us = released.now_us
FROM released
WHERE schedule_runs.tenant = released.tenant AND schedule_runs.schedule = released.schedule
    AND schedule_runs.nominal_us = released.nominal_us AND schedule_runs.slot = released.slot
    AND schedule_runs.outcome = released.previous_outcome

-- name: prune_runs
-- Drop all runs of a schedule but the newest, and those that wait.
WITH pruned (tenant, schedule, kept) AS (VALUES /*each*/ (:tenant, :schedule, :kept) /*end*/)
DELETE FROM schedule_runs
WHERE tenant = (SELECT tenant FROM pruned) AND schedule = (SELECT schedule FROM pruned)
    AND outcome <> 2
    AND nominal_us < (
        SELECT newest.nominal_us FROM schedule_runs AS newest
        WHERE newest.tenant = (SELECT tenant FROM pruned)
            AND newest.schedule = (SELECT schedule FROM pruned)
        ORDER BY newest.nominal_us DESC
        LIMIT 1 OFFSET (SELECT kept - 1 FROM pruned))

-- --- reads: on connections that cannot write ---

-- name: find_schedule
-- One schedule.
SELECT {{schedule_columns}} FROM schedules WHERE tenant = ? AND schedule = ?

-- name: list_schedules
-- Schedules by name.
SELECT {{schedule_columns}} FROM schedules
WHERE tenant = ? AND schedule > ?
ORDER BY schedule
LIMIT ?

-- name: list_all_schedules
-- Schedules of all tenants in order, from one on.
SELECT {{schedule_columns}} FROM schedules
WHERE (tenant, schedule) > (?, ?)
ORDER BY tenant, schedule
LIMIT ?

-- name: list_runs
-- Runs of a schedule, the newest nominal time first.
SELECT {{run_columns}}, slot FROM schedule_runs
WHERE tenant = ? AND schedule = ? AND (nominal_us, slot) < (?, ?)
ORDER BY nominal_us DESC, slot DESC
LIMIT ?

-- name: next_look
-- When there is something to decide at a schedule.
SELECT min(look_us) FROM schedules WHERE look_us IS NOT NULL
