"""The program: flags, exit status, what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from controller.cli.reading import Reading
from controller.cli.screen import Screen
from driver.cards import Fault
from driver.kube.client import JSON, ApiError, error_for
from driver.kube.resources import PODS
from tests.controller.cli.cases import two_nodes, waiting
from tests.controller.cli.world import World, card, claim, condition, dragoman, kubeconfig
from tests.support.scripted_api import Request, scripted_client

ROOT = Path(__file__).resolve().parents[3]
NEVER = ("kopf", "kubernetes", "grpc", "aiohttp", "prometheus_client")


def started(*arguments: str, script: str = "", environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Runs the program in a process of its own."""
    code = script or "from controller.kubectl import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "HOME": "/nonexistent", "KUBECONFIG": "", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("status", "-h"), ("explain", "-h"), ("simulate", "-h")])
def test_help_is_there_for_everything(arguments: Sequence[str], tmp_path: Path) -> None:
    done = dragoman(World(), tmp_path, *arguments)
    assert done.status == 0
    assert "Usage: kubectl dragoman" in done.out


def test_flags_that_do_not_exist_are_refused_without_an_answer(tmp_path: Path) -> None:
    done = dragoman(World(), tmp_path, "status", "--nonsense")
    assert (done.status, done.out) == (2, "")
    assert "--nonsense" in done.err


def test_without_a_kubeconfig_there_is_one_sentence_and_no_traceback() -> None:
    status, out, err = started("status")
    assert (status, out) == (2, "")
    assert err.startswith("kubectl dragoman: No kubeconfig was found")
    assert err.count("\n") == 1


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        "{current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}], "
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}"
    )
    status, out, err = started("status", environ={"KUBECONFIG": str(path)})
    assert (status, out) == (2, "")
    assert "127.0.0.1:9 did not answer" in err
    assert err.count("\n") == 1


LOADED_BY = """
import sys, threading
from importlib import import_module
from controller.cli.main import run
from driver.kube.client import error_for
from tests.support.scripted_api import ScriptedTransport

loaded = {}

OURS = ("driver.allocation", "controller.kubectl_rules")

class Note:
    def find_spec(self, name, path, target=None):
        if name.startswith(OURS) or name == "controller.cli.simulate":
            loaded.setdefault(threading.get_ident(), []).append(name)

sys.meta_path.insert(0, Note())

def nobody(request):
    return error_for(403, message="no")

run(
    ["simulate", "-f", sys.argv[1]],
    rules=lambda: import_module("controller.kubectl_rules").rules(),
    connect=lambda access: ScriptedTransport(nobody),
    environ={"KUBECONFIG": sys.argv[2]},
)
print(len(loaded), sum(map(len, loaded.values())), threading.get_ident() in loaded)
"""


def test_the_allocator_and_what_asks_it_are_loaded_by_one_thread_beside_the_main_one(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: []}}")
    status, out, err = started(str(file), str(kubeconfig(tmp_path)), script=LOADED_BY)
    assert (status, "Traceback" in err) == (0, False)
    threads, modules, main_thread_too = out.split()
    assert (threads, int(modules) > 10, main_thread_too) == ("1", True, "False")


@pytest.mark.parametrize("command", ["status_command", "explain_command", "simulate_command", "explain"])
def test_no_command_loads_what_only_other_processes_need(command: str) -> None:
    script = (
        f"import sys, controller.kubectl, controller.kubectl_rules, controller.cli.{command}; "
        f"print([name for name in {NEVER!r} if name in sys.modules])"
    )
    assert started(script=script)[1].strip() == "[]"


def test_help_and_status_do_without_the_allocator() -> None:
    script = (
        "import sys, controller.kubectl, controller.cli.status_command; "
        "print([name for name in ('driver.allocation', 'driver.cel', 'pydantic') if name in sys.modules])"
    )
    assert started(script=script)[1].strip() == "[]"


def ending(kind: str) -> tuple[int, str, str]:
    """A run whose command ends with an exception."""
    script = (
        "import sys; from controller.cli import main; "
        f"broken = lambda **_: (_ for _ in ()).throw({kind}); "
        "main.program = type('P', (), {'main': staticmethod(broken)}); "
        "sys.exit(main.run([], rules=lambda: None))"
    )
    return started(script=script)


