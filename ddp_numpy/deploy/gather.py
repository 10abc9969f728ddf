"""Rows of many requests through a network together: one pass for all that wait, and not one for each."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.nn import Array, Sequential


class _Request(NamedTuple):
    features: Array
    logits: "Future[Array]"


class Gatherer:
    """Takes rows through a network in a thread of its own, as the network has memory for one pass at a time.

    No request waits for others to come. While one pass runs, those that arrive gather, and the next takes them all.
    """

    def __init__(self, model: Sequential, most_rows: int, passed: Callable[[int], None] = lambda rows: None) -> None:
        """most_rows: of several requests in a pass; those of one stay together. passed: called with a pass's rows."""
        self._model, self._most_rows, self._passed = model, most_rows, passed
        self._waiting: deque[_Request] = deque()
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, features: Array) -> "Future[Array]":
        """The logits (m, classes) of features (m, *input_shape), or the InputError of Sequential.logits_of."""
        request = _Request(features, Future())
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        return request.logits

    def close(self) -> None:
        """End the thread once nothing waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while group := self._next():
            # Whoever gave up meanwhile is left out.
            self._take([one for one in group if one.logits.set_running_or_notify_cancel()])

    def _next(self) -> list[_Request]:
        """The requests of the next pass; none if there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            group: list[_Request] = []
            rows = 0
            while self._waiting and (not group or rows + len(self._waiting[0].features) <= self._most_rows):
                group.append(self._waiting.popleft())
                rows += len(group[-1].features)
            return group

    def _take(self, group: list[_Request]) -> None:
        if not group:
            return
        try:
            logits = self._model.logits_of(np.concatenate([one.features for one in group]))
        except InputError as error:
            if len(group) > 1:  # one of them has a number that is too large, and the others must not suffer from it
                for one in group:
                    self._take([one])
            else:
                group[0].logits.set_exception(error)
            return
        except BaseException as error:  # whoever waits must not wait for ever
            for one in group:
                one.logits.set_exception(error)
            return
        self._passed(len(logits))
        ends = np.cumsum([len(one.features) for one in group])
        for one, rows in zip(group, np.split(logits, ends[:-1]), strict=True):
            one.logits.set_result(rows)
