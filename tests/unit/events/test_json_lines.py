"""Files of JSON lines that something has damaged."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from isograd.errors import RunFolderError
from isograd.events.json_lines import AppendedLines, read_lines


def test_half_a_line_is_none_and_swallows_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    with AppendedLines(path) as lines:
        lines.append({"a": 3})
    assert [record["a"] for record in read_lines(path)] == [1, 2, 3]


def test_what_is_no_object_is_none(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'[1]\n7\n"x"\nnull\n\0\0\0\n\n{"a": 1}\n')
    assert list(read_lines(path)) == [{"a": 1}]
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_bytes_that_are_no_text_are_named_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "my lines.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\xfe\n')
    match = r"lines.jsonl holds bytes that are no UTF-8, the first at byte 9 of 12"
    with pytest.raises(RunFolderError, match=match) as caught:
        list(read_lines(path))
    if shutil.which("iconv") is None:
        pytest.skip("there is no iconv")
    (command,) = re.findall("`(.*)`", caught.value.mend)
    subprocess.run(command, shell=True, check=True)
    assert list(read_lines(path)) == [{"a": 1}] and list(path.parent.iterdir()) == [path]