@pytest.mark.parametrize("kind", ["BrokenPipeError()", "SystemExit(1)"])
def test_whoever_reads_only_the_first_lines_gets_no_traceback(kind: str) -> None:
    assert ending(kind) == (141, "", "")


def test_an_answer_that_cannot_be_written_is_told() -> None:
    status, _, err = ending("OSError(28, 'No space left on device')")
    assert (status, err) == (2, "kubectl dragoman: The answer cannot be written: No space left on device.\n")


def test_a_mistake_of_ours_is_no_answer() -> None:
    status, _, err = ending("TypeError('this is wrong')")
    assert status == 2
    assert "TypeError: this is wrong" in err


def test_status_is_bounded_and_shows_trouble_first(tmp_path: Path) -> None:
    world = World()
    for number in range(60):
        world.node(f"n{number:02}", card(f"a{number}"))
    said = condition(status="False", reason="WriteRefused", message="The API server refused the slices.")
    world.node("zz", card("z"), said=said)
    some = dragoman(world, tmp_path, "status")
    assert len(some.out.splitlines()) < 45
    lines = some.out.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("NODE"))
    assert lines[first + 1].startswith("zz")
    assert "and 41 more nodes (--all shows them)" in some.out
    assert "n59" in dragoman(world, tmp_path, "status", "--all").out


def test_status_shows_a_few_faulty_cards_unless_all_are_wanted(tmp_path: Path) -> None:
    fault = Fault(reason="CardLost", message="It fell off the bus.", since="2026-11-21T11:58:00Z")
    world = World()
    for number in range(12):
        world.node(f"n{number:02}", card(f"a{number:02}", fault=fault))
    some = dragoman(world, tmp_path, "status")
    assert some.out.count("CardLost") == 8
    assert "and 4 more cards (--all shows them)" in some.out
    assert dragoman(world, tmp_path, "status", "--all").out.count("CardLost") == 12


def test_status_without_rights_names_them(tmp_path: Path) -> None:
    done = dragoman(two_nodes(namespace_only="team-a"), tmp_path, "status")
    assert done.status == 2
    assert "list acceleratornodes.dragoman.dev" in done.err


def test_status_shows_what_may_be_read_and_names_the_rest(tmp_path: Path) -> None:
    world = two_nodes()
    answer = world.answer

    def without_pods(request: Request) -> JSON | ApiError:
        return error_for(403, message="no") if request.path.endswith("/pods") else answer(request)

    world.answer = without_pods  # type: ignore[method-assign]
    done = dragoman(world, tmp_path, "status")
    assert done.status == 0
    assert "You lack the right to list pods in all namespaces." in done.out
    assert "Agents" not in done.out


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int, tmp_path: Path) -> None:
    world = waiting(two_nodes(), claim("want", memory="24Gi"))
    for arguments in (("explain", "pod/train"), ("status",)):
        done = dragoman(world, tmp_path, *arguments, columns=width)
        wide = [line for line in done.out.splitlines() if len(line) > width]
        assert not wide


def test_elsewhere_than_on_a_terminal_a_sentence_is_one_line_without_colours(tmp_path: Path) -> None:
    world = waiting(two_nodes(), claim("want", memory="24Gi"))
    done = dragoman(world, tmp_path, "explain", "pod/train")
    assert "\x1b" not in done.out
    assert any(line.endswith("(for example nvidia-a on n1)") for line in done.out.splitlines())


class _Terminal:
    """A terminal that understands ASCII only."""

    encoding = "ascii"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_a_bar_is_never_empty_or_full_by_rounding() -> None:
    screen = Screen(_Terminal(), environ={"COLUMNS": "80"})  # type: ignore[arg-type]
    assert screen.bar(0, 100) == "[....................]"
    assert screen.bar(1, 10_000) == "[#...................]"
    assert screen.bar(9_999, 10_000) == "[###################.]"
    assert screen.bar(100, 100) == "[####################]"
    assert screen.bar(150, 100) == "[####################]"
    assert screen.bar(0, 0) == "[....................]"


