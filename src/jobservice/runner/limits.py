"""Every bound and period of the runner, in one place.

Sizes are in bytes, times in seconds unless the name says otherwise. What an operator may want to
change is also a flag of `jobservice.runner` and has its default here; the rest is a constant since
no setting of it was ever worth a knob.
"""

# --- talking to the worker ---------------------------------------------------------------------

FRAME_LIMIT_BYTES = 32 * 1024 * 1024
"""The largest frame that is read or written; a longer one closes the connection."""

RECEIVE_BYTES = 256 * 1024
"""Read from the connection in one turn of the loop, so that a flood of orders starves nobody."""

BACKLOG_BYTES = 4 * 1024 * 1024
"""Reports wait in their (bounded) tables while more than this is unsent to a slow worker."""

REPORTS_PER_FRAME = 2000
"""Reports in one frame; with messages of 4 KiB a frame stays below its limit."""

COALESCE_S = 0.008
"""How long an end may wait for company, when there is a crowd."""

COALESCE_LIVE = 4
"""A crowd is more live attempts than this; with fewer an end is told at once. Nor does an end wait
when it is one of a crowd of ends: one for every so many live attempts."""

COALESCE_ENDS = 64
"""So many ends are told at once, however many attempts live."""

# --- attempts ----------------------------------------------------------------------------------

ATTEMPTS_LIMIT = 20_000
"""Attempts known at a time; a start beyond it ends as LAUNCH_FAILED."""

ACKNOWLEDGED_KEPT = 10_000
"""Acknowledged ends that are remembered, so that a late repeat of a start starts nothing."""

SPAWNS_PER_TURN = 4
"""Processes started in one turn (each some 0.3 ms), before exits and messages are looked at."""

MESSAGE_CHARACTERS = 2000
"""The longest message of an end."""

LEASH_LOOK_S = 1.0
"""How often is looked whether the worker's time is over; in between the host may have slept."""

# --- stopping ----------------------------------------------------------------------------------

LINGER_S = 0.2
"""What a job leaves behind may end by itself for so long: `> >(tee log)` of bash would else lose
its last lines, for bash does not wait for it."""

LEFTOVER_GRACE_S = 1.0
"""From TERM to KILL for processes that outlive their main process, if the job grants so much."""

RESCAN_FIRST_S = 0.05
RESCAN_LAST_S = 1.0
"""While a tree stops it is searched for newcomers, first after RESCAN_FIRST_S, then ever slower."""

KILL_AGAIN_S = 0.5
"""A tree that outlives a KILL (a task in an uninterruptible call) gets another this often."""

SUPERVISOR_DEADLINE_S = 5.0
"""A supervisor that has not emptied its tree so long after a KILL is itself killed."""

SUPERVISORS_KEPT = 32
"""Supervisors without a tree that wait for the next attempt."""

SUPERVISORS_REST_S = 2.0
"""When none had a tree for so long they are let go."""

DRAIN_S = 2.0
"""How long a pipe is read on when the tree is gone and an outsider still holds its other end."""

GRACE_LIMIT_S = 24 * 3600.0
"""The longest stop grace that is accepted."""

# --- output ------------------------------------------------------------------------------------

FIRST_READ_BYTES = 64 * 1024
"""The first piece of a stream goes through memory: most streams are empty and need no file."""

SPLICE_BYTES = 1024 * 1024
"""Moved from one pipe in one turn of the loop."""

PIPE_BYTES = 1024 * 1024
"""A pipe that was found full grows to this, where the system allows it."""

TIME_RECORD_NS = 100_000_000
"""One time record per stream and so many nanoseconds, at most."""

TIME_RECORDS_PER_DOUBLING = 65_536
"""After so many records the interval doubles, so that the index of a job of weeks stays small."""

DROP_STEP_MOST_BYTES = 16 * 1024 * 1024
DROP_STEP_LEAST_BYTES = 64 * 1024
"""Over its limit a stream loses its oldest tail in steps of a sixteenth of the limit, clamped."""

GIVEN_BACK_BYTES = 64 * 1024
"""On a full disk a stream gives back so much of its end, to make room for the index."""

# --- progress ----------------------------------------------------------------------------------

PROGRESS_S = 1.0
"""How often the progress files of running attempts are looked at. A line is a sign of life from then
on that it was seen: a job may set the times of its file as it likes."""

PROGRESS_LINE_BYTES = 4096
"""A longer line is ignored."""

PROGRESS_READ_BYTES = 64 * 1024
"""Only the end of what was appended since the last look is read."""

# --- the runner itself -------------------------------------------------------------------------

IDLE_S = 60.0
"""With no attempt and no connection for so long the runner leaves. Flag `--idle`."""

LOCK_WAIT_S = 2.0
"""How long a new runner waits for a leaving one to let go of the data directory."""

RECOVERY_S = 5.0
"""How long a new runner waits, before it listens, for its dead predecessor's trees to be gone;
what is left then is watched on, and reported only when it is gone."""

JOURNAL_COMPACT_BYTES = 1024 * 1024
"""The journal is rewritten when it is larger than this and twice what was alive in it at last."""

LOG_BYTES = 1024 * 1024
"""The runner says nothing more to its log after so many bytes."""

CGROUPS_KEPT = 256
"""Empty cgroups kept for reuse, two descriptors each."""
