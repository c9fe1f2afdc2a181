"""The demonstration as a person runs it: the real agent, real gRPC, real files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def demo(*arguments: str, output: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tooling.demo", "--output", str(output), *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'hack'}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    output = tmp_path_factory.mktemp("demo")
    done = demo(output=output)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, output


def test_five_claims_are_prepared_and_the_one_that_cannot_fit_is_not(shown: tuple[str, Path]) -> None:
    marks = re.findall(r"^([✔✘]) (\S+)", shown[0], flags=re.MULTILINE)
    assert [mark for mark, _ in marks] == ["✔"] * 5 + ["✘"]
    assert marks[-1][1] == "too-much"


def test_the_refusal_names_the_card_and_both_amounts(shown: tuple[str, Path]) -> None:
    assert re.search(r"nvidia-a1\S+: .*70Gi.*40Gi", shown[0])


def test_a_cdi_spec_is_written_for_each_prepared_claim(shown: tuple[str, Path]) -> None:
    specs = [json.loads(path.read_text()) for path in (shown[1] / "cdi").glob("*.json")]
    assert len(specs) == 5
    assert {spec["kind"] for spec in specs} == {"dragoman.dev/share"}


def test_the_limits_of_a_share_are_those_of_its_claim(shown: tuple[str, Path]) -> None:
    after = shown[0].split("✔ memory-and-cores")[1].split("✔")[0]
    assert "CUDA_DEVICE_MEMORY_LIMIT_0=6144m" in after
    assert "CUDA_DEVICE_SM_LIMIT_0=30" in after


def test_what_is_simulated_is_said_at_the_start_and_the_end(shown: tuple[str, Path]) -> None:
    assert "Simulated: the cards" in shown[0].splitlines()[1]
    assert "No container was started" in shown[0]


def test_plain_text_has_no_escape_sequences(shown: tuple[str, Path]) -> None:
    assert "\x1b" not in shown[0]


def test_own_files_are_taken(tmp_path: Path) -> None:
    node = tmp_path / "node.yaml"
    node.write_text(
        "apiVersion: dragoman.dev/v1alpha1\nkind: SimulatedNode\n"
        "cards: [{vendor: nvidia, model: T4, memory: 16Gi, uuid: GPU-1}]\n"
    )
    claims = tmp_path / "claims.yaml"
    claims.write_text(
        "apiVersion: resource.k8s.io/v1\nkind: ResourceClaim\nmetadata: {name: mine}\n"
        "spec: {devices: {requests: [{name: r, exactly: {deviceClassName: nvidia.dragoman.dev,"
        " capacity: {requests: {memory: 16Gi}}}}]}}\n"
    )
    done = demo("--node", str(node), "--claims", str(claims), output=tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine/r: the whole card" in done.stdout


def test_a_misspelt_field_of_the_node_is_refused_with_its_name(tmp_path: Path) -> None:
    node = tmp_path / "node.yaml"
    node.write_text("apiVersion: dragoman.dev/v1alpha1\nkind: SimulatedNode\ncards: [{vendr: nvidia}]\n")
    done = demo("--node", str(node), output=tmp_path / "out")
    assert done.returncode == 2
    assert "vendr" in done.stderr
    assert "Traceback" not in done.stderr
