from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kubelet_plugin.mps.files import ShareFiles, Wanted
from tests.kubelet_plugin.mps.test_reconcile import share


@pytest.fixture
def files(tmp_path: Path) -> ShareFiles:
    return ShareFiles(tmp_path)


def test_what_was_put_is_read_and_what_was_dropped_is_not(files: ShareFiles) -> None:
    assert files.put(share())
    assert files.put(share("b"))
    assert files.read().shares == {"n_a": share(), "n_b": share("b")}
    assert files.claims() == {"uid-a", "uid-b"}
    assert files.drop("uid-a", "n_a")
    assert files.read().shares == {"n_b": share("b")}
    assert files.claims() == {"uid-b"}


def test_to_put_the_same_again_writes_nothing_and_another_limit_does(files: ShareFiles) -> None:
    files.put(share())
    assert files.has(share())
    assert not files.put(share())
    assert not files.has(share(memory=1))
    assert files.put(share(memory=1))
    assert files.read().shares == {"n_a": share(memory=1)}


def test_to_drop_what_is_not_there_is_no_error(files: ShareFiles) -> None:
    assert not files.drop("uid-a", "n_a")
    assert not files.drop_claim("uid-a")
    assert files.read().shares == {}


def test_all_of_a_claim_goes_at_once_with_what_writers_that_died_left(
    files: ShareFiles, tmp_path: Path
) -> None:
    files.put(share())
    (tmp_path / "shares" / "uid-a" / ".n_b.json.0123.tmp").write_text("half")
    assert files.drop_claim("uid-a")
    assert files.claims() == frozenset()


def test_the_last_share_takes_what_writers_that_died_left_along(files: ShareFiles, tmp_path: Path) -> None:
    files.put(share())
    (tmp_path / "shares" / "uid-a" / ".n_a.json.0123.tmp").write_text("half")
    assert files.drop("uid-a", "n_a")
    assert files.claims() == frozenset()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"version": 2}',
        json.dumps({"version": 1, "claim_uid": "uid-a", "name": "n_a"}),
        "x" * 5000,
        "\udcff",
    ],
)
def test_a_file_that_is_none_of_ours_wants_nothing_and_is_told(
    files: ShareFiles, tmp_path: Path, content: str
) -> None:
    files.put(share())
    path = tmp_path / "shares" / "uid-a" / "n_a.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    found = files.read()
    assert found.shares == {}
    assert found.unreadable == {"n_a"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("memory_mib", "4096"),
        ("memory_mib", 1.5),
        ("cores_percent", True),
        ("card", "all"),
        ("name", "n_other"),
        ("claim_uid", "uid-b"),
        ("server", "../x"),
    ],
)
def test_a_file_with_a_wrong_field_wants_nothing(
    files: ShareFiles, tmp_path: Path, key: str, value: object
) -> None:
    files.put(share())
    path = tmp_path / "shares" / "uid-a" / "n_a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert files.read().shares == {}


def test_a_claims_folder_that_goes_while_all_are_read_is_one_that_is_not_there(
    files: ShareFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(share())
    files.put(share("b"))
    listed = os.scandir

    def dropped_meanwhile(path: Any) -> Any:
        if getattr(path, "name", "") == "uid-a":
            shutil.rmtree(path, ignore_errors=True)
        return listed(path)

    monkeypatch.setattr(os, "scandir", dropped_meanwhile)
    assert files.read() == Wanted(shares={"n_b": share("b")})
    assert not (tmp_path / "shares" / "uid-a").exists()


def test_a_folder_that_cannot_be_read_is_not_one_in_which_nobody_wants_anything(
    files: ShareFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put(share())
    listed = os.scandir

    def broken(path: Any) -> Any:
        if getattr(path, "name", "") == "uid-a":
            raise OSError(errno.EIO, "Input/output error")
        return listed(path)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(OSError, match="Input/output"):
        files.read()


@pytest.mark.parametrize("uid", ["..", ".", "", "a/b"])
def test_no_name_leads_out_of_the_folder(files: ShareFiles, uid: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        files.drop(uid, "n_a")


def test_nobody_but_its_owner_reads_what_shares_want(files: ShareFiles, tmp_path: Path) -> None:
    files.put(share())
    assert (tmp_path / "shares").stat().st_mode & 0o077 == 0
