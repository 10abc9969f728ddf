"""Learning rates by step: their formulas, what PyTorch makes of them, and runs that are resumed."""

import itertools
import math

import numpy as np
import pytest
from tables import classified_rows

from ddp_numpy import SGD, Dataset, Dense, InputError, Interrupted, Sequential, SingleProcess, Trainer
from ddp_numpy.base.scale import Scale
from ddp_numpy.making import learning_rate, make_optimizer, make_schedule, scaled_by, schedule_epochs
from ddp_numpy.optim import schedules
from ddp_numpy.optim.schedules import Constant, Cosine, Exponential, OneCycle, Polynomial, Schedule, Step, WarmUp
from ddp_numpy.settings import Training

SCHEDULES: list[Schedule] = [
    Constant(0.3),
    Step(0.3, 7, 0.5),
    Exponential(0.3, 20, 0.1),
    Cosine(0.3, 30, 0.01),
    Cosine(0.3, 30),
    Polynomial(0.3, 30, 0.02, 2.0),
    Polynomial(0.3, 30),
    OneCycle(0.3, 40),
    OneCycle(0.3, 25, 0.5),
    WarmUp(Cosine(0.3, 20), 6),
    WarmUp(OneCycle(0.3, 20), 1),
]


def test_the_list_has_all_schedules() -> None:
    kinds = {kind for kind in vars(schedules).values() if isinstance(kind, type) and issubclass(kind, Schedule)}
    assert kinds - {Schedule} == set(map(type, SCHEDULES))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_schedule_is_a_function_of_the_step(schedule: Schedule) -> None:
    rates = [schedule(step) for step in range(60)]
    assert rates == [schedule(step) for step in reversed(range(60))][::-1]
    assert all(0 <= rate <= 0.3 and math.isfinite(rate) for rate in rates)
    assert max(rates) == pytest.approx(0.3, rel=0.02)
    if not isinstance(schedule, Step | Exponential):
        assert len(set(rates[45:])) == 1, "it stays where it ended"


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Step(1.0, 2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
        (Exponential(1.0, 2, 0.25), [1, 0.5, 0.25, 0.125]),
        (Polynomial(1.0, 4), [1, 0.75, 0.5, 0.25, 0, 0]),
        (Polynomial(1.0, 4, 0.5, 2.0), [1, 0.5 + 0.5 * 0.5625, 0.625, 0.53125, 0.5]),
        (Cosine(1.0, 4), [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0, 0]),
        (WarmUp(Polynomial(1.0, 4), 4), [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
        (OneCycle(1.0, 11, 6 / 11), [1 / 25, *[None] * 4, 1, *[None] * 4, 4e-6, 4e-6]),
    ],
)
def test_rates(schedule: Schedule, rates: list[float | None]) -> None:
    for step, rate in enumerate(rates):
        if rate is not None:
            assert schedule(step) == pytest.approx(rate, abs=1e-15)


def pytorch_of(schedule: Schedule, optimizer, scheduler):  # type: ignore[no-untyped-def]
    """PyTorch's schedule of the same name."""
    if isinstance(schedule, Step):
        return scheduler.StepLR(optimizer, schedule.every, schedule.factor)
    if isinstance(schedule, Exponential):
        return scheduler.ExponentialLR(optimizer, schedule.factor ** (1 / schedule.every))
    if isinstance(schedule, Cosine):
        return scheduler.CosineAnnealingLR(optimizer, schedule.steps, schedule.final)
    if isinstance(schedule, Polynomial) and not schedule.final:
        return scheduler.PolynomialLR(optimizer, schedule.steps, schedule.power)
    if isinstance(schedule, OneCycle):
        return scheduler.OneCycleLR(
            optimizer, schedule.lr, schedule.steps, pct_start=schedule.rise, final_div_factor=1e4
        )
    return None


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_pytorch_makes_the_same(schedule: Schedule) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = pytorch_of(schedule, optimizer, torch.optim.lr_scheduler)
    if theirs is None:
        pytest.skip("PyTorch has none")
    for step in range(getattr(schedule, "steps", 60)):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
        optimizer.step()
        theirs.step()


def test_a_run_that_is_stopped_goes_on_with_the_same_rates() -> None:
    X, y = classified_rows(100)
    data, rates = Dataset(X, y, classes=4, scale=Scale(255.0)), []

    class Noting(SGD):
        def step(self, *arguments) -> None:  # type: ignore[no-untyped-def, override]
            rates.append(self.lr)
            super().step(*arguments)

    def trainer() -> Trainer:
        return Trainer(Sequential(Dense(4)), Noting(), SingleProcess(), batch_size=30, schedule=Cosine(0.2, 12))

    trainer().train(data, data, 3)
    assert rates == pytest.approx([Cosine(0.2, 12)(step) for step in range(12)], rel=1e-11)
    whole, stopped, resumed = rates.copy(), trainer(), trainer()
    rates.clear()

    def stop(rows: int) -> None:
        stopped.stop = stopped.steps_made == 5

    with pytest.raises(Interrupted):
        list(stopped.fit(data, data, 3, stop))
    resumed.prepare(data)
    resumed.restore(stopped.epoch, stopped.step, {name: array.copy() for name, array in stopped.state().items()})
    resumed.train(data, data, 3)
    assert rates == whole


def test_settings_make_schedules() -> None:
    def made(**values: object) -> Schedule | None:
        return make_schedule(Training(epochs=10, **values), 50, 0.1)  # type: ignore[arg-type]

    assert made() is None
    assert made(warm_up=(2, "epochs")) == WarmUp(Constant(0.1), 100)
    assert made(schedule="cosine") == Cosine(0.1, 500)
    assert made(schedule="cosine", warm_up=(20, "steps"), final_lr=0.01) == WarmUp(Cosine(0.1, 480, 0.01), 20)
    assert made(schedule="polynomial", power=2, schedule_epochs=4) == Polynomial(0.1, 200, 0.0, 2.0)
    assert made(schedule="step", lr_every=(3, "steps"), lr_factor=0.5) == Step(0.1, 3, 0.5)
    assert made(schedule="exponential") == Exponential(0.1, 500, 0.1)
    assert made(schedule="one-cycle") == OneCycle(0.1, 500)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"power": 2.0}, "--power: --schedule constant does not have it"),
        ({"schedule": "cosine", "lr_factor": 0.5}, "--lr-factor: --schedule cosine does not have it"),
        ({"schedule": "cosine", "warm_up": (3, "epochs")}, "--warm-up: 15 steps leave nothing of the schedule's 15"),
    ],
)
def test_options_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_schedule(Training(epochs=3, **values), 5, 0.1)  # type: ignore[arg-type]


