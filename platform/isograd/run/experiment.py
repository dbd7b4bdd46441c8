"""A run, from its configuration to its record. Everything that can be checked is checked before training starts."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from torch.nn.modules.batchnorm import _BatchNorm

from isograd.cluster.loopback import prefer_loopback
from isograd.config.load import overridden
from isograd.config.stored import read_config
from isograd.data.batch import Source
from isograd.data.dataset import dataset_of
from isograd.data.identity import Identity
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig, fingerprint
from isograd.engine.contract import check_task
from isograd.engine.program import Program
from isograd.errors import CheckpointError, ConfigError, IsogradError, RunFolderError
from isograd.events.events import EpochRecord, Event, Position, Snapshot
from isograd.events.sinks import JsonLines, Sink, Terminal
from isograd.executors.executor import Opener, check, executor_of, layout_of, make_executor
from isograd.planning.choose import resolved
from isograd.run import checkpoint, folder
from isograd.run.checkpoint import Checkpoint, Collector
from isograd.run.folder import RunFolder
from isograd.run.history import drop_events_after, read_epochs
from isograd.run.record import RunRecord, Tally
from isograd.run.score import ScoreCheck
from isograd.run.spent import Account
from isograd.run.stored_record import has_record
from isograd.run.timeline import TimelineKeeper, planned
from isograd.system.lock import held
from isograd.system.provenance import hardware, provenance
from isograd.system.trouble import check_readable, trouble_of


@dataclass(frozen=True)
class Prepared:
    """A run that has been checked and may start.

    Attributes:
        asked: The configuration as it came; ``config`` has everything decided.
        program: What it does.
        data: What it trains on.
        resumed: The checkpoint that it goes on from.
        newest: Where that lies.
        earlier: Events of the run before that checkpoint.
    """

    asked: RunConfig
    blueprint: Blueprint
    program: Program
    folder: RunFolder
    data: Identity
    resumed: Checkpoint | None = None
    newest: Path | None = None
    earlier: tuple[Event, ...] = ()

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.blueprint.config

    @property
    def kept(self) -> RunConfig:
        """What the run folder keeps: the cuts that were decided, since results depend on them, but not the stages."""
        return replace(self.config, executor=self.asked.executor)

    @property
    def note(self) -> str:
        """What a person should know before it starts; mostly nothing."""
        if self.program.source.num_valid:
            return ""
        return (
            "note: there is no validation split, so what is shown is of the test split, and nothing may be chosen by "
            "it; data.valid=0.1 holds one out"
        )


def prepare(config: RunConfig) -> Prepared:
    """Checks a new run: names, cuts, data, folder.

    Raises:
        IsogradError: In three parts, what is wrong; nothing has been written.
    """
    blueprint = Blueprint(resolved(config))
    check_task(blueprint)
    run_folder = folder.choose(config)
    folder.check_writable(run_folder)
    source = _checked_source(blueprint)
    program = _program(blueprint, source, Position())
    return Prepared(config, blueprint, program, run_folder, blueprint.dataset.identify())


def prepare_resumed(path: Path, overrides: Sequence[str] = (), data_path: str | None = None) -> Prepared:
    """Checks a run that goes on from the newest checkpoint in its folder.

    Args:
        path: The run folder.
        overrides: Of executor, cluster, checkpoint, train.max_steps and folders; others change the result and are
            refused, mostly by the checkpoint's fingerprint.
        data_path: Where the data lies now; None: where it lay.

    Raises:
        RunFolderError: The run is complete: its result stays as it is; or another process works in its folder.
        IsogradError: In three parts, what else is wrong.
    """
    run_folder = RunFolder(folder.absolute(path))
    config = stored_config(run_folder, overrides)
    _check_pace(stored_config(run_folder), config)
    if data_path is not None:
        config = replace(config, data=config.data.at(data_path))
    folder.check_writable(
        run_folder, f"Use a copy: `cp -r --no-preserve=mode {run_folder.path} COPY`, and `isograd resume COPY`."
    )
    with held(run_folder.path):  # who works there removes checkpoints, and the one that is being read may be the next
        return _prepared_resumed(run_folder, config)


def _prepared_resumed(run_folder: RunFolder, config: RunConfig) -> Prepared:
    blueprint = Blueprint(resolved(config))
    newest, data = checkpoint.newest(run_folder.checkpoints), blueprint.dataset.identify()
    found = checkpoint.read(newest, fingerprint(config), data)
    program = _program(blueprint, _checked_source(blueprint), found.position)
    _check_unfinished(run_folder, program)
    earlier = tuple(read_epochs(run_folder.events, found.position.step))
    _check_history(run_folder, program, earlier)
    return Prepared(config, blueprint, program, run_folder, data, found, newest, earlier)


def _check_pace(stored: RunConfig, config: RunConfig) -> None:
    """Raises ConfigError where a run that goes on would be evaluated at other epochs than it has been."""
    before, now = stored.train.evaluate_every, config.train.evaluate_every
    if now != before:
        raise ConfigError(
            f"train.evaluate_every={now} cannot be set for a run that goes on: it was begun with {before}",
            "Its best score would be chosen among other epochs than a whole run's",
            f"Leave train.evaluate_every={now} out, or use `isograd train` for another run.",
        )


def _check_unfinished(run_folder: RunFolder, program: Program) -> None:
    if program.start.step >= program.num_steps and has_record(run_folder.path):
        raise RunFolderError(
            f"{run_folder.path} is complete: {program.start.step} of {program.num_steps} steps are trained",
            "There is nothing to go on with, and its result.json stays as it is",
            "Use `isograd train` for another run, or a larger train.max_steps where that had ended this one.",
        )


def _check_history(run_folder: RunFolder, program: Program, earlier: Sequence[Event]) -> None:
    """Raises RunFolderError where epochs that were trained are not in the events any more."""
    split = program.judging_split
    known = {event.epoch for event in earlier if isinstance(event, EpochRecord) and event.split == split}
    due = [epoch for epoch in range(1, program.start.epoch) if epoch % program.evaluate_epochs == 0]
    if missing := [epoch for epoch in due if epoch not in known]:
        raise RunFolderError(
            f"{run_folder.events} has no {split} of {len(missing)} of {len(due)} epochs that the newest "
            f"checkpoint has trained: {', '.join(map(str, missing[:5]))}{' ...' if len(missing) > 5 else ''}",
            "It is damaged, and the result would be without their scores",
            "Use a copy of that file as the run wrote it, or `isograd train` to make the run again.",
        )


def execute(prepared: Prepared, console: Console | None = None, open_executor: Opener = make_executor) -> RunRecord:
    """Runs it, and writes the run folder.

    Args:
        prepared: The run.
        console: For its progress.
        open_executor: Where its executor comes from.

    Raises:
        IsogradError: The devices cannot be had, a stage died, the loss is no longer a number, another process works in
            the run folder, or the disk is full. The checkpoints written so far stay.
    """
    with _blaming_the_machine(prepared.folder), held(prepared.folder.path):
        return _executed(prepared, console, open_executor)


def _executed(prepared: Prepared, console: Console | None, open_executor: Opener) -> RunRecord:
    blueprint, program = prepared.blueprint, prepared.program
    num_modules = blueprint.partition.num_modules
    keeper = TimelineKeeper(planned(blueprint)) if prepared.config.executor.timeline else None
    with ExitStack() as stack:
        _check_newest(prepared)
        stack.enter_context(_readers(prepared.config))
        executor = stack.enter_context(open_executor(blueprint, program.source.held_bytes, _extra_cpus(prepared)))
        if prepared.resumed is not None:
            executor.load_state(prepared.resumed.state)
        _open_folder(prepared)
        score, split = blueprint.task.score, program.judging_split
        tally = Tally(num_modules, score, split)
        for event in prepared.earlier:
            tally.take(event)
        log = stack.enter_context(JsonLines(prepared.folder.events))
        sinks: list[Sink] = [log, ScoreCheck(num_modules, score), tally]
        if keeper is not None:
            sinks.append(keeper)
        if console is not None:
            sinks.append(stack.enter_context(_terminal(console, prepared)))
        account = Account(program.start.step, prepared.resumed.spent if prepared.resumed else ())
        newest = _consume(executor.fit(program), [account, *sinks], _collector(prepared), account)
        spent = account.legs
    record = tally.record(
        spent,
        account.stages,
        checkpoint=None if newest is None else str(newest),
        fingerprint=fingerprint(prepared.config),
        hardware=hardware(),
        timeline=None if keeper is None else keeper.write(prepared.folder),
    )
    prepared.folder.write_json(prepared.folder.result.name, record.to_json())
    return record


def _check_newest(prepared: Prepared) -> None:
    """Raises RunFolderError where another process has gone on with the run since it was checked."""
    if prepared.resumed is None:
        return
    newest = checkpoint.newest(prepared.folder.checkpoints)
    if newest != prepared.newest:
        raise RunFolderError(
            f"the newest checkpoint of the run is {newest}, no longer {prepared.newest}",
            "Another process went on with the run meanwhile",
            "Use `isograd resume` again.",
        )


def run(config: RunConfig, console: Console | None = None) -> RunRecord:
    """Prepares and executes: from a configuration to a record."""
    return execute(prepare(config), console)


def _consume(events: Iterator[Event], sinks: Sequence[Sink], collector: Collector, account: Account) -> Path | None:
    newest = None
    for event in events:
        for sink in sinks:
            sink.take(event)
        if isinstance(event, Snapshot):
            newest = collector.add(event, account.legs_until) or newest
    return newest


def _collector(prepared: Prepared) -> Collector:
    return Collector(
        prepared.folder.checkpoints,
        prepared.blueprint.partition.num_modules,
        fingerprint(prepared.config),
        prepared.data,
        prepared.config.checkpoint.keep,
    )


@contextmanager
def _blaming_the_machine(run_folder: RunFolder) -> Iterator[None]:
    """Says in three parts what the machine does to a run, such as a disk that is full, and how the run goes on."""
    try:
        yield
    except Exception as error:
        trouble = trouble_of(error, run_folder.path)
        if trouble is None or isinstance(error, IsogradError):
            raise
        again = "`isograd train` again"
        if run_folder.path.exists():
            saved = checkpoint.saved(run_folder.checkpoints)
            again = f"`isograd resume {run_folder.path}`" if saved else f"delete {run_folder.path}, and {again}"
        raise type(trouble)(trouble.what, trouble.why, f"{trouble.mend.partition(':')[0]}: {again}.") from error


def _open_folder(prepared: Prepared) -> None:
    origin = {**provenance(prepared.config.seed), "data": prepared.data.to_json()}
    if prepared.resumed is None:
        folder.make(prepared.folder)
        try:
            prepared.folder.write_config(prepared.kept)
            prepared.folder.write_json(prepared.folder.provenance.name, origin)
        except BaseException:
            shutil.rmtree(prepared.folder.path, ignore_errors=True)  # half a run folder is none
            raise
    else:
        drop_events_after(prepared.folder.events, prepared.resumed.position.step)
        prepared.folder.write_config(replace(stored_config(prepared.folder), train=prepared.config.train))
        name = f"provenance-{prepared.resumed.position.step:08d}.json"
        prepared.folder.write_json(name, origin)


def _terminal(console: Console, prepared: Prepared) -> Terminal:
    program, num_modules = prepared.program, prepared.blueprint.partition.num_modules
    return Terminal(
        console,
        num_epochs=program.num_epochs,
        num_steps=program.num_steps,
        first_step=program.start.step,
        num_modules=num_modules,
        last_stage=layout_of(prepared.blueprint).num_stages - 1,
        score=prepared.blueprint.task.score,
    )


def _checked_source(blueprint: Blueprint) -> Source:
    modules = check(blueprint)
    source = blueprint.dataset.open(blueprint.config.seed)
    has_batchnorm = any(isinstance(part, _BatchNorm) for module in modules for part in module.modules())
    last = source.num_train % source.batch_size or source.batch_size
    if has_batchnorm and last == 1:
        smaller = next((n for n in range(source.batch_size - 1, 1, -1) if source.num_train % n != 1), 2)
        raise ConfigError(
            f"the last batch of an epoch has 1 sample: {source.num_train:,} samples in batches of {source.batch_size}",
            "BatchNorm needs at least two to take a variance of",
            f"Use data.batch_size={smaller}, for example.",
        )
    executor_of(blueprint.config).check_batches(blueprint.config, (source.batch_size, last), has_batchnorm)
    return source


def count_epochs(config: RunConfig) -> int:
    """Returns how many epochs a run has: fewer than ``train.epochs`` where ``train.max_steps`` ends it before.

    Raises:
        DataError: The data, whose size decides that, is not there.
    """
    train = config.train
    if not train.max_steps:
        return train.epochs
    return Program(dataset_of(config.data).open(config.seed), train.epochs, max_steps=train.max_steps).end_epoch


def _program(blueprint: Blueprint, source: Source, start: Position) -> Program:
    config = blueprint.config
    return Program(
        source,
        num_epochs=config.train.epochs,
        start=start,
        max_steps=config.train.max_steps,
        snapshot_epochs=config.checkpoint.every_epochs,
        snapshot_steps=config.checkpoint.every_steps,
        carries_inputs=blueprint.method.exchange.inputs,
        evaluate_epochs=config.train.evaluate_every,
    )


def _readers(config: RunConfig) -> AbstractContextManager[None]:
    """Connects Ray where it reads the data although the executor does without it."""
    if not config.data.streams or executor_of(config).needs_ray:
        return nullcontext()
    prefer_loopback()
    from isograd.cluster.connection import connected

    return connected(config.cluster)


def _extra_cpus(prepared: Prepared) -> int:
    """One for each process that opens a streamed data set."""
    config = prepared.config
    return executor_of(config).num_readers if config.data.streams else 0


def stored_config(run_folder: RunFolder, overrides: Sequence[str] = ()) -> RunConfig:
    """Returns the configuration of a run folder, with overrides.

    Raises:
        CheckpointError: It is no run folder.
        ConfigError: The configuration is damaged, or an override does not fit.
        MachineError: This user may not read it.
    """
    check_readable(run_folder.path, run_folder.config)
    if not run_folder.config.exists():
        raise CheckpointError(
            f"{run_folder.path} is the folder of no run and no study: it has no config.yaml and no sweep.json",
            "What goes on does so with the configuration that it was started with",
            "Use the path that `isograd train` or `isograd tune` printed.",
        )
    return overridden(read_config(run_folder.config), overrides)
