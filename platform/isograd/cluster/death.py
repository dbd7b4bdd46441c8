"""How a process of Ray's came to its end: by which signal or with which status, and what it said last.

Ray tells little: that the connection to a worker broke. The worker's log has more. Python's fault handler writes into
it which signal a fault in native code raised, and where; :mod:`isograd.cluster.last_words` writes what would leave no
trace. Only SIGKILL leaves none, and so is told by its silence.
"""

import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayActorError, RayError, WorkerCrashedError

from isograd.cluster.last_words import MARK

_SETTLING_S = 3.0  # for Ray to find out whether an actor that does not answer is dead
_POLL_S = 0.1
_ANSWER_S = 1.0
_TAIL_BYTES = 2**16
_NUM_FRAMES, _NUM_WORDS, _WORD_LENGTH = 3, 2, 160
_NOT_ITS_WORDS = re.compile(r"^(:[a-z_]+:|Extension modules:|\[\d{4}-\d\d-\d\d |\s*$|Stack \(|\s+File \")")


@dataclass(frozen=True)
class Death:
    """The end of a process.

    Attributes:
        how: Completes "its process ...".
        words: What its log ends with, shortened.
        log: Where that is.
        lost_node: Identifier of the node that was lost with it; empty where only the process ended.
    """

    how: str
    words: tuple[str, ...] = ()
    log: str = ""
    lost_node: str = ""

    def __str__(self) -> str:
        words = f": {' | '.join(self.words)}" if self.words else ""
        log = f" (log: {self.log})" if self.log else ""
        return f"its process {self.how}{words}{log}"


def is_death(error: BaseException) -> bool:
    """Whether an error is Ray's way to say that a process or its node is no longer there."""
    return isinstance(error, RayActorError | OutOfMemoryError | NodeDiedError | WorkerCrashedError)


class ToldDeathError(ActorDiedError):
    """An actor's death of a kind that Ray reports by another error than that of an actor.

    Attributes:
        death: How it came to that.
    """

    death: Death = Death("ended")


def as_actors(error: RayError) -> RayActorError:
    """Returns an error about a process that is gone as one about its actor, which is all that Ray Tune knows."""
    if isinstance(error, RayActorError):
        return error
    told = ToldDeathError()
    told.death, told.error_msg = death_of(error), str(error)
    return told


def death_of(error: RayError) -> Death:
    """Returns how the process ended that an error is about."""
    if isinstance(error, ToldDeathError):
        return error.death
    if isinstance(error, OutOfMemoryError):
        return _short_of_memory(str(error))
    actor_id = getattr(error, "actor_id", None)
    record = _settled(actor_id) if actor_id else {}
    cause = record.get("DeathCause")
    if cause is not None and cause.HasField("oom_context"):
        return _short_of_memory(cause.oom_context.error_message)
    context = cause.actor_died_error_context if cause is not None else None
    node = _node(record.get("Address", {}).get("NodeID", ""))
    reason = context.Reason.Name(context.reason) if context is not None else ""
    if reason == "NODE_DIED" or (node and not (node["Alive"] and answers(node))):
        return _with_its_node(node, record)
    if record and record.get("State") != "DEAD":
        return Death(f"does not answer, though its node does ({_line(str(error), 0)})")
    if reason in ("RAY_KILL", "OUT_OF_SCOPE", "REF_DELETED", "OWNER_DIED"):
        return Death(f"was ended through Ray ({reason})")
    if cause is not None and cause.WhichOneof("context") not in (None, "actor_died_error_context"):
        return Death(f"could not be started ({_line(str(error), -1)})")
    told = re.search(r"pid: (\d+)", str(error))  # where Ray has forgotten the actor
    detail = context.error_message if context is not None else str(error)
    return _by_itself(detail, int(record.get("Pid") or (told.group(1) if told else 0)), node)


def answers(node: Mapping[str, Any]) -> bool:
    """Whether something listens where Ray's process of a node did, whatever Ray still believes of it."""
    if not node:
        return False
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=_ANSWER_S):
            return True
    except OSError:
        return False


def is_settled(node_id: str) -> bool:
    """Whether a node that was lost is known to be dead, or answers again: Ray may use it until it knows."""
    node = _node(node_id)
    return not node or not node["Alive"] or answers(node)