def test_rates_are_scaled_by_the_batch_size() -> None:
    for rule, factor in (("none", 1), ("linear", 16), ("sqrt", 4)):
        training = Training(batch_size=1024, lr_scaling=rule, optimizer="adam")  # type: ignore[arg-type]
        assert scaled_by(training) == factor
        assert learning_rate(training) == 0.001
        assert make_optimizer(training).lr == pytest.approx(0.001 * factor)
    assert scaled_by(Training(batch_size=1024, lr_scaling="linear", base_batch_size=512)) == 2


def test_a_schedule_that_ends_keeps_its_end_when_a_run_is_made_longer() -> None:
    assert schedule_epochs(Training(schedule="cosine", epochs=7)) == 7
    assert schedule_epochs(Training(schedule="cosine", epochs=9, schedule_epochs=7)) == 7
    assert schedule_epochs(Training(schedule="step")) is None
    first, later = (make_schedule(Training(schedule="cosine", epochs=e, schedule_epochs=7), 5, 0.1) for e in (7, 9))
    assert first == later
    rates = np.array([later(step) for step in range(45)])  # type: ignore[misc]
    assert (np.diff(rates[:35]) < 0).all()
    assert not rates[35:].any()
    assert all(a == b for a, b in itertools.pairwise(rates[35:]))
