"""From the rows of a global batch to its gradient, on all ranks together."""

from ddp_numpy.exchange.choice import choose_exchange
from ddp_numpy.exchange.factors import FactorExchange
from ddp_numpy.exchange.gradients import FloatExchange, GridExchange
from ddp_numpy.exchange.protocol import Exchange, read_rows

__all__ = ["Exchange", "FactorExchange", "FloatExchange", "GridExchange", "choose_exchange", "read_rows"]
