"""The command line of training: settings -> objects -> fit -> what a person sees."""

from typing import Any

import click

import ddp_numpy
from ddp_numpy.base.threads import describe_blas
from ddp_numpy.cli import run, training_options, training_settings
from ddp_numpy.comm import Communicator, is_launched, is_reporter, world
from ddp_numpy.data import Dataset
from ddp_numpy.making import learning_rate, make_trainer, read_data, read_test_data, scaled_by, schedule_epochs
from ddp_numpy.nn.table import table
from ddp_numpy.runs.beside import need_packages
from ddp_numpy.runs.circumstances import circumstances
from ddp_numpy.runs.folder import NoRecord, RunFolder
from ddp_numpy.runs.report import Report
from ddp_numpy.runs.resume import Start, find_start, identity
from ddp_numpy.runs.snapshot import Snapshot
from ddp_numpy.settings import Settings
from ddp_numpy.training.doubts import Doubts
from ddp_numpy.training.metrics import figures, interval
from ddp_numpy.training.signals import stopped_by_signals
from ddp_numpy.training.trainer import Trainer


def _print_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """The callback of --version: rank 0 prints it, though the ranks have not met yet."""
    if asked:
        if is_reporter(None):
            click.echo(f"ddp_numpy {ddp_numpy.__version__}")
        context.exit()


@click.command("train", context_settings={"show_default": True, "max_content_width": 110})
@training_options
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Print the version and exit.")  # fmt: skip
@click.pass_context
def main(context: click.Context, /, **_: Any) -> None:
    """Train a network on labelled rows: alone, or under mpirun on all ranks together, with the same result."""
    settings, given = training_settings(context)
    comm = world(settings.training.comm, settings.training.stall_timeout)
    with comm.unhurried():  # all but the steps themselves: reading, evaluating, writing the last checkpoint
        train(settings, given, comm)


def train(settings: Settings, given: set[str], comm: Communicator) -> None:
    """Train as the settings say, and leave a run folder behind. Collective.

    given: the names of the options that are not defaults; a resumed run brings its own values of the others along.
    """
    report = Report(visible=comm.rank == 0 and not settings.output.quiet, launched=is_launched())
    start = Start()
    with comm.together():
        if comm.rank == 0:
            need_packages(settings)
            start = find_start(settings.output.resume, settings.output.out, report.warning)
            settings = start.settings(settings, given)
    settings = comm.broadcast(settings)
    train_data, valid_data = read_data(settings, comm, report.line)
    test_data = read_test_data(settings, train_data, comm)
    trainer = make_trainer(settings, train_data, comm)
    if settings.output.describe:
        for line in table(trainer.model, trainer.piece_rows):
            report.line(line)
        return
    decided = {
        "micro-rows": trainer.exchange.micro_rows,
        "exchange": trainer.exchange.found or settings.training.exchange,
        "lr": learning_rate(settings.training),
        "schedule-epochs": schedule_epochs(settings.training),
    }
    settings = settings.of(settings.values() | decided)
    record = begin(start, settings, trainer, train_data, report)
    show_header(report, settings, trainer, train_data, valid_data, start, record)
    with record:
        with stopped_by_signals(trainer), report.progress(settings.training.epochs, len(train_data)) as advance:
            advance(trainer.epoch * len(train_data) + int(trainer.epoch_sums[2]))  # of an earlier start

            def after_step(rows: int) -> None:
                advance(rows)
                with comm.unhurried():
                    record.after_step(trainer)

            doubts = Doubts(valid_data.largest_share)
            for epoch in trainer.fit(train_data, valid_data, settings.training.epochs, after_step):
                report.epoch(epoch)
                report.doubts(doubts.see(epoch))
                record.after_epoch(trainer, epoch)
        if trainer.ended_early:
            report.line(f"ended after epoch {trainer.epoch}: {trainer.early_stopping}")
        judged = {} if test_data is None else judge(trainer, test_data, settings, report)
        with comm.together(), trainer.averaged():
            record.finish(trainer.model, judged)


def judge(trainer: Trainer, data: Dataset, settings: Settings, report: Report) -> dict[str, Any]:
    """The trained model's figures on rows to test, which are printed too. Collective."""
    sums = trainer.evaluate(data)
    found: dict[str, Any] = {"data": settings.data.test, "rows": len(data), **figures("test", sums, data)}
    if data.target is None:
        found["test_accuracy_interval"] = least, most = interval(round(sums[1]), len(data))
        words = f"accuracy {found['test_accuracy']:.2%} (95 % interval {least:.2%} to {most:.2%})"
    else:
        words = f"RMSE {found['test_rmse']:.5g}, R² {found['test_r2']:.4f}"
    report.line(f"test: {words}, loss {found['test_loss']:.4f}, on {len(data):,} rows of {settings.data.test}")
    return found


def begin(
    start: Start, settings: Settings, trainer: Trainer, train_data: Dataset, report: Report
) -> RunFolder | NoRecord:
    """Bring the trainer to where it starts, and open what it writes down. Collective."""
    comm, common = trainer.comm, {}
    record: RunFolder | NoRecord = NoRecord()
    with comm.together():
        if comm.rank == 0:
            common = identity(trainer.model, train_data)
            start.check(settings, common, report.warning)
            if warning := trainer.idle_ranks():
                report.warning(warning)
    if comm.broadcast(start.snapshot is not None):
        snapshot = start.snapshot or Snapshot(0, 0, {})  # rank 0's counts
        arrays = start.arrays(trainer.state(), settings) if start.snapshot else {}
        trainer.restore(snapshot.epoch, snapshot.step, arrays)
    rank_hosts = comm.rank_hosts()
    with comm.together():
        if comm.rank == 0:
            how = circumstances(comm, rank_hosts, trainer.epoch, trainer.step)
            record = RunFolder(start, settings, common, how, trainer.steps_made, report.warning)
    return record


def show_header(
    report: Report,
    settings: Settings,
    trainer: Trainer,
    train_data: Dataset,
    valid_data: Dataset,
    start: Start,
    record: RunFolder | NoRecord,
) -> None:
    """Print what the run is made of. Collective."""
    comm, model, hosts = trainer.comm, trainer.model, ", ".join(trainer.comm.hosts())
    fields = {
        "ranks": f"{comm.size} on {hosts}; {comm}",
        "BLAS": describe_blas(),
        "data": f"{settings.data.source}: {len(train_data):,} rows to train, {len(valid_data):,} to validate, "
        f"{train_data}",
        "model": f"{model}{'' if train_data.target else ' softmax'}: {model.params.size:,} parameters, {model.dtype}",
        "training": f"{settings.training.epochs} epochs of {trainer.epoch_steps:,} steps, {trainer}",
        "exchange": str(trainer.exchange),
        "output": str(record),
    }
    if train_data.notes:
        fields["columns"] = "; ".join(train_data.notes)
    training = settings.training
    if training.lr_scaling != "none":
        fields["scaling"] = (
            f"{training.lr_scaling}: a learning rate of {training.lr:g} for batches of {training.base_batch_size} rows "
            f"times {scaled_by(training):g}"
        )
    if start.path:
        fields["resumed"] = f"after epoch {trainer.epoch}, step {trainer.step}, from {start.path}"
    report.fields(f"ddp_numpy {ddp_numpy.__version__}", fields)
    for line in train_data.plan():
        report.line(f"    {line}")
    report.doubts(train_data.doubts)
    report.table_header(train_data.target is not None)


if __name__ == "__main__":
    run(main)
