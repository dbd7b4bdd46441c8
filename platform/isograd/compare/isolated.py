"""Runs in processes of their own.

A process remembers its largest memory and keeps what libraries cached, so a second run in it would report the first
one's peak. And a run that the system kills, for want of memory say, must not take the comparison with it.
"""

import faulthandler
import multiprocessing
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

from isograd.errors import IsogradError, ProcessDiedError, StageFailedError
from isograd.system.exit_status import interrupt

T = TypeVar("T")

# Imported once, in the clean process that all others are forked from, to save seconds a run. None touches a GPU; and
# nothing of isograd's own, because that process may find another copy of it: it does not have this one's sys.path.
_PRELOADED = ["torch", "timm", "hydra", "sklearn.datasets"]
_NUM_FRAMES = 3
_PATIENCE_S = 30.0  # for a run that was told to stop: it has actors to release


def run_apart(work: Callable[..., T], *arguments: object) -> T:
    """Returns ``work(*arguments)``, done in a fresh process. All of it must be picklable.

    Raises:
        IsogradError: What ``work`` raised; StageFailedError where its process died.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with tempfile.NamedTemporaryFile(prefix="isograd-fault-") as fault:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(sender, fault.name, work, *arguments))
        process.start()
        sender.close()
        try:
            answer = receiver.recv()
        except EOFError:
            process.join()
            answer = _explain_death(process.exitcode, fault.read().decode(errors="replace"))
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            receiver.close()
            process.join(_PATIENCE_S)
            process.kill()
    if isinstance(answer, IsogradError):
        raise answer
    return answer


def _answer(sender: Connection, fault: str, work: Callable[..., object], *arguments: object) -> None:
    """What the process does: sends back the value, or the error; a fault in native code goes into a file."""
    faulthandler.enable(open(fault, "w"), all_threads=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and passes it on as SIGTERM
    signal.signal(signal.SIGTERM, interrupt)
    try:
        sender.send(work(*arguments))
    except KeyboardInterrupt:
        sys.exit(130)
    except IsogradError as error:
        sender.send(error)
    except Exception as error:  # one run's end, whatever it is, is not the comparison's
        traceback.print_exc()
        failure = StageFailedError(
            f"the run ended with {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            "Its trace is above",
            "Use `isograd train` with the same options to see it alone.",
        )
        sender.send(failure)


def _explain_death(status: int | None, fault: str) -> ProcessDiedError:
    how = f"with status {status}" if status is None or status >= 0 else f"by signal {signal.Signals(-status).name}"
    if status == -signal.SIGKILL:
        return ProcessDiedError(
            f"the process of the run ended {how}",
            "The system stops a process that asks for more memory than there is; nothing of the run is left",
            "Use a smaller data.batch_size or model, or look at its log.",
        )
    frames = [line.strip() for line in fault.splitlines() if line.startswith("  File ")]
    where = f", in native code: {' | '.join(frames[:_NUM_FRAMES])}" if frames else ""
    return ProcessDiedError(
        f"the process of the run ended {how}{where}",
        "Whoever ended it, or the code that it ran, is to blame; nothing of the run is left",
        "Use `isograd train` with the same options to see it alone.",
    )
