from pathlib import Path

import pytest

from driver.errors import ConfigError
from kubelet_plugin.options import OPTIONS
from kubelet_plugin.settings import Settings, parse_settings


def parse(*arguments: str, **environment: str) -> Settings:
    return parse_settings(["--node-name", "worker", *arguments], environment=environment)


def test_all_paths_of_the_kubelet_follow_from_its_root() -> None:
    found = parse("--kubelet-root", "/data/kubelet")
    assert found.registration_dir == Path("/data/kubelet/plugins_registry")
    assert found.plugin_dir == Path("/data/kubelet/plugins/dragoman.dev")
    assert found.state_dir == Path("/data/kubelet/plugins/dragoman.dev/state")
    assert found.pod_resources_socket == Path("/data/kubelet/pod-resources/kubelet.sock")


def test_each_flag_has_an_environment_variable_of_its_name() -> None:
    found = parse(DRAGOMAN_CDI_DIR="/etc/cdi", DRAGOMAN_DISCOVERY_INTERVAL="5", DRAGOMAN_LOG_LEVEL="debug")
    assert (found.cdi_dir, found.discovery_interval_s, found.log_level) == (Path("/etc/cdi"), 5.0, "debug")


def test_a_flag_wins_over_the_environment() -> None:
    assert parse("--cdi-dir", "/a", DRAGOMAN_CDI_DIR="/b").cdi_dir == Path("/a")


def test_a_variable_that_is_set_to_nothing_says_nothing() -> None:
    assert parse(DRAGOMAN_STATE_DIR="", DRAGOMAN_CDI_DIR="").cdi_dir == Path("/var/run/cdi")


def test_every_option_fills_a_field_of_the_settings() -> None:
    assert {option.field for option in OPTIONS} == set(Settings.__dataclass_fields__)


def test_without_an_api_server_the_node_needs_no_name() -> None:
    assert parse_settings(["--claims-from", "/c"], environment={}).node_name == "local"
    simulated = parse_settings(["--claims-from", "/c", "--simulated-node", "n.yaml"], environment={})
    assert (simulated.node_name, simulated.file_backed) == ("simulated", True)


@pytest.mark.parametrize(
    ("arguments", "field", "remedy"),
    [
        (["--cdi-dir", "cdi"], "--cdi-dir (DRAGOMAN_CDI_DIR)", "from / on"),
        (["--node-name", "Worker_1"], "--node-name (DRAGOMAN_NODE_NAME)", "Node object"),
        (["--pod-uid", "a/b"], "--pod-uid (DRAGOMAN_POD_UID)", "slashes"),
        (["--api-server", "10.0.0.1"], "--api-server (DRAGOMAN_API_SERVER)", "https://"),
        (["--http-address", "8080"], "--http-address (DRAGOMAN_HTTP_ADDRESS)", "HOST:PORT"),
        (["--http-address", ":99999"], "--http-address (DRAGOMAN_HTTP_ADDRESS)", "HOST:PORT"),
        (["--discovery-interval", "0"], "--discovery-interval (DRAGOMAN_DISCOVERY_INTERVAL)", "seconds"),
        (["--discovery-interval", "nan"], "--discovery-interval (DRAGOMAN_DISCOVERY_INTERVAL)", "seconds"),
        (["--log-level", "loud"], "--log-level (DRAGOMAN_LOG_LEVEL)", "debug, info, warning, error"),
        (["--policies-from", "/p"], "--policies-from (DRAGOMAN_POLICIES_FROM)", "--claims-from"),
        (["--inventory-to", "/i"], "--inventory-to (DRAGOMAN_INVENTORY_TO)", "--claims-from"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_flag_variable_and_remedy(
    arguments: list[str], field: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(*arguments)
    assert refused.value.field == field
    assert remedy in str(refused.value)


def test_an_unknown_flag_ends_the_program_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("--cdi-dirs", "/a")
    assert ended.value.code == 2
    assert "--cdi-dirs" in capsys.readouterr().err
