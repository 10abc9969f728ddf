"""From settings to the objects that they describe."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Dataset, load_data, load_more
from ddp_numpy.exchange import choose_exchange
from ddp_numpy.nn import (
    Augment,
    Dropout,
    Flatten,
    Huber,
    Layer,
    MeanSquaredError,
    Reshape,
    Sequential,
    SoftmaxCrossEntropy,
)
from ddp_numpy.nn.presets import IMAGE_PRESETS, image_shape, mlp, normalized
from ddp_numpy.optim import LAMB, LARS, SGD, Adam, AdamW, Group, Optimizer, RMSprop, is_no_weight
from ddp_numpy.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    OneCycle,
    Polynomial,
    Schedule,
    Step,
    WarmUp,
)
from ddp_numpy.runs.model_code import read_code, run_code
from ddp_numpy.settings import AUGMENTATION, HYPERPARAMETERS, IN_LAYERS, Data, Model, Settings, Training
from ddp_numpy.training.average import MovingAverage
from ddp_numpy.training.patience import EarlyStopping, ReduceOnPlateau
from ddp_numpy.training.replicas import ReplicaCheck
from ddp_numpy.training.trainer import LossKind, Trainer

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "lars": LARS, "lamb": LAMB,
}  # fmt: skip
# By schedule, the options that it has.
_SCHEDULES: dict[str, tuple[str, ...]] = {
    "constant": (),
    "step": ("lr_every", "lr_factor"),
    "exponential": ("lr_every", "lr_factor"),
    "cosine": ("schedule_epochs", "final_lr"),
    "polynomial": ("schedule_epochs", "final_lr", "power"),
    "one-cycle": ("schedule_epochs",),
    "plateau": ("patience", "lr_factor"),
}


def read_data(
    settings: Settings, comm: Communicator, tell: Callable[[str], None] = lambda line: None
) -> tuple[Dataset, Dataset]:
    """The rows that the settings name, to train and to validate. Collective. tell: see load_data. Raises InputError."""
    data = settings.data
    with comm.together():
        scale = chosen_scale(data)
    return load_data(
        data.source,
        comm,
        **table_options(data),
        valid=data.valid,
        valid_fraction=data.valid_fraction,
        seed=settings.training.seed,
        scale=scale,
        map_above=data.map_above,
        tell=tell,
    )


def read_test_data(settings: Settings, train_data: Dataset, comm: Communicator) -> Dataset | None:
    """The rows of --test, in the columns, classes and scales of the rows to train on. Collective. Raises InputError."""
    data = settings.data
    if data.test is None:
        return None
    return load_more(
        data.test, train_data, comm, header=not data.no_header, encoding=data.encoding, missing=data.missing
    )


def table_options(data: Data) -> dict[str, Any]:
    """What the options say of how a table is read, as load_data and TableOptions take it."""
    return {
        "label_column": data.label_column,
        "drop": data.drop,
        "header": not data.no_header,
        "encoding": data.encoding,
        "task": data.task,
        "categorical": data.categorical,
        "missing": data.missing,
    }


def chosen_scale(data: Data) -> str:
    """What --scale or --divisor says. Raises InputError if both say something."""
    if data.divisor is None:
        return data.scale
    if data.scale not in ("auto", "divide", named := f"divide:{data.divisor!r}"):
        raise InputError(
            f"--divisor {data.divisor:g} is another name of --scale divide:{data.divisor:g}; leave one out"
        )
    return named


def make_trainer(settings: Settings, train_data: Dataset, comm: Communicator) -> Trainer:
    """The objects that the settings describe, ready to train on these rows. Collective. Raises InputError."""
    training = settings.training
    with comm.together():
        optimizer = make_optimizer(training)
        schedule = make_schedule(training, -(-len(train_data) // training.batch_size), optimizer.lr)
        plateau, early_stopping = make_patience(training)
    layers = make_layers(settings.model, train_data, comm)
    with comm.together():
        model = Sequential(*layers, dtype=settings.model.dtype)
    trainer = Trainer(
        model,
        optimizer,
        comm,
        batch_size=training.batch_size,
        seed=training.seed,
        schedule=schedule,
        clip_norm=training.clip_norm,
        loss=make_loss(training, train_data, comm),
        exchange=choose_exchange(
            training.exchange,
            comm,
            training.batch_size,
            reproducible=training.reproducible,
            micro_rows=training.micro_rows,
            parts=training.accumulate,
        ),
        replica_check=ReplicaCheck(every=training.check_replicas),
        plateau=plateau,
        early_stopping=early_stopping,
        average=None if training.average is None else MovingAverage(training.average),
    )
    trainer.prepare(train_data)
    return trainer


def make_loss(training: Training, data: Dataset, comm: Communicator) -> LossKind:
    """What --loss and the options beside it say. Collective. Raises InputError for one that the data don't have."""
    name = training.loss or ("cross-entropy" if data.target is None else "mse")
    with comm.together():
        if (name == "cross-entropy") != (data.target is None):
            what = "classes" if data.target is None else "numbers to predict"
            raise InputError(f"--loss {name}: the labels are {what}; leave it out, or choose another --task")
        for option in ("label_smoothing", "class_weight"):
            if getattr(training, option) and name != "cross-entropy":
                raise InputError(f"{_flag(option)}: there are no classes; leave it out")
        if training.huber_delta is not None and name != "huber":
            raise InputError("--huber-delta: needs --loss huber")
    if name == "mse":
        return MeanSquaredError
    if name == "huber":
        return functools.partial(Huber, delta=training.huber_delta or 1.0)
    weights = data.balanced_weights() if training.class_weight else None
    return functools.partial(SoftmaxCrossEntropy, smoothing=training.label_smoothing, weights=weights)


