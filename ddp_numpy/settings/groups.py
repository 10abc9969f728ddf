"""The options, by group: name, type, range, default, help, and what a change of each means."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

import click

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.options import (
    Change,
    CountOrAll,
    Encoding,
    Group,
    NewPath,
    Real,
    Text,
    Whole,
    Widths,
    WordOrDivisor,
    as_text,
    count,
    option,
    positive,
)


@dataclasses.dataclass(frozen=True)
class Data(Group):
    """Which rows train, and which validate.

    A change is judged by the training rows themselves: a checkpoint holds their checksum.
    """

    source: str = option(
        "digits", Text(), name="data", metavar="SOURCE", change=Change.RUN,
        help="digits (bundled), mnist (downloaded once), a .csv, .tsv, .txt, .parquet, .feather or .npz file, a folder "
        "or a pattern of files with parts of a table, or a folder of IDX files.",
    )  # fmt: skip
    label_column: str | None = option(
        None, Text(), metavar="NAME", change=Change.RUN,
        help="The column with the labels; else label, target or class, else the first if it looks like classes.",
    )  # fmt: skip
    drop: tuple[str, ...] = option(
        (), Text(), "Columns to leave out; may be given several times.", metavar="NAME", change=Change.RUN,
        repeatable=True,
    )  # fmt: skip
    no_header: bool = option(
        False, click.BOOL, "The first line is a row; columns are called 1, 2, 3 …", change=Change.RUN
    )  # fmt: skip
    encoding: str = option(
        "utf-8", Encoding(), "Of a table of text; latin-1 is that of many older programs.", change=Change.RUN
    )  # fmt: skip
    task: Literal["classify", "regress"] | None = option(
        None, click.Choice(["classify", "regress"]), change=Change.RUN,
        shown_default="classify, unless the label looks like a measurement",
        help="Whether the label is a class, or a number to predict.",
    )  # fmt: skip
    categorical: tuple[str, ...] = option(
        ("auto",), Text(), metavar="auto|none|COLUMN", change=Change.RUN, repeatable=True,
        help="Columns of categories, one feature for each; auto: text of few different values; may be given several "
        "times.",
    )  # fmt: skip
    missing: Literal["error", "mean", "drop"] = option(
        "error", click.Choice(["error", "mean", "drop"]), change=Change.RUN,
        help="What a missing value is: an error, the mean of the training rows, or a reason to drop its row.",
    )  # fmt: skip
    valid: str | None = option(
        None, Text(), metavar="FILE", change=Change.RUN,
        help="A table with the rows that validate, in place of a share of those to train on.",
    )  # fmt: skip
    test: str | None = option(
        None, Text(), metavar="FILE", change=Change.RUN,
        help="A table whose rows are judged once, by the trained model at the end.",
    )  # fmt: skip
    valid_fraction: float = option(
        0.2, Real(0, 1, min_open=True, max_open=True), change=Change.RUN,
        help="Share of the rows held out for validation where the data has no split of its own.",
    )  # fmt: skip
    scale: str = option(
        "auto", WordOrDivisor("auto", "none", "standard", "minmax", "robust", "divide"), metavar="auto|divide:K|…",
        change=Change.RUN, absent="divide",
        help="How features are scaled; auto: images of 8 bits divided by 255, all else standardized by training rows.",
    )  # fmt: skip
    divisor: float | None = option(
        None, positive(), "Another name of --scale divide:K.", metavar="K", change=Change.RUN
    )  # fmt: skip
    map_above: float | None = option(
        None, Real(0), metavar="GB", change=Change.MACHINE, shown_default="1/32 of the memory",
        help="A table whose files have more GB together is not read into memory, but into a file that all ranks map.",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Model(Group):
    """The network.

    No file brings the path of a model file along: what a checkpoint says never runs code.
    """

    model: Literal["mlp", "cnn", "lenet5", "resnet8", "tiny"] = option(
        "mlp", click.Choice(["mlp", "cnn", "lenet5", "resnet8", "tiny"]),
        "Which network: dense layers (mlp), or one for images; --describe shows its layers.",
    )  # fmt: skip
    model_file: Path | None = option(
        None, NewPath(), metavar="FILE.py", change=Change.MACHINE, recorded=False,
        help="Python code of your own, which is run: its build(input_shape, classes) returns a list of layers.",
    )  # fmt: skip
    hidden: tuple[int, ...] = option((128, 64), Widths(), "Widths of the hidden layers of mlp.")
    dropout: float = option(
        0.0, Real(0, 0.99), "Share of numbers that dropout takes away behind hidden dense layers."
    )  # fmt: skip
    input_dropout: float = option(0.0, Real(0, 0.99), "Share of numbers that dropout takes away from the input.")
    batch_norm: bool = option(
        False, click.BOOL, "Batch normalization behind each convolution, or each hidden dense layer if there is none."
    )  # fmt: skip
    augment_shift: float = option(
        0.0, Real(0, 10_000), metavar="PIXELS", help="In training, move images by up to so many pixels along each axis."
    )  # fmt: skip
    augment_rotation: float = option(
        0.0, Real(0, 180), metavar="DEGREES", help="In training, turn images by up to so many degrees either way."
    )  # fmt: skip
    augment_scale: float = option(
        0.0, Real(0, 0.9), metavar="SHARE", help="In training, make images larger or smaller by up to this share."
    )  # fmt: skip
    augment_shear: float = option(
        0.0, Real(0, 10), metavar="SHARE",
        help="In training, slant images: move each row against the next by up to so many pixels; 0.2 is 11 degrees.",
    )  # fmt: skip
    augment_elastic: float = option(
        0.0, Real(0, 10_000), metavar="PIXELS",
        help="In training, bend images: by so many pixels in each direction, as a root mean square.",
    )  # fmt: skip
    augment_smoothness: float = option(
        4.0, Real(0.1, 10_000), metavar="PIXELS",
        help="Of --augment-elastic: the deviation of the Gaussian by which the displacements are smoothed.",
    )  # fmt: skip
    augment_erase: float = option(
        0.0, Real(0, 1), metavar="SHARE",
        help="In training, erase a rectangle of this share of the images, of 0.02 to 0.2 of the image.",
    )  # fmt: skip
    dtype: Literal["float32", "float64"] = option(
        "float32", click.Choice(["float32", "float64"]), "Of weights and arithmetic."
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Training(Group):
    """How it is trained."""

    epochs: int = option(20, count(), "How often all rows are trained on.", change=Change.RUN)
    batch_size: int = option(64, count(), "The global batch, whatever the number of ranks.")
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "lars", "lamb"] = option(
        "sgd", click.Choice(["sgd", "adam", "adamw", "rmsprop", "lars", "lamb"]), "What updates the weights."
    )  # fmt: skip
    lr: float | None = option(
        None, positive(), "Learning rate.", change=Change.OVERRIDE,
        shown_default="0.01 of sgd, 0.1 of lars, else 0.001",
    )  # fmt: skip
    lr_scaling: Literal["none", "linear", "sqrt"] = option(
        "none", click.Choice(["none", "linear", "sqrt"]),
        "Multiply the learning rate by the batch size over --base-batch-size, or by the root of it.",
    )  # fmt: skip
    base_batch_size: int = option(64, count(), "The batch size for which the learning rate is meant.")
    schedule: Literal["constant", "step", "exponential", "cosine", "polynomial", "one-cycle", "plateau"] = option(
        "constant", click.Choice(["constant", "step", "exponential", "cosine", "polynomial", "one-cycle", "plateau"]),
        "How the learning rate changes from step to step; plateau: if the validation loss no longer becomes lower.",
    )  # fmt: skip
    warm_up: tuple[int, Literal["steps", "epochs"]] = option(
        (0, "steps"), click.Tuple([Whole(0), click.Choice(["steps", "epochs"])]), metavar="N steps|epochs",
        help="In front of the schedule a straight line up to its first rate.",
    )  # fmt: skip
    schedule_epochs: int | None = option(
        None, count(), "When cosine, polynomial or one-cycle ends; the rate then stays.",
        shown_default="--epochs of the run's first start",
    )  # fmt: skip
    final_lr: float | None = option(None, Real(0), "Where cosine or polynomial ends.", shown_default="0")
    power: float | None = option(None, positive(), "Of polynomial; 1 is a straight line.", shown_default="1")
    lr_every: tuple[int, Literal["steps", "epochs"]] | None = option(
        None, click.Tuple([count(), click.Choice(["steps", "epochs"])]), metavar="N steps|epochs",
        help="In what time step or exponential multiplies the rate by --lr-factor.", shown_default="10 epochs",
    )  # fmt: skip
    lr_factor: float | None = option(
        None, Real(0, 1, min_open=True, max_open=True), "What step, exponential or plateau multiplies the rate by.",
        shown_default="0.1",
    )  # fmt: skip
    patience: int | None = option(
        None, count(), "Of plateau: how many epochs in a row without a lower validation loss it waits for.",
        shown_default="5",
    )  # fmt: skip
    early_stopping: int | None = option(
        None, count(), metavar="N", help="End training after N epochs in a row without a lower validation loss."
    )  # fmt: skip
    min_delta: float | None = option(
        None, Real(0), "How much lower a validation loss must be to count as lower, in nats.", shown_default="0"
    )  # fmt: skip
    average: float | None = option(
        None, Real(0, 1, min_open=True, max_open=True), metavar="DECAY",
        help="Validate and save a moving average of the weights, of which an update keeps this part; 0.999 suits many.",
    )  # fmt: skip
    accumulate: int = option(
        1, count(), metavar="K",
        help="Take a batch through the network in K parts and update once: a K-th of the memory, the same result.",
    )  # fmt: skip
    momentum: float | None = option(
        None, Real(0, 1, max_open=True), "How much of its last update sgd, rmsprop or lars keeps.",
        change=Change.OVERRIDE, shown_default="0.9 of lars, else 0",
    )  # fmt: skip
    nesterov: bool = option(False, click.BOOL, "Of sgd: the gradient where the momentum leads to.")
    beta1: float | None = option(
        None, Real(0, 1, max_open=True), "Decay of the running mean of gradients of adam, adamw and lamb.",
        shown_default="0.9",
    )  # fmt: skip
    beta2: float | None = option(
        None, Real(0, 1, max_open=True), "The same of their squares.", shown_default="0.999"
    )  # fmt: skip
    decay: float | None = option(
        None, Real(0, 1, max_open=True), "Decay of rmsprop's running mean of squares.", shown_default="0.99"
    )  # fmt: skip
    epsilon: float | None = option(
        None, positive(), "What is added to the root of the mean of squares.", shown_default="1e-6 of lamb, else 1e-8"
    )  # fmt: skip
    trust: float | None = option(
        None, positive(), "How large an update by lars is, relative to the weights.", shown_default="0.001"
    )  # fmt: skip
    weight_decay: float | None = option(
        None, Real(0), "Pull weights to 0: a step of its own of adamw and lamb, else part of the gradient (L2).",
        change=Change.OVERRIDE, shown_default="0.01 of adamw and lamb, else 0",
    )  # fmt: skip
    decay_all: bool = option(
        False, click.BOOL, "Not only weights: biases and normalizations, too; lars and lamb adapt them."
    )
    clip_norm: float | None = option(
        None, positive(), "Scale larger gradients down to this Euclidean norm.", change=Change.OVERRIDE
    )  # fmt: skip
    loss: Literal["cross-entropy", "mse", "huber"] | None = option(
        None, click.Choice(["cross-entropy", "mse", "huber"]), "What training makes small.",
        shown_default="cross-entropy of classes, mse of numbers",
    )  # fmt: skip
    huber_delta: float | None = option(
        None, positive(), "Of huber: from which error on, in standard deviations of the label, it is a straight line.",
        shown_default="1",
    )  # fmt: skip
    class_weight: Literal["balanced"] | None = option(
        None, click.Choice(["balanced"]), shown_default="all rows count alike",
        help="Let rows of rare classes count more in the loss, so that all classes count alike.",
    )  # fmt: skip
    label_smoothing: float = option(
        0.0, Real(0, 1, max_open=True), "Share of the right answer that is spread over all classes in the loss."
    )  # fmt: skip
    seed: int = option(1, Whole(min=0, below=2**128), "Of the split, the first weights, the order.")
    comm: Literal["auto", "node-shared", "allreduce"] = option(
        "auto", click.Choice(["auto", "node-shared", "allreduce"]), change=Change.MACHINE,
        help="How ranks sum gradients: in memory that a node's ranks share, or by MPI's Allreduce.",
    )  # fmt: skip
    exchange: Literal["auto", "gradients", "factors", "slices"] = option(
        "auto", click.Choice(["auto", "gradients", "factors", "slices"]), absent="gradients",
        help="What ranks exchange: gradients of their own rows; or factors, from which each makes its own part of the "
        "gradient, between nodes too, or between nodes slices of gradients.",
    )  # fmt: skip
    reproducible: bool = option(False, click.BOOL, "The same weights to the last bit on any number of ranks.")
    micro_rows: int | None = option(
        None, count(), shown_default="16; an eighth of a larger batch than 128, 128 at most",
        help="Of --reproducible: the rows that are multiplied together, whatever the number of ranks.",
    )  # fmt: skip
    check_replicas: int = option(
        100, count(), metavar="N", change=Change.RUN,
        help="Compare a hash of weights and optimizer state between ranks every N steps.",
    )  # fmt: skip
    stall_timeout: float = option(
        300.0, positive(most=1e9), metavar="S", change=Change.MACHINE,
        help="End the job when a rank is silent, or late for a step, for so many seconds.",
    )  # fmt: skip


class Override(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """An option that a resumed run may be given another value of on purpose, and the value: lr=0.003."""

    name = "override"
    options: ClassVar = {option.name: option for option in Training.options() if option.change is Change.OVERRIDE}
    words = " or ".join(f"{name}=value" for name in options)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        text = as_text(value)
        name, equals, new = text.partition("=")
        if not equals or name not in self.options:
            self.fail(f"{text!r} is not {self.words}", param, context)
        try:
            self.options[name].check(new)
        except InputError as error:
            self.fail(str(error), param, context)
        return text


@dataclasses.dataclass(frozen=True)
class Output(Group):
    """What the run leaves behind, and what it is resumed from."""

    out: Path | None = option(
        None, NewPath(), metavar="FOLDER", shown_default="runs/<time>", change=Change.RUN,
        recorded=False, help="Gets metrics.jsonl, config.toml, checkpoints and model.npz.",
    )  # fmt: skip
    checkpoint_every: tuple[int, Literal["steps", "epochs"]] = option(
        (1, "epochs"), click.Tuple([count(), click.Choice(["steps", "epochs"])]), metavar="N steps|epochs",
        change=Change.RUN, help="How often to write down all that is needed to go on.",
    )  # fmt: skip
    keep: int | Literal["all"] = option(
        3, CountOrAll(), metavar="N|all", change=Change.RUN,
        help="Newest checkpoints to keep, besides the best; all: wait for a slow disk, too, rather than leave one out.",
    )  # fmt: skip
    resume: str | None = option(
        None, click.STRING, metavar="auto|PATH", change=Change.MACHINE, recorded=False,
        help="Go on from the newest checkpoint of --out, if there is one, or from a run's folder or a checkpoint.",
    )  # fmt: skip
    override: tuple[str, ...] = option(
        (), Override(), metavar="NAME=VALUE", change=Change.MACHINE, recorded=False, repeatable=True,
        help="With --resume: go on with another value on purpose, for example lr=0.003. It is noted.",
    )  # fmt: skip
    dashboard: int | None = option(
        None, Whole(0, below=2**16), metavar="PORT", change=Change.MACHINE, recorded=False,
        help="Show the run on a page while it trains, on http://127.0.0.1:PORT; 0 takes a free one.",
    )  # fmt: skip
    tensorboard: bool = option(
        False, click.BOOL, "Write the figures for TensorBoard, too, into the run's folder.", change=Change.MACHINE,
        recorded=False,
    )  # fmt: skip
    mlflow: str | None = option(
        None, Text(), metavar="URI", change=Change.MACHINE, recorded=False,
        help="Send the figures to MLflow, too: the address of a server, or file:FOLDER.",
    )  # fmt: skip
    wandb: bool = option(
        False, click.BOOL, "Send the figures to Weights & Biases, too; WANDB_MODE=offline writes them into the run's "
        "folder.", change=Change.MACHINE, recorded=False,
    )  # fmt: skip
    describe: bool = option(
        False, click.BOOL, "Print the network as a table, and train nothing.", change=Change.MACHINE, recorded=False
    )  # fmt: skip
    quiet: bool = option(False, click.BOOL, "Print nothing but errors.", change=Change.MACHINE, recorded=False)


HYPERPARAMETERS = ("lr", "momentum", "beta1", "beta2", "decay", "epsilon", "trust", "weight_decay")
"""Fields of Training that an optimizer has by the same names, or does not have."""
IN_LAYERS = ("dropout", "input_dropout", "batch_norm")
"""Options that add layers to a network by name."""
AUGMENTATION = tuple(f"augment_{name}" for name in ("shift", "rotation", "scale", "shear", "elastic", "erase"))
"""Fields of Model that change images in training unless they are 0."""
