"""Messages cross the link unchanged, in order, without copies that are not needed."""

import threading

import pytest
import torch
from torch import Tensor

from isograd.channels.delivery import Inbox, OnHost, SendingOutbox
from isograd.channels.store import open_envelope, pack, seal, unpack
from isograd.local.message import Kind, Message
from tests.processes import HUNG_S

TENSORS = {
    "float32": torch.randn(2, 3, 4, 5),
    "bfloat16": torch.randn(2, 3, 4, 5).bfloat16(),
    "float64": torch.randn(7, dtype=torch.float64),
    "uint8": torch.randint(0, 255, (2, 3, 4, 4), dtype=torch.uint8),
    "int64": torch.arange(5),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "bfloat16 channels last": torch.randn(2, 3, 4, 5).bfloat16().to(memory_format=torch.channels_last),
    "strided": torch.randn(6, 4)[::2],
    "empty": torch.randn(0, 3),
    "one pixel": torch.randn(4, 6, 1, 1).as_strided((4, 6, 1, 1), (6, 1, 6, 6)),
    "transposed": torch.randn(3, 5, 7).transpose(0, 2),
    "scalar": torch.tensor(2.5),
    "expanded": torch.randn(1, 4).expand(3, 4),
}


@pytest.mark.parametrize("name", TENSORS)
def test_packing_keeps_bits_dtype_and_memory_order(name: str) -> None:
    tensor = TENSORS[name]
    back = unpack(pack(tensor))
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)
    assert back.stride() == (tensor.contiguous().stride() if name in ("strided", "expanded") else tensor.stride())


def test_packing_does_not_copy_a_dense_tensor() -> None:
    for name in ("float32", "bfloat16", "channels last"):
        assert pack(TENSORS[name]).array.ctypes.data == TENSORS[name].data_ptr()


def test_read_only_memory_becomes_a_tensor_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    packed = pack(torch.arange(4.0))
    packed.array.flags.writeable = False
    assert unpack(packed).data_ptr() == packed.array.ctypes.data
    assert not recwarn.list


def message(step: int, value: Tensor | None = None) -> Message:
    values = {} if value is None else {"x": value}
    return Message(Kind.TRAIN, 1, step, step, size=3, values=values, targets={"label": torch.arange(3)})


def test_an_envelope_keeps_everything_but_absent_tensors() -> None:
    opened = open_envelope(seal(message(4, torch.randn(3, 2))))
    assert (opened.kind, opened.number, opened.size, opened.inputs) == (Kind.TRAIN, 4, 3, {})
    assert opened.values["x"].shape == (3, 2) and opened.targets["label"].tolist() == [0, 1, 2]


def test_an_inbox_restores_the_order_of_deliveries() -> None:
    inbox = Inbox()
    threads = [threading.Thread(target=inbox.deliver, args=(step, message(step))) for step in (2, 0, 1)]
    for thread in threads:
        thread.start()
    assert [inbox.take().step for _ in range(3)] == [0, 1, 2]
    for thread in threads:
        thread.join(timeout=HUNG_S)
        assert not thread.is_alive()


class FailingLink:
    """A next stage that is gone."""

    def push(self, sequence: int, message: object) -> int:
        return sequence

    def wait(self, delivery: int) -> None:
        raise ConnectionError("gone")


def test_a_failed_delivery_is_raised_in_the_compute_thread() -> None:
    outbox = SendingOutbox(FailingLink(), 1, OnHost())
    with pytest.raises(ConnectionError, match="gone"):
        for step in range(4):
            outbox.send(message(step))
        outbox.close()
