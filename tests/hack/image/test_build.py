"""The image's layers, with a small folder in place of Debian and a compiler that compiles nothing."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tooling.cluster.paths import REPOSITORY
from tooling.cluster.progress import silent
from tooling.hook import FLAGS, NVML_FLAGS, STUB_FLAGS, NoCompilerError
from tooling.image import build as build_module
from tooling.image import code
from tooling.image.build import LIMIT_HOOK, PRELOAD_LIBRARY, build, copy_out
from tooling.image.errors import ImageError
from tooling.image.mirror import Mirror

MIRROR = Mirror(archive="http://mirror.example.org/debian")
NAME = "localhost/dragoman:1"


@dataclass
class Workshop:
    """What the fakes were asked for, and the program for cgroups; None where nothing compiles it."""

    cache: Path
    hook: Path | None
    compiled: list[str] = field(default_factory=list)
    bases: int = 0


class _Wheels:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, base_name: str) -> None:
        assert base_name.startswith("base-")

    def finish(self, base: Path) -> Path:
        assert base.is_dir()
        return self.folder

    def close(self) -> None:
        return None


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("DRAGOMAN_CACHE", str(tmp_path / "cache"))
    base, lib = tmp_path / "base", tmp_path / "lib"
    for folder, name in ((base, "usr/bin/python3"), (lib, "pydantic/__init__.py")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("x")
    made = Workshop(cache=tmp_path / "cache", hook=tmp_path / "program")
    (tmp_path / "program").write_bytes(b"program")

    def build_hook() -> Path:
        if made.hook is None:
            raise NoCompilerError("No C compiler found.")
        return made.hook

    def ensure_base(mirror: Mirror, *, report: Any, refresh: bool) -> Path:
        made.bases += 1
        return base

    def compile_tree(tree: Path, *, base: Path, at: str) -> None:
        made.compiled.append(at)

    monkeypatch.setattr(build_module, "build_hook", build_hook)
    monkeypatch.setattr(build_module, "build_nvml_hook", build_hook)
    monkeypatch.setattr(build_module, "ensure_base", ensure_base)
    monkeypatch.setattr(build_module.wheels, "Wheels", lambda report: _Wheels(lib))
    monkeypatch.setattr(code, "compile_tree", compile_tree)
    return made


def _layers(tar: Path) -> list[list[str]]:
    with tarfile.open(tar) as image:
        manifest = json.loads(_read(image, "manifest.json"))[0]
        found = []
        for name in manifest["Layers"]:
            blob = image.extractfile(name)
            assert blob is not None
            with tarfile.open(fileobj=blob) as layer:
                found.append(layer.getnames())
        return found


def _config(tar: Path) -> dict[str, Any]:
    with tarfile.open(tar) as image:
        manifest = json.loads(_read(image, "manifest.json"))[0]
        assert manifest["RepoTags"] == [NAME]
        found: dict[str, Any] = json.loads(_read(image, manifest["Config"]))["config"]
        return found


def _read(image: tarfile.TarFile, name: str) -> bytes:
    member = image.extractfile(name)
    assert member is not None
    return member.read()


def test_base_and_dependencies_come_before_the_code_that_changes_most(workshop: Workshop) -> None:
    base, lib, _, app = _layers(build(name=NAME, mirror=MIRROR, report=silent).tar)
    assert "usr/bin/python3" in base
    assert "opt/dragoman/lib/pydantic/__init__.py" in lib
    assert "opt/dragoman/app/kubelet_plugin/__init__.py" in app
    assert "opt/dragoman/app/controller/uninstall_check.py" in app
    assert [name for name in app if "__pycache__" in name] == []


def test_the_code_is_compiled_for_the_place_where_it_will_lie(workshop: Workshop) -> None:
    build(name=NAME, mirror=MIRROR, report=silent)
    assert workshop.compiled == ["/opt/dragoman/app"]


def test_the_preload_library_is_a_layer_of_its_own_and_executable(workshop: Workshop, tmp_path: Path) -> None:
    library = tmp_path / "libvgpu.so"
    library.write_bytes(b"library")
    layers = _layers(build(name=NAME, mirror=MIRROR, report=silent, preload_library=library).tar)
    assert PRELOAD_LIBRARY.lstrip("/") in layers[2]
    assert len(layers) == 5


def test_the_programs_for_cgroups_are_a_layer_of_their_own(workshop: Workshop) -> None:
    layers = _layers(build(name=NAME, mirror=MIRROR, report=silent).tar)
    assert {LIMIT_HOOK.lstrip("/"), f"{LIMIT_HOOK.lstrip('/')}-nvml"} <= set(layers[2])


def test_without_a_compiler_the_image_is_made_without_that_program_and_says_so(workshop: Workshop) -> None:
    workshop.hook = None
    said: list[str] = []
    layers = _layers(build(name=NAME, mirror=MIRROR, report=said.append).tar)
    assert len(layers) == 3
    assert "The image will have no program that puts limits on cgroups: No C compiler found." in said


def test_the_dockerfile_compiles_the_programs_with_the_same_options() -> None:
    text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
    commands = [words.split() for line in text.splitlines() for words in line.split("&&") if "gcc -" in words]
    wanted = [FLAGS, STUB_FLAGS, NVML_FLAGS]
    assert len(commands) == len(wanted)
    for command, flags in zip(commands, wanted, strict=True):
        assert set(flags) <= set(command)
    assert LIMIT_HOOK in commands[0]
    assert f"{LIMIT_HOOK}-nvml" in commands[2]


def test_processes_run_without_root_and_find_code_and_dependencies(workshop: Workshop) -> None:
    config = _config(build(name=NAME, mirror=MIRROR, report=silent).tar)
    assert config["User"] == "65532:65532"
    assert "PYTHONPATH=/opt/dragoman/app:/opt/dragoman/lib" in config["Env"]


def test_the_processes_can_tell_their_version(workshop: Workshop) -> None:
    *_, app = _layers(build(name=NAME, mirror=MIRROR, report=silent).tar)
    assert f"opt/dragoman/app/dragoman-{code.version()}.dist-info/METADATA" in app


def test_the_same_content_is_packed_once(workshop: Workshop) -> None:
    first = build(name=NAME, mirror=MIRROR, report=silent)
    second = build(name=NAME, mirror=MIRROR, report=silent)
    assert (first.cached, second.cached) == (False, True)
    assert first.tar == second.tar


def test_another_name_or_another_library_is_another_image(workshop: Workshop, tmp_path: Path) -> None:
    library = tmp_path / "libvgpu.so"
    tars = {build(name=NAME, mirror=MIRROR, report=silent).tar}
    tars.add(build(name="localhost/dragoman:2", mirror=MIRROR, report=silent).tar)
    for content in (b"one", b"two"):
        library.write_bytes(content)
        tars.add(build(name=NAME, mirror=MIRROR, report=silent, preload_library=library).tar)
    assert len(tars) == 4


def test_old_images_are_forgotten(workshop: Workshop) -> None:
    for number in range(5):
        build(name=f"localhost/dragoman:{number}", mirror=MIRROR, report=silent)
    assert len(list((workshop.cache / "images").glob("dragoman-*.tar"))) == 3


def test_a_library_that_is_not_there_is_refused_before_anything_is_made(
    workshop: Workshop, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match="hack/preload-library"):
        build(name=NAME, mirror=MIRROR, report=silent, preload_library=tmp_path / "missing.so")
    assert workshop.bases == 0


def test_an_output_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    tar, output = tmp_path / "tar", tmp_path / "out" / "image.tar"
    tar.write_text("new")
    output.parent.mkdir()
    output.write_text("old")
    copy_out(tar, output)
    assert output.read_text() == "new"
    assert [path.name for path in output.parent.iterdir()] == ["image.tar"]


@pytest.mark.parametrize("change", ["content", "name"])
def test_the_codes_digest_changes_with_content_and_names(tmp_path: Path, change: str) -> None:
    for package in code.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text("x = 1\n")
    before = code.digest(tmp_path)
    cached = tmp_path / "driver" / "__pycache__"
    cached.mkdir()
    (cached / "module.pyc").write_bytes(b"bytecode")
    assert code.digest(tmp_path) == before
    module = tmp_path / "driver" / "module.py"
    if change == "content":
        module.write_text("x = 2\n")
    else:
        module.rename(module.with_name("other.py"))
    assert code.digest(tmp_path) != before
