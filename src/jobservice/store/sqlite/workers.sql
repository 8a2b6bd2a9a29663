-- Workers: who runs attempts.

-- fragment: worker_columns
workers.worker_id, host, version, slots, workers.labels, resources, embedded, registered_us, contact_us,
    drain_us, drain_reason, origin

-- name: register_workers
-- Put what workers say of themselves; whether they are drained, and mind silence, stays. Nothing of one
-- whose id somebody says elsewhere.
INSERT INTO workers (
    worker_id, host, version, slots, labels, resources, embedded, registered_us, contact_us, origin
)
SELECT worker_id, host, version, slots, labels, resources, embedded, now_us, now_us, origin
FROM (
    SELECT
        column1 AS worker_id, column2 AS host, column3 AS version, column4 AS slots,
        column5 AS labels, column6 AS resources, column7 AS embedded, column8 AS now_us,
        column9 AS origin
    FROM (VALUES /*each*/ (
        :worker_id, :host, :version, :slots, :labels, :resources, :embedded, :now_us, :origin)
        /*end*/)
)
WHERE true
ON CONFLICT (worker_id) DO UPDATE
SET host = excluded.host, version = excluded.version, slots = excluded.slots,
    labels = excluded.labels, resources = excluded.resources, embedded = excluded.embedded,
    contact_us = excluded.contact_us, origin = excluded.origin
WHERE workers.origin IN ('', excluded.origin) OR excluded.origin = ''

-- name: leave_origins
-- Who said an id is not heard of any more: let another say it, unless that one was heard of just now.
WITH left_by (worker_id, origin, contact_us) AS (
    VALUES /*each*/ (:worker_id, :origin, :contact_us) /*end*/)
UPDATE workers
SET origin = ''
FROM left_by
WHERE workers.worker_id = left_by.worker_id AND workers.origin = left_by.origin
    AND workers.contact_us = left_by.contact_us

-- name: note_contacts
-- Workers were heard of; their clocks or ours may have been set back.
WITH heard (worker_id, now_us, minds_silence) AS (
    VALUES /*each*/ (:worker_id, :now_us, :minds_silence) /*end*/)
UPDATE workers
SET contact_us = heard.now_us, minds_silence = heard.minds_silence
FROM heard
WHERE workers.worker_id = heard.worker_id

-- name: find_company
-- Whether other workers than this one were heard of since an instant.
SELECT json_array(json_array(EXISTS (SELECT 1 FROM workers WHERE worker_id <> ?1 AND contact_us > ?2)))

-- name: drain_workers
-- Keep workers from claiming, or let them again; who drained one first did it.
WITH drained (worker_id, drain_us, drain_reason) AS (
    VALUES /*each*/ (:worker_id, :drain_us, :drain_reason) /*end*/)
UPDATE workers
SET drain_us = CASE WHEN drained.drain_us IS NULL THEN NULL
        ELSE coalesce(workers.drain_us, drained.drain_us) END,
    drain_reason = drained.drain_reason
FROM drained
WHERE workers.worker_id = drained.worker_id

-- name: forget_workers
-- Drop workers that were not heard of since an instant and hold no lease.
DELETE FROM workers
WHERE contact_us < ?1 AND NOT EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_leased
    WHERE jobs.lease_until_us IS NOT NULL AND jobs.worker_id = workers.worker_id)

-- name: find_worker
-- One worker, with how many leases it holds.
SELECT json_group_array(json_array(
    {{worker_columns}}, (
        SELECT count(*) FROM jobs INDEXED BY jobs_leased
        WHERE jobs.lease_until_us IS NOT NULL AND jobs.worker_id = workers.worker_id)))
FROM workers
WHERE workers.worker_id = ?1

-- name: list_workers
-- Workers by id, behind one, without how many leases they hold.
SELECT {{worker_columns}}, 0 FROM workers
WHERE workers.worker_id > ?1
ORDER BY workers.worker_id
LIMIT ?2

-- name: count_leases
-- How many leases each holder has.
SELECT worker_id, count(*) FROM jobs INDEXED BY jobs_leased
WHERE lease_until_us IS NOT NULL
GROUP BY worker_id
