"""Every error of the platform, on one screen.

A message has three parts: *what* is wrong, with the numbers in it, *why* that is a problem, and *mend*: the one
change that mends it. All classes are picklable, so that they cross process borders unharmed.
"""


class IsogradError(Exception):
    """Base of all errors a user can cause or mend.

    Args:
        what: What is wrong, with the numbers in it.
        why: Why that is a problem.
        mend: One change that mends it.
    """

    def __init__(self, what: str, why: str, mend: str) -> None:
        super().__init__(what, why, mend)
        self.what, self.why, self.mend = what, why, mend

    def __str__(self) -> str:
        return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in self.args)


class ConfigError(IsogradError):
    """An option is unknown, malformed, or contradicts another one."""


class UnknownNameError(ConfigError):
    """A name is not in its registry."""


class SpaceError(ConfigError):
    """A search space is malformed, or does not fit the run that it changes."""


class StudyError(IsogradError):
    """A study cannot be opened, or is another one than was asked for."""


class BackboneError(IsogradError):
    """A network cannot serve as a backbone: it is no chain of units, or does not accept the input."""


class TaskError(IsogradError):
    """A task cannot be trained on this data, or an auxiliary network cannot predict from what is alive at a cut."""


class PartitionError(IsogradError):
    """The backbone cannot be cut as asked."""


class DataError(IsogradError):
    """A data set is missing, empty or corrupt."""


class RunFolderError(IsogradError):
    """The run folder cannot be made, or cannot be written to."""


class CheckpointError(IsogradError):
    """A checkpoint is missing, damaged, or belongs to another architecture."""


class ExchangeError(IsogradError):
    """An executor cannot serve what a method exchanges between its local modules."""


class PlacementError(IsogradError):
    """The cluster does not have the devices that the stages need."""


class ChannelError(IsogradError):
    """A channel cannot connect the stages where they are."""


class ContractError(IsogradError):
    """A plug-in (method, backbone, task) broke a promise that the engine relies on."""


class NonFiniteLossError(IsogradError):
    """The loss of a local module became NaN or infinite."""


class NonFiniteScoreError(IsogradError):
    """What a run is judged by is no number."""


class StageFailedError(IsogradError):
    """A stage of the pipeline failed or died."""


class ProcessDiedError(StageFailedError):
    """A process of the run ended before its work was done.

    Attributes:
        lost_node: Identifier of the node that was lost with it; empty where only the process ended.
    """

    lost_node: str = ""


class MachineError(IsogradError):
    """The machine stood in the way, whatever was asked of it: a disk is full, a folder may not be written."""


class MemoryShortError(MachineError):
    """The machine has no memory left to give."""