def make_layers(model: Model, data: Dataset, comm: Communicator) -> list[Layer]:
    """The layers of the network for these rows. Collective. Raises InputError for rows that it can't take."""
    code = ""
    with comm.together():
        if model.augment_smoothness != Model.augment_smoothness and not model.augment_elastic:
            raise InputError("--augment-smoothness: needs an --augment-elastic above 0")
        if model.model_file is None:
            return _named(model, data)
        if changed := _changed(model, (*IN_LAYERS, *AUGMENTATION)):
            raise InputError(f"{_flag(min(changed))}: put such a layer into --model-file {model.model_file}")
        if comm.rank == 0:
            code = read_code(model.model_file)
    code = comm.broadcast(code)
    with comm.together():
        return _built_by(code, model.model_file, data)


def _named(model: Model, data: Dataset) -> list[Layer]:
    """The layers of --model. What changes images stands behind the layer that makes images of rows."""
    augment = [_augment(model)] if _changed(model, AUGMENTATION) else []
    to_image: list[Layer] = []
    if model.model == "mlp":
        layers = mlp(data.outputs, model.hidden, model.dropout)
        if augment:
            image = image_shape(data.features.shape[1], "leave the options of augmentation out")
            to_image, layers = [Reshape(image)], [Flatten(), *layers]
    else:
        make = IMAGE_PRESETS[model.model]
        first, *layers = make(data.outputs, image_shape(data.features.shape[1]), model.dropout)
        to_image = [first]
    if model.batch_norm:
        layers = normalized(layers)
    dropout = [Dropout(model.input_dropout)] if model.input_dropout else []
    return [*to_image, *augment, *dropout, *layers]


def _changed(model: Model, names: Sequence[str]) -> list[str]:
    """Those of the options that are given another value than 0."""
    return [name for name in names if getattr(model, name)]


def _augment(model: Model) -> Augment:
    values = {name: getattr(model, name) for name in (*AUGMENTATION, "augment_smoothness")}
    return Augment(**{name.removeprefix("augment_"): value for name, value in values.items()})


def _built_by(code: str, path: Path, data: Dataset) -> list[Layer]:
    """What the code's function build returns: the code of rank 0 on each rank, so that all have the same network."""
    build = getattr(run_code(code, path), "build", None)
    if not callable(build):
        raise InputError(f"--model-file {path}: has no function build(input_shape, classes)")
    layers = build(data.features.shape[1:], data.outputs)
    if not isinstance(layers, list | tuple) or not all(isinstance(layer, Layer) for layer in layers):
        raise InputError(f"--model-file {path}: build must return a list of layers, not {type(layers).__name__}")
    return list(layers)


