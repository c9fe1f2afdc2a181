"""Where the API server is found, and what is refused."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from driver.errors import ConfigError
from driver.kube.config import ClusterConfig, TokenReader, from_kubeconfig, in_cluster, load_config


def kubeconfig(folder: Path, *, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ns"}}],
                "clusters": [{"name": "c", "cluster": cluster or {"server": "https://api:6443/"}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


def service_account(folder: Path) -> Path:
    (folder / "token").write_text("secret")
    (folder / "ca.crt").write_text("PEM")
    (folder / "namespace").write_text("dragoman\n")
    return folder


def test_a_pod_finds_the_server_by_its_environment_and_its_files(tmp_path: Path) -> None:
    config = in_cluster(
        environ={"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"},
        folder=service_account(tmp_path),
    )
    assert config.server == "https://10.96.0.1:443"
    assert config.token_file == str(tmp_path / "token")
    assert (config.ca, config.namespace) == ("PEM", "dragoman")


def test_an_ipv6_address_gets_its_brackets(tmp_path: Path) -> None:
    config = in_cluster(environ={"KUBERNETES_SERVICE_HOST": "fd00::1"}, folder=service_account(tmp_path))
    assert config.server == "https://[fd00::1]:443"


def test_a_pod_without_its_token_volume_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        in_cluster(environ={"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, folder=tmp_path)


def test_a_kubeconfig_with_a_token_is_read(tmp_path: Path) -> None:
    config = from_kubeconfig(kubeconfig(tmp_path, user={"token": "secret"}))
    assert config == ClusterConfig(server="https://api:6443", token="secret", namespace="ns")


def test_certificates_are_taken_inline_or_from_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "client.key").write_text("KEY")
    user = {"client-certificate-data": base64.b64encode(b"CERT").decode(), "client-key": "client.key"}
    config = from_kubeconfig(kubeconfig(tmp_path, user=user))
    assert (config.certificate, config.key) == ("CERT", "KEY")


@pytest.mark.parametrize("plugin", ["exec", "auth-provider"])
def test_credential_plugins_are_refused_with_what_to_do_instead(tmp_path: Path, plugin: str) -> None:
    with pytest.raises(ConfigError, match=r"users\[u\].user.*kubectl create token"):
        from_kubeconfig(kubeconfig(tmp_path, user={plugin: {"command": "aws"}}))


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("current-context: gone\n")
    with pytest.raises(ConfigError, match="'gone' is not among the contexts"):
        from_kubeconfig(path)


def test_credentials_that_are_not_base64_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="client-certificate"):
        from_kubeconfig(kubeconfig(tmp_path, user={"client-certificate-data": "%%%"}))


def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("just text")
    with pytest.raises(ConfigError, match="is no kubeconfig"):
        from_kubeconfig(path)


def test_without_pod_and_kubeconfig_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--kubeconfig"):
        load_config(environ={"HOME": str(tmp_path)})


def test_the_environment_names_the_kubeconfig(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, user={"token": "secret"})
    assert load_config(environ={"KUBECONFIG": str(path)}).server == "https://api:6443"


def test_credentials_never_show_in_a_repr(tmp_path: Path) -> None:
    shown = repr(ClusterConfig(server="https://api", token="t0p", certificate="c3rt", key="k3y", ca="c4"))
    assert not any(secret in shown for secret in ("t0p", "c3rt", "k3y", "c4"))


def test_a_certificate_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="https://api cannot be used"):
        ClusterConfig(server="https://api", ca="no certificate").ssl_context()


def test_a_rotated_token_is_used_within_a_minute(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    now = 0.0
    reader = TokenReader(ClusterConfig(server="https://api", token_file=str(file)), clock=lambda: now)
    assert reader.token() == "one"
    file.write_text("two")
    now = 59.0
    assert reader.token() == "one"
    now = 60.0
    assert reader.token() == "two"


def test_a_token_file_that_is_away_for_a_moment_leaves_the_last_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    now = 0.0
    reader = TokenReader(ClusterConfig(server="https://api", token_file=str(file)), clock=lambda: now)
    reader.token()
    file.unlink()
    now = 100.0
    assert reader.token() == "one"
