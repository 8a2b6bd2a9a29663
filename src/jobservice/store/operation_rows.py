"""Operations out of rows; see `rows.py`."""

from jobservice.clock import from_us
from jobservice.model.operation import Action, BulkChange, Operation, OperationState, Place
from jobservice.store.rows import Columns, instant_or_none

BEHIND_ALL = "p"
"""Behind every id of an operation, in the order of texts."""


def operation_of(row: Columns) -> Operation:
    """An operation out of the columns of the fragment `operation_columns`."""
    (
        tenant,
        operation_id,
        filter_,
        action,
        priority,
        reason,
        max_per_second,
        created_us,
        updated_us,
        due_us,
        state,
        place_us,
        place_job_id,
        done_count,
        skipped_count,
        failed_count,
        ended_us,
    ) = row
    return Operation(
        tenant=tenant,
        operation_id=operation_id,
        change=BulkChange(filter_, Action(action), priority, reason, max_per_second),
        created_at=from_us(created_us),
        updated_at=from_us(updated_us),
        due_at=from_us(due_us),
        state=OperationState(state),
        place=None if place_us is None else Place(from_us(place_us), place_job_id),
        done_count=done_count,
        skipped_count=skipped_count,
        failed_count=failed_count,
        ended_at=instant_or_none(ended_us),
    )
