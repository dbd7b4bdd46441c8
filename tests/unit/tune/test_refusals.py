"""What a search cannot do is said before it connects to a cluster, and leaves nothing behind."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from sqlalchemy.exc import OperationalError

from isograd.cluster import connection as cluster
from isograd.errors import ConfigError, MachineError, StudyError
from isograd.executors.executor import EXECUTORS
from isograd.studies.trials import is_trial
from isograd.system.console import wide_console
from isograd.tune import storage, study, sweep
from isograd.tune.parameters import find_owners
from isograd.tune.request import Request, parse, read_request
from isograd.tune.results import Outcome
from isograd.tune.storage import absolute_url
from isograd.tune.study import create_study, open_study
from isograd.tune.table import METADATA, TABLE, write_table

SMALL = ("model.width=4", "train.epochs=4", "tune.num_trials=1")
SECRET = "postgresql://me:secret@localhost/db"


@pytest.fixture(autouse=True)
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster may be asked for; what the trials would train is not what is looked at here."""

    def fail(*arguments: object, **options: object) -> None:
        pytest.fail("connected to Ray")

    monkeypatch.setattr(cluster, "connected", fail)
    monkeypatch.setattr(sweep, "check_request", lambda request: None)


def request(folder: Path, *items: str) -> Request:
    return parse("man", [f"tune.folder={folder}", "tune.name=mine", *SMALL, *items])


def finish(folder: Path) -> None:
    begun = create_study(request(folder))
    assignment = begun.propose()
    assert assignment is not None
    begun.tell(assignment.number, Outcome("complete", {"score": 0.5, "wall_s": 1.0}, 4))


