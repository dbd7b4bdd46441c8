"""What `isograd compare` is asked for, from the items and flags of its command line."""

import math
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isograd.errors import ConfigError, RunFolderError
from isograd.options import check_not_set
from isograd.registry import suggestion
from isograd.studies.records import is_finished
from isograd.studies.trials import is_trial
from isograd.system.paths import user_path

Rule = Literal["epochs", "device-seconds"]

DEFAULT_SEEDS = "0,1,2"
_SLUG_LENGTH = 100  # bytes; with seed and checkpoints' files, well within what file systems take
_SET_HERE = {"seed": "--seeds 0,1,2", "folder": "--output DIR", "run_name": "--output DIR"}


@dataclass(frozen=True)
class Asked:
    """An entry as it is asked for.

    Attributes:
        label: Its name in table and plot.
        overrides: Its own; they come after those of all entries and win.
    """

    label: str
    overrides: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The label as part of a folder's name."""
        text = re.sub(r"[^\w.]+", "-", self.label.lower()).strip("-.")
        return text.encode()[:_SLUG_LENGTH].decode(errors="ignore")


@dataclass(frozen=True)
class Request:
    """A comparison as it is asked for: entries to train, or finished runs.

    Attributes:
        asked: Entries to train.
        overrides: Of all entries.
        runs: Folders of finished runs, and trials of studies, ``STUDY/TRIAL``.
        rule: What all entries get the same amount of.
        device_s: Budget of each run under ``device-seconds``; None: what the baseline takes.
        baseline: Label of the entry that others are measured against; None: the first.
        command: The command line, for the record.
    """

    output: Path
    asked: tuple[Asked, ...]
    overrides: tuple[str, ...]
    runs: tuple[Path, ...]
    seeds: tuple[int, ...]
    rule: Rule
    device_s: float | None
    baseline: str | None
    command: str


def parse(
    items: Sequence[str],
    *,
    output: Path,
    seeds: str | None = None,
    rule: Rule | None = None,
    device_s: float | None = None,
    baseline: str | None = None,
) -> Request:
    """Sorts the items into runs, overrides and entries, and checks them.

    Args:
        items: A folder of a finished run; a study's trial, ``STUDY/TRIAL``, or a study's folder for its best;
            ``OPTION=VALUE`` for all entries; a method's name; or ``LABEL: OPTION=VALUE ...``.
        output: Folder for the files.
        seeds: With commas between them.
        rule: ``epochs`` where none is given.
        device_s: Budget of a run.
        baseline: A label; None: that of the first entry.

    Raises:
        ConfigError: An item or a flag is malformed, or contradicts another.
        RunFolderError: A folder holds no finished run.
    """
    runs = [item for item in items if is_finished(user_path(item)) or is_trial(item)]
    rest = [item for item in items if item not in runs]
    # For all entries; a colon in the value, as in ``ray://host``, does not make it a label.
    overrides = tuple(item for item in rest if "=" in item.partition(":")[0])
    asked = tuple(_parse_entry(item) for item in rest if item not in overrides)
    _check_kinds(runs, asked, overrides, given=any(flag is not None for flag in (seeds, rule, device_s)))
    _check_labels(asked)
    for override in (*overrides, *(override for entry in asked for override in entry.overrides)):
        check_not_set(override, "a comparison", _SET_HERE)
    _check_budget(rule, device_s)
    flags = {"seeds": seeds, "rule": rule, "device-seconds": device_s, "baseline": baseline, "output": output}
    given = [text for name, value in flags.items() if value is not None for text in (f"--{name}", _write(value))]
    return Request(
        output=user_path(output).absolute(),
        asked=asked,
        overrides=overrides,
        runs=tuple(map(user_path, runs)),
        seeds=() if runs else parse_seeds(seeds if seeds is not None else DEFAULT_SEEDS),
        rule=rule or "epochs",
        device_s=device_s,
        baseline=baseline if runs else choose_baseline([entry.label for entry in asked], baseline),
        command=shlex.join(["isograd", "compare", *items, *given]),
    )


