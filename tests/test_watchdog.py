"""The watchdog's judgement on what it has heard. In tests/faults it is at work."""

import socket

from ddp_numpy.training.watchdog import _Judge


def test_who_was_lost_at_the_same_time_is_named_together() -> None:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.bind(("127.0.0.1", 0))
    judge = _Judge(link, bytes(16), 3.0, ["a", "a", "b", "b"])
    judge.stop()
    judge._heard = {1: 9.9, 2: 7.2, 3: 7.05}  # a beat every 0.3 s, and the last one of rank 3 came before that of 2
    assert judge._judge(10.0) is None
    found = judge._judge(10.1)
    assert found is not None
    assert found.startswith("ranks 2 on b, 3 on b gave no sign of life for 3 s")
