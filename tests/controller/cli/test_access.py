"""Kubeconfigs as people have them."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli.access import find_access
from driver.errors import ConfigError

SECRET = "secret-that-nobody-may-see"


def write(folder: Path, name: str = "config", **parts: Any) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(parts))
    return path


def context(name: str, *, cluster: str = "c", user: str = "u", **more: str) -> dict[str, Any]:
    return {"name": name, "context": {"cluster": cluster, "user": user, **more}}


def cluster(name: str = "c", server: str = "https://one.example.com", **more: Any) -> dict[str, Any]:
    return {"name": name, "cluster": {"server": server, **more}}


def user(name: str = "u", **more: Any) -> dict[str, Any]:
    return {"name": name, "user": more or {"token": SECRET}}


def usual(folder: Path, name: str = "config", **more: Any) -> Path:
    parts: dict[str, Any] = {
        "current-context": "here",
        "contexts": [context("here"), context("there", namespace="elsewhere")],
        "clusters": [cluster()],
        "users": [user()],
    }
    return write(folder, name, **{**parts, **more})


def test_the_current_context_is_taken(tmp_path: Path) -> None:
    found = find_access(kubeconfig=str(usual(tmp_path)), environ={})
    assert (found.context, found.config.server) == ("here", "https://one.example.com")
    assert (found.config.token, found.config.namespace) == (SECRET, "default")


def test_another_context_can_be_named(tmp_path: Path) -> None:
    found = find_access(kubeconfig=str(usual(tmp_path)), context="there", environ={})
    assert found.config.namespace == "elsewhere"


def test_a_context_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="here, there"):
        find_access(kubeconfig=str(usual(tmp_path)), context="nowhere", environ={})


def test_files_of_the_variable_are_merged_and_the_first_counts(tmp_path: Path) -> None:
    one = write(tmp_path, "one", contexts=[context("a")], clusters=[cluster(server="https://first.example")])
    two = usual(tmp_path, "two", **{"current-context": "a"})
    missing = tmp_path / "missing"
    found = find_access(environ={"KUBECONFIG": f"{one}:{missing}:{two}"})
    assert (found.context, found.config.server) == ("a", "https://first.example")
    assert found.config.token == SECRET


def test_without_the_variable_it_is_the_file_in_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    usual(tmp_path / ".kube")
    assert find_access(environ={"HOME": str(tmp_path)}).context == "here"


def test_without_any_file_that_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No kubeconfig was found") as refused:
        find_access(environ={"HOME": str(tmp_path)})
    assert "--kubeconfig" in refused.value.remedy


def test_files_are_relative_to_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("PEM of a CA")
    path = usual(
        tmp_path,
        clusters=[cluster(**{"certificate-authority": "ca.pem"})],
        users=[user(tokenFile="token")],
    )
    found = find_access(kubeconfig=str(path), environ={}).config
    assert (found.ca, found.token_file) == ("PEM of a CA", str(tmp_path / "token"))


@pytest.mark.parametrize("field", ["auth-provider", "username", "as", "as-uid", "as-groups", "as-user-extra"])
def test_what_would_make_us_somebody_else_is_refused_by_name(field: str, tmp_path: Path) -> None:
    path = usual(tmp_path, users=[user(token=SECRET, **{field: "x"})])
    with pytest.raises(ConfigError) as refused:
        find_access(kubeconfig=str(path), environ={})
    assert refused.value.field == f"users[u].user.{field}"


@pytest.mark.parametrize("field", ["proxy-url", "tls-server-name"])
def test_another_way_to_the_server_is_refused_by_name(field: str, tmp_path: Path) -> None:
    path = usual(tmp_path, clusters=[cluster(**{field: "x"})])
    with pytest.raises(ConfigError) as refused:
        find_access(kubeconfig=str(path), environ={})
    assert refused.value.field == f"clusters[c].cluster.{field}"


@pytest.mark.parametrize(
    "text",
    [
        f"users: [{{name: u, user: {{token: {SECRET}",
        f"token: {SECRET}\n\tbad: tab",
        f"- {SECRET}",
        f"'{SECRET}'",
        f"users: {SECRET}",
        f"current-context: x\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\nusers: [{SECRET}]",
    ],
)
def test_a_file_that_cannot_be_read_is_not_quoted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        find_access(kubeconfig=str(path), environ={})
    assert SECRET not in str(refused.value)


def test_bad_base64_is_not_quoted_either(tmp_path: Path) -> None:
    path = usual(tmp_path, users=[user(**{"client-key-data": f"!!{SECRET}"})])
    with pytest.raises(ConfigError) as refused:
        find_access(kubeconfig=str(path), environ={})
    assert SECRET not in str(refused.value)
    assert refused.value.field == "client-key-data"


def test_certificates_in_the_file_are_decoded(tmp_path: Path) -> None:
    data = base64.b64encode(b"PEM of a key").decode()
    path = usual(tmp_path, users=[user(**{"client-certificate-data": data, "client-key-data": data})])
    found = find_access(kubeconfig=str(path), environ={}).config
    assert (found.certificate, found.key) == ("PEM of a key", "PEM of a key")


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        find_access(kubeconfig=str(tmp_path), environ={})


def plugin(folder: Path, script: str, **more: Any) -> Path:
    program = folder / "login"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    told = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login", **more}
    return usual(folder, users=[user(exec=told)])


def test_a_program_gives_the_token(tmp_path: Path) -> None:
    answer = json.dumps({"kind": "ExecCredential", "status": {"token": SECRET}})
    path = plugin(tmp_path, f"echo '{answer}'")
    assert find_access(kubeconfig=str(path), environ={}).config.token == SECRET


def test_a_program_gets_its_arguments_and_environment(tmp_path: Path) -> None:
    script = 'printf \'{"status": {"token": "%s-%s"}}\' "$1" "$WHO"'
    path = plugin(tmp_path, script, args=["first"], env=[{"name": "WHO", "value": "me"}])
    assert find_access(kubeconfig=str(path), environ={}).config.token == "first-me"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "ended with status 3"),
        (f"echo {SECRET}", "printed no ExecCredential"),
        (f"""echo '{{"status": {{"clientCertificateData": "{SECRET}"}}}}'""", "printed no ExecCredential"),
    ],
)
def test_a_program_that_fails_is_told_without_what_it_printed(script: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        find_access(kubeconfig=str(plugin(tmp_path, script)), environ={})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"command": "./not-there", "installHint": "Get it from your cloud."}, "Get it from your cloud."),
        ({"command": ""}, "No program is named"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "is not known"),
    ],
)
def test_a_program_that_cannot_be_run_is_told(more: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        find_access(kubeconfig=str(plugin(tmp_path, "true", **more)), environ={})
