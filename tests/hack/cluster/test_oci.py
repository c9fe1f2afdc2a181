"""Images written without a container engine."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from tooling.oci import ImageConfig, Layer, write_image

if TYPE_CHECKING:
    from pathlib import Path

NAME = "docker.io/local/example:1"


def written(out: Path, *layers: Layer, config: ImageConfig | None = None) -> dict[str, bytes]:
    """The members of the tar that was written."""
    write_image(out=out, name=NAME, layers=layers, config=config or ImageConfig())
    with tarfile.open(out) as tar:
        members = ((member.name, tar.extractfile(member)) for member in tar)
        return {name: file.read() for name, file in members if file is not None}


def entries_of(blobs: dict[str, bytes], folder: Path) -> dict[str, tarfile.TarInfo]:
    """The entries of the only layer."""
    manifest = manifest_of(blobs)
    digest = manifest["layers"][0]["digest"].removeprefix("sha256:")
    layer = folder / "layer.tar"
    layer.write_bytes(blobs[f"blobs/sha256/{digest}"])
    with tarfile.open(layer) as tar:
        return {member.name: member for member in tar}


def manifest_of(blobs: dict[str, bytes]) -> dict[str, list[dict[str, str]]]:
    index = json.loads(blobs["index.json"])
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    found: dict[str, list[dict[str, str]]] = json.loads(blobs[f"blobs/sha256/{digest}"])
    return found


def test_every_blob_lies_under_the_digest_of_its_content(tmp_path: Path) -> None:
    blobs = written(tmp_path / "image.tar", Layer.from_files({"a": b"one"}), Layer.from_files({"b": b"two"}))
    stored = {name.rpartition("/")[2]: data for name, data in blobs.items() if name.startswith("blobs/")}
    assert len(stored) == 4
    assert all(hashlib.sha256(data).hexdigest() == digest for digest, data in stored.items())


def test_the_index_carries_the_name_by_which_containerd_and_docker_know_the_image(tmp_path: Path) -> None:
    blobs = written(tmp_path / "image.tar", Layer.from_files({"a": b""}))
    annotations = json.loads(blobs["index.json"])["manifests"][0]["annotations"]
    assert annotations["io.containerd.image.name"] == NAME
    assert json.loads(blobs["manifest.json"])[0]["RepoTags"] == [NAME]


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(tmp_path: Path) -> None:
    digests = []
    for number in (1, 2):
        root = tmp_path / f"root{number}"
        names = ("b/two", "a", "b-c") if number == 1 else ("b-c", "a", "b/two")
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
            os.utime(root / name, (number * 1000, number * 1000))
        out = tmp_path / f"{number}.tar"
        digest = write_image(
            out=out,
            name=NAME,
            layers=[Layer.from_directory(root)],
            config=ImageConfig(env={"B": "1", "A": "2"}),
        )
        digests.append((digest, hashlib.sha256(out.read_bytes()).hexdigest()))
    assert digests[0] == digests[1]


def test_parents_come_before_what_is_in_them_and_belong_to_root(tmp_path: Path) -> None:
    layer = Layer.from_files(
        {"/usr/bin/tool": b"x"}, symlinks={"bin/tool": "../usr/bin/tool"}, directories=["tmp"]
    )
    found = entries_of(written(tmp_path / "image.tar", layer), tmp_path)
    assert list(found) == ["bin", "bin/tool", "tmp", "usr", "usr/bin", "usr/bin/tool"]
    assert found["bin/tool"].linkname == "../usr/bin/tool"
    assert all((entry.uid, entry.gid, entry.mtime) == (0, 0, 0) for entry in found.values())


def test_modes_are_those_asked_for_then_those_of_the_file(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!")
    program.chmod(0o750)
    layer = Layer.from_files(
        {"kept": program, "given": program, "bytes": b""},
        modes={"given": 0o500, "tmp": 0o1777},
        directories=["tmp"],
    )
    found = entries_of(written(tmp_path / "image.tar", layer), tmp_path)
    assert {name: entry.mode for name, entry in found.items()} == {
        "bytes": 0o644,
        "given": 0o500,
        "kept": 0o750,
        "tmp": 0o1777,
    }


def test_links_of_a_folder_are_kept_and_sockets_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "b").write_text("content")
    (root / "a").hardlink_to(root / "b")
    (root / "c").symlink_to("b")
    os.mkfifo(root / "pipe")
    found = entries_of(written(tmp_path / "image.tar", Layer.from_directory(root, prefix="/opt/x")), tmp_path)
    assert sorted(found) == ["opt", "opt/x", "opt/x/a", "opt/x/b", "opt/x/c"]
    assert found["opt/x/a"].isreg()
    assert found["opt/x/b"].islnk()
    assert found["opt/x/b"].linkname == "opt/x/a"
    assert found["opt/x/c"].issym()


def test_the_config_says_how_the_container_starts(tmp_path: Path) -> None:
    config = ImageConfig(
        entrypoint=["/run"],
        command=["now"],
        env={"A": "1"},
        user="1000",
        working_directory="/w",
        labels={"l": "v"},
    )
    blobs = written(tmp_path / "image.tar", Layer.from_files({"a": b""}), config=config)
    digest = json.loads(blobs["manifest.json"])[0]["Config"]
    assert json.loads(blobs[digest])["config"] == {
        "Entrypoint": ["/run"],
        "Cmd": ["now"],
        "Env": ["A=1"],
        "User": "1000",
        "WorkingDir": "/w",
        "Labels": {"l": "v"},
    }


@pytest.mark.parametrize(
    "name", ["pause", "pause:1", "local/pause:1", "docker.io/local/pause", "docker.io/Local/x:1"]
)
def test_a_name_that_the_kubelet_would_not_find_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a full image name"):
        write_image(
            out=tmp_path / "x.tar", name=name, layers=[Layer.from_files({"a": b""})], config=ImageConfig()
        )
    assert list(tmp_path.iterdir()) == []


def test_paths_that_leave_the_image_and_modes_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="not a path inside an image"):
        Layer.from_files({"../etc/passwd": b""})
    with pytest.raises(ValueError, match="not in the layer"):
        Layer.from_files({"a": b""}, modes={"b": 0o600})


def test_a_layer_larger_than_the_memory_allowed_for_it_is_streamed(tmp_path: Path) -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    write_image(
        out=tmp_path / "i.tar", name=NAME, layers=[Layer.from_files({"big": big})], config=ImageConfig()
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
