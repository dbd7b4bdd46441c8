"""From what is asked for to the runs of every entry and seed, all of them checked before the first one starts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from isograd.compare.arguments import Asked, Request
from isograd.compare.comparison import AuxiliaryParameters, check_one_score
from isograd.config.load import load as compose
from isograd.config.stored import read_config
from isograd.data.dataset import dataset_of
from isograd.engine.blueprint import Blueprint, task_of
from isograd.engine.config import RunConfig, fingerprint, hold_out
from isograd.errors import ConfigError, IsogradError, RunFolderError
from isograd.executors.executor import check, make_executor
from isograd.local.module import LocalModule
from isograd.partition.partition import RULES
from isograd.planning.choose import with_cuts
from isograd.run.experiment import prepare
from isograd.run.folder import RunFolder, check_writable
from isograd.studies.records import FinishedRun, is_finished, list_differences, read_run
from isograd.system.lock import held
from isograd.tasks.task import Score

# A comparison starts an interrupted run again, so checkpoints would only cost time; the user's overrides come after.
_DEFAULTS = ("checkpoint.every_epochs=0",)


@dataclass(frozen=True)
class Planned:
    """An entry that has been checked.

    Attributes:
        configs: Seed -> configuration of its run, folder included.
        num_modules: K.
        remarks: What was changed about it.
    """

    label: str
    configs: Mapping[int, RunConfig]
    num_modules: int
    auxiliary: AuxiliaryParameters
    remarks: tuple[str, ...] = ()

    @property
    def config(self) -> RunConfig:
        """Of the first seed."""
        return next(iter(self.configs.values()))

    @property
    def score(self) -> Score:
        """By which its runs are judged."""
        return task_of(self.config).score

    def with_epochs(self, num_epochs: int) -> "Planned":
        """Returns the entry with runs of ``num_epochs`` epochs, which the learning-rate schedule spans."""
        configs = {
            seed: replace(config, train=replace(config.train, epochs=num_epochs))
            for seed, config in self.configs.items()
        }
        return replace(self, configs=configs)


def plan(request: Request) -> list[Planned]:
    """Composes and checks every run of the entries asked for.

    Raises:
        IsogradError: What is wrong with which entry; nothing has been written.
    """
    check_output(request.output)
    entries = [_plan_entry(request, asked) for asked in request.asked]
    check_one_score({entry.label: entry.score for entry in entries})
    if request.rule == "epochs":
        _check_equal_epochs(entries)
    return entries


def check_output(output: Path) -> None:
    """Raises RunFolderError where the files of the comparison could not be written."""
    try:
        check_writable(RunFolder(output / "runs"))
    except RunFolderError as error:
        raise RunFolderError(
            error.what, "Tables, picture and runs go there", "Use --output with a folder that you may write to."
        ) from error


def run_folder(config: RunConfig) -> Path:
    """Returns the folder of a planned run."""
    return Path(config.folder) / str(config.run_name)


def check_folders(entries: Sequence[Planned]) -> None:
    """Raises RunFolderError where a run of another comparison is in the way: finished, left behind or under way.

    So is one that was trained on what the data was before it changed.
    """
    for config in (config for entry in entries for config in entry.configs.values()):
        folder = run_folder(config)
        if is_finished(folder):
            run = read_run(folder)
            _check_same(folder, run.config, run.record.fingerprint, config)
            _check_data(run, config)
        elif folder.exists():
            with held(folder):
                stored = read_config(RunFolder(folder).config)
                _check_same(folder, stored, fingerprint(stored), config)


def count_auxiliary(modules: Sequence[LocalModule]) -> AuxiliaryParameters:
    """Counts what local modules hold beside the backbone's units; a tensor that two share counts once."""
    named = [item for module in modules for item in module.named_weights().items()]
    weights = {weight for name, weight in named if not name.startswith("backbone.")}
    num_trainable = sum(weight.numel() for weight in weights if weight.requires_grad)
    return AuxiliaryParameters(num_trainable, sum(weight.numel() for weight in weights) - num_trainable)


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Says in an error which entry it is about."""
    try:
        yield
    except IsogradError as error:
        raise type(error)(f"entry '{label}': {error.what}", error.why, error.mend) from error


def _plan_entry(request: Request, asked: Asked) -> Planned:
    with naming(asked.label):
        config, remarks = _compose(request, asked)
        config = replace(config, folder=str(request.output / "runs"))
        configs = {seed: replace(config, seed=seed, run_name=f"{asked.slug}-seed{seed}") for seed in request.seeds}
        modules = _check_runs(list(configs.values()))
    return Planned(asked.label, configs, len(modules), count_auxiliary(modules), remarks)


def _compose(request: Request, asked: Asked) -> tuple[RunConfig, tuple[str, ...]]:
    config = hold_out(compose([*_DEFAULTS, *request.overrides, *asked.overrides]))  # the table has a best epoch
    if request.rule == "device-seconds" and config.train.max_steps:
        raise ConfigError(
            f"train.max_steps={config.train.max_steps} does not go with --rule device-seconds",
            "The budget is spent in whole epochs; runs cut short would not spend it",
            f"Use {'lr_schedule=cosine ' if config.lr_schedule.by_step else ''}train.max_steps=0, or --rule epochs.",
        )
    config, remarks = _drop_cuts(config, asked)
    return with_cuts(config), remarks


def _drop_cuts(config: RunConfig, asked: Asked) -> tuple[RunConfig, tuple[str, ...]]:
    """Takes cuts and stages that are meant for the other entries from a method that cannot have them."""
    if Blueprint(config).method.max_num_modules != 1:
        return config, ()
    own = [override.partition("=")[0] for override in asked.overrides]
    dropped, even = [], RULES.get("even")()
    if not any(key.partition(".")[0] == "partition" for key in own) and config.partition != even:
        config = replace(config, partition=even)
        dropped.append("partition options")
    if "executor.num_stages" not in own and (single := config.executor.in_one_stage()) != config.executor:
        config = replace(config, executor=single)
        dropped.append("executor.num_stages")
    return config, (f"one module, {' and '.join(dropped)} not used",) if dropped else ()


def _check_equal_epochs(entries: Sequence[Planned]) -> None:
    first = entries[0]
    epochs = first.config.train.epochs
    for entry in entries:
        if entry.config.train.epochs != epochs:
            raise ConfigError(
                f"entry '{entry.label}' trains for {entry.config.train.epochs} epochs, entry '{first.label}' for "
                f"{epochs}",
                "The rule is equal epochs",
                "Use one train.epochs for all entries, or --rule device-seconds.",
            )


def _check_runs(configs: Sequence[RunConfig]) -> list[LocalModule]:
    """Checks the runs of an entry; data and executor, which no seed changes, once. Returns modules without memory."""
    first, *others = configs
    for config in others:
        check(Blueprint(config))
    blueprint = prepare(replace(first, run_name=None)).blueprint
    make_executor(blueprint)
    return blueprint.check()


def _check_same(folder: Path, stored: RunConfig, stored_fingerprint: str, config: RunConfig) -> None:
    names = list_differences([stored, config])
    if names or stored_fingerprint != fingerprint(config):
        raise RunFolderError(
            f"{folder} holds a run of another configuration: it differs in "
            f"{', '.join(names) or f'its fingerprint, {stored_fingerprint}'}",
            "The two would be mixed in one table",
            "Use another --output, or delete that folder to train it again.",
        )


def _check_data(run: FinishedRun, config: RunConfig) -> None:
    now = dataset_of(config.data).identify()
    if run.data not in (None, now):
        raise RunFolderError(
            f"{run.folder} was trained on other data: {run.data}; now there are {now}",
            "The data changed since, and runs on both would be mixed in one table",
            "Use another --output, or delete that folder to train it again.",
        )
