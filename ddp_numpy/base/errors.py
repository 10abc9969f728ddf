"""The errors that end a job with one line instead of a traceback."""


class JobError(Exception):
    """Ends the job: rank 0 prints `error: …` once, and every rank exits with `exit_status`."""

    exit_status = 1
    agreed = False  # set where every rank raises the same error, as Communicator.agree does


class InputError(JobError):
    """A mistake of the user's: says what is wrong, where, and what to do about it."""

    exit_status = 2


class ReplicaError(JobError):
    """The ranks no longer hold the same weights."""


class DivergedError(JobError):
    """The loss or a gradient is not a finite number; every rank raises it, and none has made the update."""

    agreed = True


class Interrupted(JobError):  # noqa: N818
    """Training was asked to stop, and did so at a step's end; every rank raises it."""

    exit_status = 75  # EX_TEMPFAIL: start it again, and it goes on
    agreed = True
