"""A node with two cards of one vendor, as `fixtures/nodes/<vendor>.yaml` describes it.

The file says what sysfs and /dev hold, what the vendor's programs answer to which question, what its mock
library is told, and which cards have to come of it:

    functions   PCI functions, each with its place in the tree of devices, its files and its DRM minors
    files       further files, path -> content
    links       symbolic links, path -> target
    devices     device nodes (plain files here)
    programs    {run: [program, arguments...], answer: what it writes}
    library     nvml or dcmi, with `script`, what the mock is told
    absent      text -> text: what makes the memory of all cards unknown, in all files and answers
    expect      the cards, and what a container gets for each
"""

from __future__ import annotations

import ctypes
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from driver.host import CommandResult
from driver.vendors.base import Vendor
from driver.vendors.nvidia import Nvidia
from driver.vendors.nvml import PynvmlNvml
from driver.vendors.registry import ENTRIES, make_vendor
from tests.driver.vendors.driver_root import recorded_root
from tests.native.build import mock_dcmi, mock_nvml
from tests.support.folder_host import FolderHost

NODES = Path(__file__).with_name("fixtures") / "nodes"
_LIBRARIES: dict[str, tuple[str, str, Callable[[], Path]]] = {
    "nvml": ("libnvidia-ml.so.1", "MOCK_NVML_FILE", mock_nvml),
    "dcmi": ("/usr/local/dcmi/libdcmi.so", "MOCK_DCMI_FILE", mock_dcmi),
}


@dataclass
class FixtureNode:
    """The described node before it is made; tests change it and then call `host`."""

    name: str
    files: dict[str, str]
    links: dict[str, str]
    devices: list[str]
    answers: dict[tuple[str, ...], str]
    script: str
    library: str
    absent: dict[str, str]
    expect: list[dict[str, Any]]
    driver_root: bool = False
    failing: dict[str, CommandResult | Exception] = field(default_factory=dict)

    @property
    def memory_unknown(self) -> FixtureNode:
        """The same node, where nothing tells how much memory the cards have."""
        changed = read_node(self.name)
        for old, new in self.absent.items():
            changed.files = {path: text.replace(old, new) for path, text in changed.files.items()}
            changed.answers = {asked: text.replace(old, new) for asked, text in changed.answers.items()}
            changed.script = changed.script.replace(old, new)
        assert (changed.files, changed.answers, changed.script) != (self.files, self.answers, self.script)
        return changed

    @property
    def programs(self) -> list[str]:
        """Names of the vendor's programs."""
        return sorted({asked[0] for asked in self.answers})

    def host(self, root: Path) -> FolderHost:
        """Makes the node below `root`."""
        made = FolderHost(root)
        for path, text in self.files.items():
            made.add(path, text)
        for path, target in self.links.items():
            made.link(path, target)
        for path in self.devices:
            made.add(path)
        if self.driver_root:
            recorded_root(made)
        for program in self.programs:
            made.programs[program] = self._run
        if self.library:
            name, variable, build = _LIBRARIES[self.library]
            script = root / "library.txt"
            script.write_text(self.script)
            # The library reads the variable by C's getenv, which sees what `os.environ` sets.
            os.environ[variable] = str(script)
            made.libraries[name] = lambda: ctypes.CDLL(str(build()))
        return made

    def install_programs(self, root: Path) -> None:
        """Writes the vendor's programs below `root` as scripts that answer the same, wherever that is."""
        for program in self.programs:
            path = root / (program if program.startswith("/") else f"/usr/bin/{program}").lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = ["#!/bin/sh", 'case "$*" in']
            for number, (asked, answer) in enumerate(self.answers.items()):
                if asked[0] == program:
                    path.with_name(f"{path.name}.{number}").write_text(answer)
                    lines.append(f'{shlex.quote(" ".join(asked[1:]))}) exec cat "$0.{number}";;')
            path.write_text("\n".join([*lines, "esac", "exit 2", ""]))
            path.chmod(0o755)

    def vendor(self, host: FolderHost) -> Vendor:
        """The vendor, new as after a start of the agent."""
        if self.library == "nvml":
            return Nvidia(nvml=PynvmlNvml(host.libraries["libnvidia-ml.so.1"]))
        return make_vendor(next(one for one in ENTRIES if one.module == self.name))

    def _run(self, argv: Sequence[str]) -> CommandResult:
        failing = self.failing.get(argv[0])
        if isinstance(failing, Exception):
            raise failing
        if failing is not None:
            return failing
        answer = self.answers.get(tuple(argv))
        if answer is None:
            return CommandResult(returncode=2, stdout="", stderr=f"unknown question: {' '.join(argv[1:])}")
        return CommandResult(returncode=0, stdout=answer, stderr="")


def read_node(name: str) -> FixtureNode:
    """The fixture of a vendor."""
    document: dict[str, Any] = yaml.safe_load((NODES / f"{name}.yaml").read_text(encoding="utf-8"))
    files = dict(document.get("files", {}))
    links = dict(document.get("links", {}))
    for function in document["functions"]:
        _add_function(function, files=files, links=links)
    programs = document.get("programs", [])
    library = document.get("library", {})
    return FixtureNode(
        name=name,
        files=files,
        links=links,
        devices=list(document.get("devices", [])),
        answers={tuple(one["run"]): one["answer"] for one in programs},
        script=library.get("script", ""),
        library=library.get("name", ""),
        absent=document["absent"],
        expect=document["expect"],
        driver_root=bool(document.get("driverRoot")),
    )


def _add_function(function: Mapping[str, Any], *, files: dict[str, str], links: dict[str, str]) -> None:
    address = function["address"]
    place = f"/sys/devices/{function['root']}/{address}"
    attributes = {"numa_node": "0", **function.get("files", {})}
    for name in ("vendor", "device", "class"):
        attributes[name] = function[name]
    for name, text in attributes.items():
        files[f"{place}/{name}"] = text if "\n" in text else f"{text}\n"
    links[f"/sys/bus/pci/devices/{address}"] = f"../../../devices/{function['root']}/{address}"
    if "driver" in function:
        files[f"/sys/bus/pci/drivers/{function['driver']}/module"] = ""
        links[f"{place}/driver"] = f"/sys/bus/pci/drivers/{function['driver']}"
    for minor in function.get("drm", []):
        files[f"{place}/drm/{minor}/uevent"] = f"MAJOR=226\nDEVNAME=dri/{minor}\n"