def _settled(actor_id: str) -> dict[str, Any]:
    """Returns what Ray knows of an actor, once it knows that it is dead, or its node does not answer."""
    deadline_s = time.monotonic() + _SETTLING_S
    while True:
        record = _record(actor_id)
        if record.get("State") in (None, "DEAD") or time.monotonic() > deadline_s:
            return record
        if not answers(_node(record["Address"]["NodeID"])):
            return record
        time.sleep(_POLL_S)


def _record(actor_id: str) -> dict[str, Any]:
    from ray._private import state

    return state.actors(actor_id)


def _node(node_id: str) -> dict[str, Any]:
    return next((node for node in ray.nodes() if node["NodeID"] == node_id), {})


def _with_its_node(node: Mapping[str, Any], record: Mapping[str, Any]) -> Death:
    address = node.get("NodeManagerAddress") or record.get("Address", {}).get("IPAddress") or "unknown"
    reason = node.get("DeathReasonMessage") or ("it no longer answers" if node.get("Alive") else "")
    node_id = node.get("NodeID") or record.get("Address", {}).get("NodeID", "")
    return Death(f"was lost with its node, {address}{f' ({_line(reason, 0)})' if reason else ''}", (), "", node_id)


def _short_of_memory(text: str) -> Death:
    used = re.search(r"[\d.]+\s*[KMG]i?B / [\d.]+\s*[KMG]i?B", text)
    return Death(
        "was ended by Ray, because its node was short of memory"
        f"{f' ({used.group()} in use)' if used else ''}: fewer trials or stages at once need less"
    )


def _by_itself(detail: str, process_id: int, node: Mapping[str, Any]) -> Death:
    path, place = _log(process_id, node)
    lines = _tail(path) if path is not None else []
    fault = _fault(lines)
    if fault is not None:
        how, words = fault
        return Death(how, words, place)
    words = tuple(line.strip()[:_WORD_LENGTH] for line in lines if not _NOT_ITS_WORDS.match(line))[-_NUM_WORDS:]
    mark = next((line for line in reversed(lines) if line.startswith(MARK)), None)
    if mark is not None:
        words = tuple(word for word in words if not word.startswith(MARK))
        return Death(f"was ended by {mark[len(MARK) :].strip()}", words, place)
    status = re.search(r"exit code (-?\d+)", detail)
    if "SIGTERM" in detail:
        return Death("was ended by signal SIGTERM", words, place)
    if status is not None:
        return Death(f"ended by itself, with exit status {status.group(1)}", words, place)
    if path is None:
        return Death("ended by a signal, or a fault in native code; its log tells which", words, place)
    killed = "was ended by signal SIGKILL: from outside, or by the system for want of memory"
    return Death(killed, words, place)


def _fault(lines: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Returns what Python's fault handler says, if it came to that: which signal, and where in Python that was."""
    at = next((index for index, line in enumerate(lines) if line.startswith("Fatal Python error:")), None)
    received = next((match for line in lines if (match := re.search(r"\*\*\* (SIG[A-Z]+) received", line))), None)
    if at is None and received is None:
        return None
    name = lines[at].partition(":")[2].strip() if at is not None else ""
    frames = [line.strip() for line in lines[at or 0 :] if line.startswith("  File ")]
    signal = f"signal {received.group(1)}" if received else name
    kind = f" ({name})" if name and received else ""
    return f"was ended by {signal}{kind}, in native code", tuple(frame[:_WORD_LENGTH] for frame in frames[:_NUM_FRAMES])


def _log(process_id: int, node: Mapping[str, Any]) -> tuple[Path | None, str]:
    """Returns the log of a process, if it lies on this machine, and how to tell a person where it is."""
    pattern = f"worker-*-{process_id}.err"
    folder = _log_folder()
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime) if folder and process_id else []
    if found:
        return found[-1], str(found[-1])
    address = node.get("NodeManagerAddress", "its node")
    return None, f"{pattern} in {folder or 'the logs of the Ray session'} on {address}"


def _log_folder() -> Path | None:
    from ray._private import worker

    node = getattr(worker, "_global_node", None)
    return Path(node.get_logs_dir_path()) if node is not None else None


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _line(text: str, index: int) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[index][:200] if lines else ""
