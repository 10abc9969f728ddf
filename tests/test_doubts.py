"""What is odd about rows or a training is said, and what to do; what is not odd is not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs import train

from ddp_numpy import Epoch, SingleProcess, load_data
from ddp_numpy.training.doubts import Doubts

COMM = SingleProcess()


def table(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    label = np.arange(rows) % 2
    return pd.DataFrame({"a": rng.normal(label, 1), "b": rng.normal(label * 20, 10), "label": label})


@pytest.mark.parametrize(
    ("changed", "options", "doubt"),
    [
        ({}, {}, None),
        ({"c": 7.5}, {}, "one value in all rows to train on, in column c: --drop leaves a column out"),
        ({"b": 1e6}, {"scale": "none"}, "column 'b' is over 1,000 times as large as 'a': try --scale standard"),
        (
            {"label": ["rare"] * 9 + ["a", "b"] * 95 + ["a"]},
            {},
            "fewer than 10 rows to train on are of class rare: more are needed, or fewer classes",
        ),
    ],
)
def test_odd_rows(changed: dict[str, object], options: dict[str, str], doubt: str | None) -> None:
    for data in load_data(table().assign(**changed), COMM, **options):  # type: ignore[arg-type]
        assert len(data.doubts) == (doubt is not None)
        assert doubt is None or data.doubts[0].startswith(doubt)


def test_rows_on_both_sides() -> None:
    rows = pd.concat([table(), table()])
    train_data, valid = load_data(rows, COMM)
    twice = sum((train_data.features == row).all(axis=1).any() for row in valid.features)
    assert train_data.doubts[0].startswith(f"{twice} of 80 rows that validate also stand among those to train on")


def epoch(number: int, loss: float = 1.0, accuracy: float = 0.9) -> Epoch:
    losses, accuracies = {"train_loss": loss, "valid_loss": 1.0}, {"train_accuracy": 0.9, "valid_accuracy": accuracy}
    return Epoch(number=number, **losses, **accuracies, lr=0.1, images_per_second=1.0, seconds=1.0)


def test_a_training_that_leads_nowhere_is_said_once() -> None:
    doubts = Doubts(largest_share=0.6)
    assert [len(doubts.see(epoch(n, accuracy=0.6))) for n in range(1, 7)] == [0, 0, 1, 0, 0, 0]
    doubts = Doubts(largest_share=0.6)
    assert [len(doubts.see(epoch(n, loss=n))) for n in range(1, 7)] == [0, 0, 0, 1, 0, 0]
    doubts = Doubts(largest_share=None)
    assert [doubts.see(epoch(n, loss=1 / n, accuracy=0.5)) for n in range(1, 7)] == [[]] * 6


def test_rows_that_only_double_precision_tells_apart_are_not_in_both() -> None:
    seconds = 1.7e9 + np.random.default_rng(2).permutation(60)
    times = pd.DataFrame({"label": ["a", "b"] * 30, "at": seconds})
    for data in load_data(times, COMM):
        assert data.features.dtype == np.float64
        assert data.doubts == ()


def test_the_command_says_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    noise = pd.DataFrame(rng.normal(size=(300, 3)), columns=list("abc")).assign(label=np.arange(300) % 10 == 0)
    noise.assign(c=1.0).to_csv(tmp_path / "t.csv", index=False)
    job = train(2, "--data", "t.csv", "--epochs", "4", cwd=tmp_path)
    assert job.status == 0
    assert [line for line in job.err.splitlines() if line.startswith("warning: ")] == [
        "warning: one value in all rows to train on, in column c: --drop leaves a column out",
        "warning: after 3 epochs the validation accuracy is 90.0%, no more than always naming the largest class gives "
        "(90.0%): is the label right? Another --lr may help",
    ]
    assert train(2, "--data", "t.csv", "--epochs", "4", "--quiet", cwd=tmp_path).err == ""
