"""Which exchange a run takes."""

from typing import Literal

from ddp_numpy.comm import Communicator
from ddp_numpy.exchange.factors import FactorExchange
from ddp_numpy.exchange.gradients import FloatExchange, GridExchange
from ddp_numpy.exchange.protocol import Exchange

Name = Literal["auto", "gradients", "factors", "slices"]

_FEW_ROWS = 128


def choose_exchange(
    name: Name,
    comm: Communicator,
    batch_size: int,
    *,
    reproducible: bool = False,
    micro_rows: int | None = None,
    parts: int = 1,
) -> Exchange:
    """An exchange by its name, for global batches of so many rows. Collective.

    auto, reproducible: factors or slices, by network and batch alone: see FactorExchange. auto, fast: gradients on a
    single host, where adding them in shared memory is quickest, and if each rank has more than 128 rows of a batch, as
    then arithmetic takes most of the time; otherwise what FactorExchange finds by a trial.
    """
    if name == "auto" and not reproducible and (batch_size > _FEW_ROWS * comm.size or len(comm.hosts()) == 1):
        name = "gradients"
    if name == "gradients":
        return GridExchange(micro_rows, parts=parts) if reproducible else FloatExchange(parts=parts)
    return FactorExchange(reproducible=reproducible, micro_rows=micro_rows, between=name, parts=parts)
