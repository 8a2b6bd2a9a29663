-- Operations: changes of many jobs by a filter, moved on batch by batch.

-- fragment: operation_columns
tenant, operation_id, filter, action, priority, reason, max_per_second, created_us, updated_us, due_us,
    state, place_us, place_job_id, done_count, skipped_count, failed_count, ended_us

-- name: insert_operations
-- Begin operations; one whose request id is known is left out.
INSERT INTO operations (
    tenant, operation_id, filter, action, priority, reason, max_per_second, request_id, created_us,
    updated_us, due_us, state, done_count, skipped_count, failed_count)
VALUES /*each*/ (
    :tenant, :operation_id, :filter, :action, :priority, :reason, :max_per_second, :request_id,
    :created_us, :updated_us, :due_us, {OperationState.RUNNING}, 0, 0, 0) /*end*/
ON CONFLICT DO NOTHING

-- name: find_operation_of_request
-- What a request id began.
SELECT json_group_array(json_array({{operation_columns}})) FROM operations
WHERE tenant = ? AND request_id = ?

-- name: count_running
-- How many operations of a tenant go on.
SELECT json_group_array(json_array(running))
FROM (
    SELECT count(*) AS running FROM operations INDEXED BY operations_running
    WHERE state = {OperationState.RUNNING} AND tenant = ?)

-- name: lock_operation
-- An operation that is about to be moved on.
SELECT json_group_array(json_array({{operation_columns}})) FROM operations
WHERE tenant = ? AND operation_id = ?

-- name: step_operation
-- Move an operation on that has not ended: counts, place, and perhaps the end.
UPDATE operations
SET done_count = done_count + ?3, skipped_count = skipped_count + ?4,
    failed_count = failed_count + ?5, place_us = ?6, place_job_id = ?7, due_us = ?8, state = ?9,
    ended_us = ?10, updated_us = ?11
WHERE tenant = ?1 AND operation_id = ?2 AND ended_us IS NULL

-- name: forget_operations
-- Drop operations that ended long ago.
DELETE FROM operations WHERE (tenant, operation_id) IN (
    SELECT tenant, operation_id FROM operations WHERE ended_us < ? ORDER BY ended_us LIMIT ?)

-- name: find_operation
-- One operation.
SELECT {{operation_columns}} FROM operations WHERE tenant = ? AND operation_id = ?

-- name: list_operations
-- Operations of a tenant that are older than one of them, the newest first.
SELECT {{operation_columns}} FROM operations
WHERE tenant = ? AND operation_id < ?
ORDER BY operation_id DESC
LIMIT ?

-- name: list_running
-- Operations that go on, the one that is due first in front.
SELECT {{operation_columns}} FROM operations
WHERE state = {OperationState.RUNNING}
ORDER BY due_us, tenant, operation_id
LIMIT ?