def test_on_a_terminal_there_are_colours_unless_they_are_not_wanted() -> None:
    plain, coloured = _Terminal(), _Terminal()
    environ = {"COLUMNS": "80", "TERM": "xterm-256color"}
    Screen(coloured, environ=environ).heading("Cards")  # type: ignore[arg-type]
    Screen(plain, environ={**environ, "NO_COLOR": "1"}).heading("Cards")  # type: ignore[arg-type]
    assert "Cards" in coloured.text
    assert "\x1b[3" not in plain.text


@pytest.mark.asyncio
async def test_a_list_that_changes_while_it_is_read_is_read_again() -> None:
    answers: list[JSON | ApiError] = [
        {"metadata": {"continue": "x"}, "items": [{"n": 1}]},
        error_for(410, message="expired"),
        {"metadata": {}, "items": [{"n": 1}, {"n": 2}]},
    ]
    client, _ = scripted_client(lambda _request: answers.pop(0))
    found = await Reading(client).all(PODS, lambda one: one["n"])
    assert found == [1, 2]


@pytest.mark.asyncio
async def test_a_kind_that_is_not_installed_has_no_objects() -> None:
    client, _ = scripted_client(lambda _request: error_for(404, message="no such kind"))
    assert await Reading(client).all(PODS, lambda one: one) == []


@pytest.mark.asyncio
async def test_a_right_that_is_missing_is_named_once() -> None:
    client, _ = scripted_client(lambda _request: error_for(403, message="no"))
    reading = Reading(client)
    for _ in range(2):
        assert await reading.all(PODS, lambda one: one) is None
    assert reading.missing == ["list pods in all namespaces"]


def rolled_out(name: str, *, generation: int = 2, observed: int = 2, **condition: str) -> JSON:
    said = {"type": "RolledOut", "observedGeneration": observed, **condition}
    return {
        "metadata": {"name": name, "generation": generation},
        "spec": {"maxUnavailable": 1},
        "status": {"nodes": 2, "waiting": 1, "turns": [{"node": "n1", "number": 5}], "conditions": [said]},
    }


def test_status_shows_policies_that_are_on_their_way_and_why_one_stops(tmp_path: Path) -> None:
    world = two_nodes()
    why = "Not back for more than 10 minutes: n1: its agent is not Ready. 1 node waits for it."
    world.policies += [
        rolled_out("stuck", status="False", reason="NodesNotBack", message=why),
        rolled_out("there", status="True", reason="Done", message="All nodes have it."),
        {"metadata": {"name": "at-once", "generation": 1}, "spec": {"sharing": False}},
    ]
    done = dragoman(world, tmp_path, "status")
    assert f"  stuck (maxUnavailable 1): NodesNotBack: {why}\n" in done.out
    assert "there (" not in done.out
    assert "at-once" not in done.out
    found = dragoman(world, tmp_path, "status", "-o", "json").document["rollouts"]
    assert [(one["policy"], one["done"], one["changing"]) for one in found] == [
        ("stuck", False, ["n1"]),
        ("there", True, ["n1"]),
    ]


def test_what_is_said_of_an_older_change_is_not_said_of_this_one(tmp_path: Path) -> None:
    world = two_nodes()
    world.policies.append(rolled_out("new", generation=3, status="True", reason="Done", message="All nodes."))
    done = dragoman(world, tmp_path, "status")
    assert (
        "new (maxUnavailable 1): NotSaid: The controller has said nothing about this change yet." in done.out
    )


def test_status_does_without_the_right_to_see_policies(tmp_path: Path) -> None:
    done = dragoman(
        two_nodes(forbidden=("/apis/dragoman.dev/v1alpha1/acceleratorpolicies",)), tmp_path, "status"
    )
    assert done.status == 0
    assert "You lack the right to list acceleratorpolicies.dragoman.dev." in done.out


def test_many_policies_on_their_way_are_counted_unless_all_are_wanted(tmp_path: Path) -> None:
    world = two_nodes()
    for number in range(12):
        world.policies.append(
            rolled_out(f"p{number:02}", status="False", reason="InProgress", message="1 node waits.")
        )
    assert "and 4 more (--all shows them)" in dragoman(world, tmp_path, "status").out
    assert "p11 (" in dragoman(world, tmp_path, "status", "--all").out
