"""From settings to the objects that they describe."""

from collections.abc import Callable

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Dataset
from ddp_numpy.exchange import choose_exchange
from ddp_numpy.nn import Dense, Layer, ReLU, Sequential
from ddp_numpy.optim import LAMB, LARS, SGD, Adam, AdamW, Group, Optimizer, RMSprop, is_no_weight
from ddp_numpy.settings import HYPERPARAMETERS, Settings, Training
from ddp_numpy.training.replicas import ReplicaCheck
from ddp_numpy.training.trainer import Trainer

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "lars": LARS, "lamb": LAMB,
}  # fmt: skip


def make_trainer(settings: Settings, train_data: Dataset, comm: Communicator) -> Trainer:
    """The objects that the settings describe, ready to train on these rows. Collective. Raises InputError."""
    training = settings.training
    with comm.together():
        optimizer = make_optimizer(training)
    layers: list[Layer] = []
    for width in settings.model.hidden:
        layers += [Dense(width), ReLU()]
    trainer = Trainer(
        Sequential(*layers, Dense(train_data.classes), dtype=settings.model.dtype),
        optimizer,
        comm,
        batch_size=training.batch_size,
        seed=training.seed,
        clip_norm=training.clip_norm,
        exchange=choose_exchange(
            training.exchange,
            comm,
            training.batch_size,
            reproducible=training.reproducible,
            micro_rows=training.micro_rows,
        ),
        replica_check=ReplicaCheck(every=training.check_replicas),
    )
    trainer.prepare(train_data)
    return trainer


def make_optimizer(training: Training) -> Optimizer:
    """What the options of training say of updates. Raises InputError for one that the optimizer does not have."""
    kind = _OPTIMIZERS[training.optimizer]
    given = {name: value for name in HYPERPARAMETERS if (value := getattr(training, name)) is not None}
    hyper = kind().hyper | given
    if unknown := given.keys() - kind().hyper.keys():
        own = ", ".join(_flag(name) for name in HYPERPARAMETERS if name in kind().hyper)
        raise InputError(f"{_flag(min(unknown))}: {training.optimizer} does not have it; it has {own}")
    # Of biases and parameters of normalizations.
    apart = {name: 0.0 for name in ("weight_decay", "adapt") if hyper.get(name) and not training.decay_all}
    groups = [Group(is_no_weight, apart)] if apart else []
    if not training.nesterov:
        return kind(**given, groups=groups)
    if kind is not SGD or not hyper["momentum"]:
        raise InputError("--nesterov: needs --optimizer sgd and a --momentum above 0")
    return SGD(**given, groups=groups, nesterov=True)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