def files(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        raise OperationalError("connect", {}, ConnectionRefusedError("connection refused"))

    monkeypatch.setattr(storage, "RDBStorage", refuse)


def lock(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Takes the right to write away, from root as well."""
    given = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not (mode == os.W_OK and Path(path).name in names) and given(path, mode)
    )


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ((), r"study 'mine' is in .*study\.db already.*isograd resume"),
        (("space.method.decay.high=0.9",), r"another space: it differs in space\.method\.decay\.high"),
        (("tune.storage=sqlite:///other.db",), "is the folder of a study that is not in"),
        (("tune.name=new", "tune.storage=sqlite:///text.db"), "is damaged, or no SQLite file"),
        (("tune.name=new", "tune.storage=sqlite:///none/x.db"), "there is no folder .*none.*mkdir -p "),
        (("tune.name=new", "tune.storage=none/x.log"), "there is no folder .*none.*mkdir -p "),
        (("tune.name=new", "tune.storage=sqlite:///closed/x.db"), "closed may only be read .*chmod u.w .*closed`"),
        (
            ("tune.name=new", "tune.storage=sqlite:///closed.db"),
            r"closed\.db may only be read .*chmod u.w ",
        ),
        (("tune.name=new", f"tune.storage={SECRET}"), r"me:\*\*\*@localhost/db cannot be used .*refused"),
        (
            ("tune.name=new", "tune.storage=mysql+mysqldb://here/x"),
            "the package `MySQLdb`",
        ),
    ],
)
def test_a_search_is_refused_before_it_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    create_study(request(tmp_path))
    (tmp_path / "text.db").write_text("no database " * 1000)
    (tmp_path / "closed").mkdir()
    create_study(request(tmp_path, "tune.name=other", "tune.storage=sqlite:///closed.db"))
    lock(monkeypatch, "closed", "closed.db")
    monkeypatch.setitem(sys.modules, "MySQLdb", None)  # not installed
    if f"tune.storage={SECRET}" in items:
        silence(monkeypatch)
    before = files(tmp_path)
    with pytest.raises(StudyError, match=words) as raised:
        sweep.begin(request(tmp_path, *items), wide_console())
    assert "secret" not in str(raised.value) and files(tmp_path) == before


def drop_storage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "study.db").unlink()


def damage_storage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "study.db").write_text("no database " * 1000)


def lock_storage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(monkeypatch, "study.db")


def lock_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(monkeypatch, "mine")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (drop_storage, "is missing"),
        (damage_storage, "is damaged, or no SQLite file"),
        (lock_storage, r"study\.db may only be read .*Use a copy: `cp -r --no-preserve=mode .*/mine COPY`"),
        (lock_folder, r"mine may only be read .*Use a copy: `cp -r --no-preserve=mode .*/mine COPY`"),
    ],
)
def test_a_study_is_not_gone_on_with_before_that_is_known(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path, pytest.MonkeyPatch], None],
    words: str,
) -> None:
    finish(tmp_path)
    harm(tmp_path / "mine", monkeypatch)
    before = files(tmp_path)
    with pytest.raises(StudyError, match=words):
        sweep.resume(tmp_path / "mine", 1, wide_console())
    assert files(tmp_path) == before


def test_a_copy_of_a_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(tmp_path)
    lock(monkeypatch, "mine")
    shutil.copytree(tmp_path / "mine", tmp_path / "copy")
    study.check_goes_on(read_request(tmp_path / "copy"))
    again = open_study(read_request(tmp_path / "copy"))
    again.extend(1)
    assert again.propose() is not None and open_study(read_request(tmp_path / "mine")).num_trials == 1


def test_a_study_that_may_only_be_read_is_not_copied_without_its_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_study(request(tmp_path, f"tune.storage={tmp_path}/all.log"))
    lock(monkeypatch, "all.log")
    with pytest.raises(StudyError, match=r"all\.log may only be read .*chmod u\+w .*all\.log`"):
        sweep.resume(tmp_path / "mine", 1, wide_console())


def test_where_nothing_is_left_the_table_is_written_and_no_cluster_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path)
    assert sweep.resume(tmp_path / "mine", 0, wide_console()).study.num_left == 0
    assert "nothing is left to try" in capsys.readouterr().out and (tmp_path / "mine" / TABLE).is_file()


def test_a_study_that_may_not_be_read_is_neither_missing_nor_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **options: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    create_study(request(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "mine")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(MachineError, match=r"mine cannot be read \(Permission denied\)\. This user may not read it\."):
        sweep.resume(tmp_path / "mine", 0, wide_console())


def test_a_study_that_may_not_be_read_is_not_taken_for_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(PermissionError):
        is_trial("studies/mine")


@pytest.mark.parametrize("place", ["", "sqlite:///all.db", "all.log"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_study_that_breaks_off_while_it_is_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, is_there: bool
) -> None:
    def fail(request: Request) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    items = (f"tune.storage={place}",) if place else ()
    if is_there:
        create_study(request(tmp_path, *items, "tune.name=first"))
    before = set(files(tmp_path))
    monkeypatch.setattr(study, "write_request", fail)
    with pytest.raises(StudyError, match="No space left"):
        create_study(request(tmp_path, *items))
    assert set(files(tmp_path)) == before
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert create_study(request(tmp_path, *items)).num_left == 1


def test_of_two_studies_begun_at_once_one_is_refused_and_the_other_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, other = (request(tmp_path / name, f"tune.storage={tmp_path}/all.log") for name in ("one", "two"))

    def overtaken(request: Request) -> None:
        monkeypatch.undo()
        create_study(other)

    monkeypatch.setattr(study, "check_free", overtaken)
    with pytest.raises(StudyError, match=r"is in .*already"):
        create_study(asked)
    assert (
        open_study(read_request(tmp_path / "two" / "mine")).num_left == 1 and not (tmp_path / "one" / "mine").exists()
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:/x.db", "lacks slashes.*sqlite:///FOLDER/study.db, or sqlite:////FOLDER/study.db"),
        ("sqlite://x.db", "lacks slashes"),
        ("sqlite://", "kept in memory"),
        ("sqlite:///:memory:", "kept in memory"),
        ("journal:/x.log", r"no address .*\(mssql, mysql, oracle, postgresql, sqlite\).*Use tune.storage=/x.log for"),
        ("journal:///x/y.log", "Use tune.storage=/x/y.log for a journal"),
        ("redis://:secret@here", r"redis://:\*\*\*@here is no address"),
        ("postgresql://me:secret@here:port/db", r"me:\*\*\*@here:port/db is no address"),
        ("postgresql+nothing://here/db", "is no address"),
    ],
)
def test_what_is_no_address_is_told(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        request(tmp_path, f"tune.storage={url}")
    assert "secret" not in str(raised.value)


def test_a_password_is_in_no_table_and_no_summary(tmp_path: Path) -> None:
    shown = request(tmp_path, f"tune.storage={SECRET}").to_yaml()
    assert "secret" not in shown and "  data.valid: 0.1\n" in shown
    begun = create_study(request(tmp_path, f"tune.storage={SECRET}", "tune.storage=null"))
    metadata = parquet.read_table(write_table(begun, {})).schema.metadata or {}
    assert b"secret" not in metadata[METADATA] and b"me:***@localhost" in metadata[METADATA]


@pytest.mark.parametrize("path", ["night:1.log", "2026-11-29T10:30.log", "a:b/c.log"])
def test_the_path_of_a_journal_may_have_a_colon(path: str) -> None:
    assert absolute_url(path) == str(Path(path).absolute())


def test_a_space_can_set_the_options_of_any_executor() -> None:
    assert {owner.name for owner in find_owners("executor.num_stages")} == {"microbatch", "pipelined"}
    assert {owner.name for owner in find_owners("executor.threads")} == set(EXECUTORS)
