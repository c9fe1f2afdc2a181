"""The agent as a real process, spoken to as the kubelet does."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from kubelet_plugin.api import registration_pb2, registration_pb2_grpc
from tests.support.agent_process import AgentProcess, NodeFolders, node_folders, running
from tests.support.node_world import claim, pod, result

ROOT = Path(__file__).resolve().parents[2]
CARD = {"vendor": "nvidia", "model": "Test", "memory": "64Gi", "uuid": "GPU-0"}
DEVICE = "nvidia-0"


@pytest.fixture
def folders() -> Iterator[NodeFolders]:
    with node_folders(cards=[CARD]) as found:
        yield found


def put_claim(folders: NodeFolders, number: int, *, memory: str = "64Mi") -> dict[str, object]:
    name = f"claim-{number}"
    found = claim(
        name, result(device=DEVICE, memory=memory, share=name), pods=(f"pod-{number}",), owner=f"pod-{number}"
    )
    owner = pod(f"pod-{number}", claims={})
    owner["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "t"}]
    owner["spec"]["containers"] = [{"name": "app", "resources": {"claims": [{"name": "gpu"}]}}]
    owner["status"] = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": name}]}
    folders.put(found, owner)
    return found


@contextlib.contextmanager
def registrar(agent: AgentProcess) -> Iterator[registration_pb2_grpc.RegistrationStub]:
    options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"unix:{agent.registration}", options=options) as channel:
        yield registration_pb2_grpc.RegistrationStub(channel)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, at which the next agent serves its probes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    monkeypatch.setenv("DRAGOMAN_HTTP_ADDRESS", f"127.0.0.1:{number}")
    return number


def test_the_kubelet_has_its_answer_in_time_while_prepares_run_and_discovery_hangs(
    folders: NodeFolders,
) -> None:
    claims = [put_claim(folders, number) for number in range(100)]
    with running(AgentProcess(folders)) as agent, registrar(agent) as stub:
        stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)
        # The next look for cards opens a pipe that nobody writes to.
        hanging = folders.base / "hanging"
        os.mkfifo(hanging)
        hanging.rename(folders.base / "node.yaml")
        agent.process.send_signal(signal.SIGHUP)
        done = threading.Event()
        took: list[float] = []
        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(agent.prepare, found) for found in claims]
            for answer in answers:
                answer.add_done_callback(
                    lambda _done: done.set() if all(item.done() for item in answers) else None
                )
            while not done.is_set():
                began = time.monotonic()
                info = stub.GetInfo(registration_pb2.InfoRequest(), timeout=60)
                took.append(time.monotonic() - began)
        assert info.name == "dragoman.dev"
        # Of ten one may meet a machine that stands still for a moment; one that waited for the pipe had none.
        assert len(took) >= 10
        assert sorted(took)[len(took) * 9 // 10] < 1, took
        for answer, found in zip(answers, claims, strict=True):
            uid = found["metadata"]["uid"]  # type: ignore[index]
            assert isinstance(answer.result()[uid], list), answer.result()


def test_an_update_leaves_no_gap_and_the_old_agent_takes_only_its_own_sockets(folders: NodeFolders) -> None:
    first, second = put_claim(folders, 1), put_claim(folders, 2)
    old, new = AgentProcess(folders, pod_uid="old"), AgentProcess(folders, pod_uid="new")
    with running(old), running(new):
        before = old.prepare(first)
        old.stop()
        assert not old.socket.exists()
        assert not old.registration.exists()
        assert new.registration.exists()
        with registrar(new) as stub:
            assert stub.GetInfo(registration_pb2.InfoRequest(), timeout=60).endpoint == str(new.socket)
        assert new.prepare(first) == before
        assert isinstance(new.prepare(second)[second["metadata"]["uid"]], list)  # type: ignore[index]


def test_an_agent_that_is_started_again_after_a_kill_takes_its_sockets_back(folders: NodeFolders) -> None:
    found = put_claim(folders, 1)
    with running(AgentProcess(folders, pod_uid="one")) as agent:
        before = agent.prepare(found)
    with running(AgentProcess(folders, pod_uid="one")) as agent, registrar(agent) as stub:
        stub.GetInfo(registration_pb2.InfoRequest(), timeout=60, wait_for_ready=True)
        assert agent.prepare(found) == before
        assert folders.names(agent.registration.parent) == [
            ".dragoman.dev-one-reg.sock",
            "dragoman.dev-one-reg.sock",
        ]


def test_a_stop_lets_the_call_in_flight_end_and_keeps_what_is_prepared(folders: NodeFolders) -> None:
    claims = [put_claim(folders, number) for number in range(20)]
    with running(AgentProcess(folders)) as agent, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(agent.prepare, *claims)
        while not folders.names(folders.records):
            time.sleep(0.001)
        agent.process.send_signal(signal.SIGTERM)
        prepared = answer.result()
        assert all(isinstance(devices, list) for devices in prepared.values())
        assert agent.ended() == 0
    assert len(folders.names(folders.cdi)) == 20
    assert folders.names(agent.registration.parent) == []


def test_readiness_follows_registration_and_connection(folders: NodeFolders, port: int) -> None:
    with running(AgentProcess(folders)) as agent:
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/readyz") == (503, "The kubelet has not registered this agent yet.\n")
        with registrar(agent) as stub:
            stub.NotifyRegistrationStatus(
                registration_pb2.RegistrationStatus(plugin_registered=True), wait_for_ready=True
            )
        agent.prepare()
        assert get(port, "/readyz")[0] == 200
        status, text = get(port, "/metrics")
        assert status == 200
        assert 'dragoman_agent_registrations_total{result="registered"} 1.0' in text


def test_an_agent_that_was_stopped_and_continued_goes_on_as_if_nothing_had_been(
    folders: NodeFolders,
) -> None:
    found = put_claim(folders, 1)
    with running(AgentProcess(folders)) as agent:
        agent.process.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(agent.prepare, found)
            time.sleep(0.2)
            assert not answer.done()
            agent.process.send_signal(signal.SIGCONT)
            assert isinstance(answer.result()[found["metadata"]["uid"]], list)  # type: ignore[index]


def test_a_signal_shows_what_every_thread_does(folders: NodeFolders) -> None:
    with running(AgentProcess(folders)) as agent:
        agent.process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + 60
        while "Current thread" not in agent.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        agent.prepare()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--claims-from", "/c", "--simulated-node", "/nowhere.yaml"], "/nowhere.yaml cannot be read"),
        ([], "--node-name (DRAGOMAN_NODE_NAME): The agent has to know its node."),
        (["--node-name", "n"], "--api-server (DRAGOMAN_API_SERVER): This process is not in a pod"),
    ],
)
def test_an_agent_that_cannot_start_says_why_in_one_line(flags: list[str], sentence: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBERNETES_")}
    done = subprocess.run(
        [sys.executable, "-m", "kubelet_plugin", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


FOREIGN = (
    *("kopf", "kubernetes", "kubernetes_asyncio", "aiohttp", "click", "httpx", "controller", "pynvml"),
    *("driver.cel", "driver.selection", "driver.allocation", "driver.validation.validate"),
)


def test_the_agent_imports_nothing_of_the_controllers_and_no_vendor_library() -> None:
    program = (
        # structlog loads rich where it finds it; the agent's image has none, and has to do without.
        "import sys; sys.modules['rich'] = None;"
        "import kubelet_plugin.__main__, kubelet_plugin.app, driver.kube.http_transport;"
        f"print([name for name in {FOREIGN!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_is_answered_without_loading_grpc() -> None:
    program = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from kubelet_plugin.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print('loaded' if 'grpc' in sys.modules else 'not loaded')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},  # a narrow terminal breaks names
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "not loaded"
    assert "DRAGOMAN_KUBELET_ROOT" in done.stdout
