"""What is odd about the environment of a start: the log says so, and the start goes on."""

from jobservice import failpoints, mutants
from jobservice.config import unknown_variables
from jobservice.telemetry import Logger


def warn_of_environment(log: Logger) -> None:
    """Name each variable that nobody reads, and whatever has this process make mistakes or die."""
    for name, near in unknown_variables():
        log.warning("unknown variable", variable=name, **({"did_you_mean": near} if near else {}))
    for variable, chosen, what in (
        (mutants.VARIABLE, mutants.CHOSEN, "a deliberate bug is switched on"),
        (failpoints.VARIABLE, failpoints.CHOSEN, "this process kills itself at a failpoint"),
    ):
        if chosen:
            log.warning(
                what, variable=variable, value=chosen, remedy=f"unset {variable}: for tests only"
            )
