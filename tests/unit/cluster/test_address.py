"""Addresses of clusters at which nobody answers: said soon, before Ray tries for minutes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from isograd.cluster.address import check_address
from isograd.errors import PlacementError


@contextmanager
def listening(answer: bytes = b"") -> Iterator[int]:
    """Runs a server that is no Ray: it says something to whoever connects, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                taken.append(connection)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_listens(scheme: str) -> None:
    with listening() as port:
        pass
    with pytest.raises(PlacementError, match=rf"no Ray cluster answers at .*{port} \(Connection refused\)"):
        check_address(f"{scheme}127.0.0.1:{port}")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["http", "silence"])
def test_what_listens_is_no_ray(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isograd.cluster.address._TIMEOUT_S", 0.5)
    with listening(answer) as port, pytest.raises(PlacementError, match="something listens there that is no Ray"):
        check_address(f"127.0.0.1:{port}")


SETTINGS, ACKNOWLEDGED = (bytes([0, 0, 0, 4, flags, 0, 0, 0, 0]) for flags in (0, 1))
NOT_FOUND = b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x8d"  # headers that end the first stream: status 404
HEADERS, PREFACE_BYTES, FRAME_BYTES = 1, 24, 9


@contextmanager
def serving_pages(asked: list[bytes]) -> Iterator[int]:
    """Runs a server that speaks HTTP/2, and knows no page; what it is ``asked`` for is listed."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):  # whether somebody listens; whether it is Ray
                connection, _ = server.accept()
                with connection, suppress(ConnectionError):
                    connection.sendall(SETTINGS + ACKNOWLEDGED)
                    stream = connection.makefile("rb")
                    stream.read(PREFACE_BYTES)
                    while len(frame := stream.read(FRAME_BYTES)) == FRAME_BYTES:
                        stream.read(int.from_bytes(frame[:3], "big"))
                        if frame[3] == HEADERS:
                            asked.append(frame)
                            connection.sendall(NOT_FOUND)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_what_speaks_http2_is_no_ray_yet() -> None:
    asked: list[bytes] = []
    with serving_pages(asked) as port, pytest.raises(PlacementError, match="something listens there that is no Ray"):
        check_address(f"127.0.0.1:{port}")
    assert len(asked) == 1


def test_auto_without_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with listening() as port:
        pass
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(PlacementError, match=rf"cluster.address=auto \(127.0.0.1:{port}: Connection refused\)"):
        check_address("auto")
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(PlacementError, match="no cluster was started on this machine"):
        check_address("auto")


@pytest.mark.parametrize(
    "address",
    ["local", "head", "head:", ":6379", "head:0", "head:99999", "http://head:6379", "head:6379/x", "ray://", "a b:1"],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(PlacementError, match="is no address of a Ray cluster"):
        check_address(address)


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(PlacementError, match=r"no Ray cluster answers at cluster.address=nowhere.invalid:6379"):
        check_address("nowhere.invalid:6379")
