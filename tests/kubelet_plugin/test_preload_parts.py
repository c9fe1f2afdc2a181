"""Which preload library an agent uses for whose cards, by its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.cards import Card, IsolationLevel
from driver.errors import ConfigError
from driver.isolation.base import Availability
from driver.isolation.preload import Preload
from driver.isolation.region import read_region
from kubelet_plugin.host import NodeHost
from kubelet_plugin.parts import make_methods
from kubelet_plugin.settings import parse_settings
from tests.driver.isolation import regions
from tests.support.folder_host import FolderHost

AMD = Card(name="amd-1", vendor="amd", model="MI300X", memory_bytes=1 << 37)
ASCEND = Card(name="ascend-1", vendor="ascend", model="910B3", memory_bytes=1 << 36, driver_version="25.5.1")


def _held(card: Card, *flags: str, tmp_path: Path, host: FolderHost) -> Availability:
    settings = parse_settings(
        ["--node-name", "n", "--host-root", str(tmp_path), "--plugin-dir", str(tmp_path / "plugin"), *flags],
        environment={},
    )
    return make_methods(settings).methods[IsolationLevel.PRELOAD].available(card=card, host=host)


@pytest.mark.parametrize(("card", "flag"), [(ASCEND, "--preload-ascend"), (AMD, "--preload-amd")])
def test_a_vendors_library_holds_shares_where_the_setting_names_a_file_of_the_node(
    tmp_path: Path, card: Card, flag: str
) -> None:
    host = FolderHost(tmp_path)
    assert not _held(card, tmp_path=tmp_path, host=host).memory
    assert not _held(card, flag, "/opt/lib.so", tmp_path=tmp_path, host=host).memory
    host.add("/opt/lib.so")
    assert _held(card, flag, "/opt/lib.so", tmp_path=tmp_path, host=host).memory


@pytest.mark.parametrize("flags", [[], ["--in-force-deadline", "0"]])
def test_an_agent_that_starts_lets_go_of_whoever_waits_for_one_that_was_killed(
    tmp_path: Path, flags: list[str]
) -> None:
    region = tmp_path / "shares/claim/gpu/region/shared.cache"
    region.parent.mkdir(parents=True)
    region.write_bytes(regions.made(recent=-1))
    _held(AMD, "--share-dir", "/shares", *flags, tmp_path=tmp_path, host=FolderHost(tmp_path))
    assert read_region("/shares/claim/gpu/region/shared.cache", host=NodeHost(tmp_path)).recent_kernel == 0


def test_an_agent_starts_where_it_cannot_see_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(*_: object, **__: object) -> int:
        raise PermissionError(13, "hidden")

    monkeypatch.setattr(Preload, "let_go", hidden)
    settings = parse_settings(["--node-name", "n", "--plugin-dir", str(tmp_path)], environment={})
    (problem,) = make_methods(settings).problems
    assert problem.startswith("Whether shares wait for an agent that was killed is not known:")


@pytest.mark.parametrize("flag", ["--preload-ascend", "--preload-amd"])
def test_a_library_is_named_by_an_absolute_path(flag: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings(["--node-name", "n", flag, "lib.so"], environment={})
    assert flag in refused.value.field
