"""What a rank tells the launcher, if there is one, on the connection that launch.rank has opened to it."""

import contextlib
import os

_LIFELINE = "DDP_NUMPY_LIFELINE"  # launch.rank sets it: `process number:descriptor`
# The words have their meanings in launch.rank.
ENDING = b"!"
"""This rank is ending the job. The launcher then makes sure that mpirun ends: an mpirun that has lost a host would wait
for that host without end."""
ABORTING = b"x"
"""This rank ends all ranks by MPI_Abort. The launcher then takes no rank for killed by others."""


def tell_launcher(word: bytes) -> None:
    """Send the launcher one of these words, if this process is a rank that one has started."""
    process, _, descriptor = os.environ.get(_LIFELINE, "").partition(":")
    if process == str(os.getpid()):  # otherwise a parent process is the rank, and the descriptor is not ours
        with contextlib.suppress(OSError):
            os.write(int(descriptor), word)
