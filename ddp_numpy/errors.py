"""The errors that end a job with one line instead of a traceback."""


class JobError(Exception):
    """Ends the job: rank 0 prints `error: …` once, and every rank exits with `exit_status`."""

    exit_status = 1
    agreed = False  # set by Communicator.agree once every rank raises the same error


class InputError(JobError):
    """A mistake of the user's: says what is wrong, where, and what to do about it."""

    exit_status = 2


class ReplicaError(JobError):
    """The ranks no longer hold the same weights."""
