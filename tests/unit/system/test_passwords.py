"""Passwords in addresses: nothing that is shown has them."""

import sys

import pytest

from isograd.errors import ConfigError
from isograd.system.exit_status import status_of
from isograd.system.passwords import hide_password, hide_passwords
from isograd.system.provenance import provenance


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("tune.storage=mysql+pymysql://me:se/cr:et@host:33/db", "tune.storage=mysql+pymysql://me:***@host:33/db"),
        ("no-such://:secret with@this@host", "no-such://:***@host"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("sqlite:////folder/a:b@c.db", "sqlite:////folder/a:b@c.db"),
    ],
)
def test_a_password_is_hidden_and_nothing_else(address: str, shown: str) -> None:
    assert hide_password(address) == shown


def test_an_error_and_a_record_have_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "postgresql://me:secret@host/db"

    def fail() -> int:
        raise ConfigError(f"storage={address} is no option", f"See {address}", "Write to me@there.")

    assert status_of(fail) == 2
    said = capsys.readouterr().err
    assert "secret" not in said and said.count("me:***@host/db") == 2 and "me@there" in said
    assert hide_passwords(f"a {address} b") == "a postgresql://me:***@host/db b"
    monkeypatch.setattr(sys, "argv", ["isograd", "tune", "dgl", f"tune.storage={address}"])
    assert provenance(0)["command"][-1] == "tune.storage=postgresql://me:***@host/db"
