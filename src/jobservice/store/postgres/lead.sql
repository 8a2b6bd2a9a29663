-- The lead: which of the servers does what only one may do.

-- name: find_lead
-- Who leads, and whether that lease is over.
SELECT server, epoch, expires_at <= clock_timestamp() FROM lead WHERE the_one

-- name: lock_lead
-- Wait until no transaction is open that obeys the lead; none begins until the commit.
SELECT 1 FROM pg_advisory_xact_lock(7305808869231650164)

-- name: take_lead
-- Lead under a new epoch where the lease before is over, or was this server's own.
INSERT INTO lead (server, epoch, expires_at)
VALUES ($1, 1, clock_timestamp() + $2 * interval '1 microsecond')
ON CONFLICT (the_one) DO UPDATE
SET server = excluded.server, epoch = lead.epoch + 1, expires_at = excluded.expires_at
WHERE lead.server = excluded.server OR lead.expires_at <= clock_timestamp()
RETURNING epoch

-- name: renew_lead
-- Lead on under the same epoch.
UPDATE lead
SET expires_at = clock_timestamp() + $3 * interval '1 microsecond'
WHERE the_one AND server = $1 AND epoch = $2

-- name: leave_lead
-- Lead no more: the epoch is over, and so is the lease.
UPDATE lead
SET server = '', epoch = epoch + 1, expires_at = '-infinity'
WHERE the_one AND server = $1 AND epoch = $2

-- name: find_obeyed
-- The epoch that is obeyed until the commit.
SELECT obeyed_epoch()