def _write(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds in ``text``, such as ``0,1,2``. Raises ConfigError."""
    parts = text.split(",")
    seeds = tuple(int(part) for part in parts if part.strip().isdecimal())
    if len(seeds) < len(parts) or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"--seeds {text} does not list seeds",
            "Every entry is trained once with each: whole numbers from 0, each once, with commas between them",
            f"Use --seeds {DEFAULT_SEEDS}, for example.",
        )
    return seeds


def choose_baseline(labels: Sequence[str], baseline: str | None) -> str:
    """Returns the label of the baseline, by default the first. Raises ConfigError where there is no such entry."""
    if baseline is not None and baseline not in labels:
        raise ConfigError(
            f"there is no entry '{baseline}' to be the baseline.{suggestion(baseline, list(labels))}",
            f"The entries are: {', '.join(labels)}",
            f"Use --baseline '{labels[0]}', or leave it out: the first entry is the baseline.",
        )
    return labels[0] if baseline is None else baseline


def _parse_entry(item: str) -> Asked:
    label, colon, text = (part.strip() for part in item.partition(":"))
    if not colon:
        path = user_path(item)
        if os.path.isdir(path) or "/" in item:
            raise _explain_unfinished(item, path)
        return Asked(item, (f"method={item}",))
    if not (label and text):
        raise ConfigError(
            f"the entry '{item}' has no {'overrides' if label else 'label'}",
            "An entry is a method's name, or a label with what sets it apart",
            f"Use '{label or 'LABEL'}: {text or 'method=NAME'}'.",
        )
    try:
        return Asked(label, tuple(shlex.split(text)))
    except ValueError as error:
        raise ConfigError(
            f"the entry '{item}' has quotes without an end ({error})",
            "Its overrides are separated by spaces, and quoted as in a shell",
            "Close the quotes, or put a quote that belongs to the text between others.",
        ) from error


def _explain_unfinished(item: str, path: Path) -> RunFolderError:
    lost = [name for name in ("config.yaml", "result.json") if not os.path.isfile(path / name)]
    missing = f"it has no {' and no '.join(lost)}" if os.path.isdir(path) else "there is no such folder"
    return RunFolderError(
        f"{item} is not the folder of a finished run: {missing}",
        "A comparison takes its numbers from there",
        "Use the path that `isograd train` printed at its end"
        + (f", or finish the run with `isograd resume {path}`." if lost == ["result.json"] else "."),
    )


def _check_kinds(runs: Sequence[str], asked: Sequence[Asked], overrides: Sequence[str], *, given: bool) -> None:
    if not runs and not asked:
        raise ConfigError(
            f"there is nothing to compare: {len(overrides)} overrides and no entries",
            "A comparison has a row for each entry",
            "Use isograd compare e2e dgl --output DIR, for example, or folders of finished runs.",
        )
    extra = [entry.label for entry in asked] + list(overrides) + ["--seeds, --rule or --device-seconds"] * given
    if runs and extra:
        raise ConfigError(
            f"{len(runs)} finished runs do not go with {', '.join(extra)}",
            "Finished runs are compared as they are; nothing is trained beside them",
            "Use folders of runs alone, with --output and --baseline, or train all entries in one comparison.",
        )


def _check_labels(asked: Sequence[Asked]) -> None:
    by_slug: dict[str, Asked] = {}
    for entry in asked:
        other = by_slug.setdefault(entry.slug, entry)
        if other is not entry or not entry.slug:
            problem = "has neither letter nor digit" if not entry.slug else f"is taken: '{other.label}'"
            raise ConfigError(
                f"the label '{entry.label}' {problem}",
                "Labels name rows of the table and folders of runs, so they must differ in letters or digits, "
                f"and within the first {_SLUG_LENGTH}",
                f"Use another label, such as '{other.label or 'mine'} 2: {' '.join(entry.overrides)}'.",
            )


def _check_budget(rule: Rule | None, device_s: float | None) -> None:
    if device_s is None:
        return
    if rule != "device-seconds":
        raise ConfigError(
            f"--device-seconds {device_s:g} is given, but the rule is equal epochs",
            "The budget would be ignored",
            "Use --rule device-seconds as well.",
        )
    if not (device_s > 0 and math.isfinite(device_s)):
        raise ConfigError(
            f"--device-seconds {device_s:g} is no budget",
            "No epoch fits into it",
            "Use a number of seconds greater than 0, or leave it out for what the baseline takes.",
        )
