"""The errors that end a job with one line of text instead of a traceback."""


class JobError(Exception):
    """Ends the job: rank 0 prints `error: …` once, and every rank exits with `exit_status`."""

    exit_status = 1
    agreed = False  # True if every rank raises the same error, as in Communicator.agree


class InputError(JobError):
    """The user made a mistake. The message says what is wrong, where, and what to do about it."""

    exit_status = 2


class ReplicaError(JobError):
    """The ranks no longer hold the same weights."""


class DivergedError(JobError):
    """The loss or a gradient is not a finite number. Every rank raises this error, and no rank has made the update."""

    agreed = True

    def __init__(self, text: str, epoch: int = 0, step: int = 0, steps_made: int = 0) -> None:
        """The complete epochs, the steps of the next one and all steps that came before: the last good state."""
        super().__init__(text)
        self.epoch, self.step, self.steps_made = epoch, step, steps_made


class Interrupted(JobError):  # noqa: N818
    """Training was asked to stop, and stopped at the end of a step. Every rank raises this error."""

    exit_status = 75  # EX_TEMPFAIL: if the job is started again, it continues
    agreed = True