def make_optimizer(training: Training) -> Optimizer:
    """What the options of training say of updates. Raises InputError for one that the optimizer does not have."""
    kind = _OPTIMIZERS[training.optimizer]
    known = kind().hyper
    given = {name: value for name in HYPERPARAMETERS if (value := getattr(training, name)) is not None}
    hyper = known | given
    given["lr"] = learning_rate(training) * scaled_by(training)
    if unknown := given.keys() - known.keys():
        own = ", ".join(_flag(name) for name in HYPERPARAMETERS if name in known)
        raise InputError(f"{_flag(min(unknown))}: {training.optimizer} does not have it; it has {own}")
    # Of biases and parameters of normalizations.
    apart = {name: 0.0 for name in ("weight_decay", "adapt") if hyper.get(name) and not training.decay_all}
    groups = [Group(is_no_weight, apart)] if apart else []
    if not training.nesterov:
        return kind(**given, groups=groups)
    if kind is not SGD or not hyper["momentum"]:
        raise InputError("--nesterov: needs --optimizer sgd and a --momentum above 0")
    return SGD(**given, groups=groups, nesterov=True)


def learning_rate(training: Training) -> float:
    """What --lr says, or else the optimizer's own, without scaling."""
    return _OPTIMIZERS[training.optimizer]().lr if training.lr is None else training.lr


def schedule_epochs(training: Training) -> int | None:
    """When the schedule ends, if it does."""
    return training.schedule_epochs or (training.epochs if "schedule_epochs" in _SCHEDULES[training.schedule] else None)


def scaled_by(training: Training) -> float:
    """What --lr-scaling multiplies the learning rate by (Goyal et al., arXiv:1706.02677, for the linear rule)."""
    ratio = training.batch_size / training.base_batch_size
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[training.lr_scaling]


def make_schedule(training: Training, epoch_steps: int, lr: float) -> Schedule | None:
    """The learning rates from this first one on; None: always this one. epoch_steps: of an epoch.

    Raises InputError for an option that the schedule does not have, and for a warm-up that is as long as all of it.
    """
    fields = _SCHEDULES[training.schedule]
    for name in ("schedule_epochs", "final_lr", "power", "lr_every", "lr_factor", "patience"):
        if getattr(training, name) is not None and name not in fields:
            raise InputError(f"{_flag(name)}: --schedule {training.schedule} does not have it")
    warm_up = _steps(training.warm_up, epoch_steps)
    whole = (training.schedule_epochs or training.epochs) * epoch_steps
    if "schedule_epochs" in fields and warm_up >= whole:
        raise InputError(f"--warm-up: {warm_up:,} steps leave nothing of the schedule's {whole:,}")
    steps, every = whole - warm_up, _steps(training.lr_every or (10, "epochs"), epoch_steps)
    final, factor = training.final_lr or 0.0, training.lr_factor or 0.1
    schedules: dict[str, Callable[[], Schedule]] = {
        "constant": lambda: Constant(lr),
        "step": lambda: Step(lr, every, factor),
        "exponential": lambda: Exponential(lr, every, factor),
        "cosine": lambda: Cosine(lr, steps, final),
        "polynomial": lambda: Polynomial(lr, steps, final, training.power or 1.0),
        "one-cycle": lambda: OneCycle(lr, steps),
        "plateau": lambda: Constant(lr),  # times what make_patience makes
    }
    schedule = schedules[training.schedule]()
    if warm_up:
        return WarmUp(schedule, warm_up)
    return None if training.schedule in ("constant", "plateau") else schedule


def make_patience(training: Training) -> tuple[ReduceOnPlateau | None, EarlyStopping | None]:
    """What waits for a lower validation loss. Raises InputError for --min-delta if nothing does."""
    delta, plateau, early_stopping = training.min_delta or 0.0, None, None
    if training.schedule == "plateau":
        plateau = ReduceOnPlateau(training.patience or 5, training.lr_factor or 0.1, delta)
    if training.early_stopping is not None:
        early_stopping = EarlyStopping(training.early_stopping, delta)
    if training.min_delta is not None and plateau is None and early_stopping is None:
        raise InputError("--min-delta: needs --schedule plateau or --early-stopping")
    return plateau, early_stopping


def _steps(time: tuple[int, str], epoch_steps: int) -> int:
    count, unit = time
    return count * epoch_steps if unit == "epochs" else count


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
