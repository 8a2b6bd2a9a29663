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
FROM (SELECT * FROM rows(
    worker_id text, host text, version text, slots bigint, labels text, resources text,
    embedded boolean, now_us bigint, origin text)) AS said
ON CONFLICT (worker_id) DO UPDATE
SET host = excluded.host, version = excluded.version, slots = excluded.slots,
    labels = excluded.labels, resources = excluded.resources, embedded = excluded.embedded,
    contact_us = excluded.contact_us, origin = excluded.origin
WHERE workers.origin IN ('', excluded.origin) OR excluded.origin = ''

-- name: leave_origins
-- Who said an id is not heard of any more: let another say it, unless that one was heard of just now.
UPDATE workers
SET origin = ''
FROM (SELECT * FROM rows(worker_id text, origin text, contact_us bigint)) AS left_by
WHERE workers.worker_id = left_by.worker_id AND workers.origin = left_by.origin
    AND workers.contact_us = left_by.contact_us

-- name: note_contacts
-- Workers were heard of; their clocks or ours may have been set back.
UPDATE workers
SET contact_us = heard.now_us, minds_silence = heard.minds_silence
FROM (SELECT * FROM rows(worker_id text, now_us bigint, minds_silence boolean)) AS heard
WHERE workers.worker_id = heard.worker_id

-- name: find_company
-- Whether other workers than this one were heard of since an instant.
SELECT EXISTS (SELECT 1 FROM workers WHERE worker_id <> $1 AND contact_us > $2)

-- name: drain_workers
-- Keep workers from claiming, or let them again; who drained one first did it.
UPDATE workers
SET drain_us = CASE WHEN drained.drain_us IS NULL THEN NULL
        ELSE coalesce(workers.drain_us, drained.drain_us) END,
    drain_reason = drained.drain_reason
FROM (SELECT * FROM rows(worker_id text, drain_us bigint, drain_reason text)) AS drained
WHERE workers.worker_id = drained.worker_id

-- name: forget_workers
-- Drop workers that were not heard of since an instant and hold no lease.
DELETE FROM workers
WHERE contact_us < $1 AND NOT EXISTS (
    SELECT 1 FROM jobs
    WHERE jobs.lease_until_us IS NOT NULL AND jobs.worker_id = workers.worker_id)

-- name: find_worker
-- One worker, with how many leases it holds.
SELECT {{worker_columns}}, (
    SELECT count(*) FROM jobs
    WHERE jobs.lease_until_us IS NOT NULL AND jobs.worker_id = workers.worker_id)
FROM workers
WHERE workers.worker_id = $1

-- name: list_workers
-- Workers by id, behind one, without how many leases they hold.
SELECT {{worker_columns}}, 0 FROM workers
WHERE workers.worker_id > $1
ORDER BY workers.worker_id
LIMIT $2

-- name: count_leases
-- How many leases each holder has.
SELECT worker_id, count(*) FROM jobs
WHERE lease_until_us IS NOT NULL
GROUP BY worker_id

-- name: list_left_files
-- Deleted jobs whose files are left with a worker, by id, behind one.
SELECT job_id, max(attempt) FROM left_files
WHERE worker_id = $1 AND job_id > $2
GROUP BY job_id
ORDER BY job_id
LIMIT $3

-- name: forget_left_files
-- Their files are left no more.
DELETE FROM left_files WHERE worker_id = $1 AND job_id = ANY ($2)
