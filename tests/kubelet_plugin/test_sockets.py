import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.errors import ConfigError
from kubelet_plugin.sockets import (
    MAX_PATH_BYTES,
    PublishedSocket,
    accepts,
    registration_path,
    service_path,
)

UID = "6a1f7c1e-6d1f-4c55-9d0e-1f2e3d4c5b6a"
REGISTRY = Path("/var/lib/kubelet/plugins_registry")
PLUGINS = Path("/var/lib/kubelet/plugins/dragoman.dev")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def listen(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()
    return server


def published(path: Path) -> tuple[PublishedSocket, socket.socket]:
    found = PublishedSocket(path)
    found.prepare()
    server = listen(found.hidden)
    found.bound()
    assert found.publish()
    return found, server


def test_socket_names_hold_the_pods_uid() -> None:
    assert (
        registration_path(REGISTRY, driver="dragoman.dev", pod_uid=UID).name == f"dragoman.dev-{UID}-reg.sock"
    )
    assert service_path(PLUGINS, pod_uid=UID).name == f"dra-{UID}.sock"


def test_a_plain_process_has_names_without_a_uid() -> None:
    assert registration_path(REGISTRY, driver="dragoman.dev", pod_uid="").name == "dragoman.dev-reg.sock"
    assert service_path(PLUGINS, pod_uid="").name == "dra.sock"


def test_a_long_registration_path_gets_the_hashed_uid() -> None:
    folder = Path("/" + "x" * 60)
    assert (
        registration_path(folder, driver="dragoman.dev", pod_uid=UID).name
        == "dragoman.dev-tUXV4x_Fc1A-reg.sock"
    )


def test_a_very_long_registration_path_gets_the_hash_of_driver_and_uid() -> None:
    folder = Path("/" + "x" * 60)
    name = registration_path(folder, driver="a-driver-with-a-long-name.example", pod_uid=UID).name
    assert name.startswith("dra-")
    assert len(name) == len("dra-") + 22 + len("-reg.sock")


def test_a_path_that_no_name_fits_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match="shorter path"):
        registration_path(Path("/" + "x" * 100), driver="dragoman.dev", pod_uid=UID)


@given(folder=st.integers(1, 90), uid=st.text("0123456789abcdef-", min_size=1, max_size=64))
def test_no_path_is_longer_than_the_kernel_takes(folder: int, uid: str) -> None:
    where = Path("/" + "x" * folder)
    paths = []
    with suppress(ConfigError):
        paths.append(service_path(where, pod_uid=uid))
        paths.append(registration_path(where, driver="dragoman.dev", pod_uid=uid))
    for path in paths:
        hidden = PublishedSocket(path).hidden
        assert len(os.fsencode(path)) < len(os.fsencode(hidden)) <= MAX_PATH_BYTES


def test_two_pods_never_share_a_name() -> None:
    folder = Path("/" + "x" * 60)
    found = {
        registration_path(folder, driver="dragoman.dev", pod_uid=f"{UID[:-1]}{n}").name for n in range(10)
    }
    assert len(found) == 10


def test_nothing_is_public_before_it_is_published(short_dir: Path) -> None:
    found = PublishedSocket(short_dir / "a.sock")
    found.prepare()
    with listen(found.hidden):
        found.bound()
        assert names(short_dir) == [".a.sock"]


def test_a_published_socket_accepts_under_its_public_name(short_dir: Path) -> None:
    found, server = published(short_dir / "a.sock")
    with server:
        assert accepts(found.path)
        assert found.intact()
        assert names(short_dir) == [".a.sock", "a.sock"]


def test_publishing_again_makes_a_new_directory_entry(short_dir: Path) -> None:
    # The kubelet registers when an entry appears: a rename of a link over its own file would be no event.
    found, server = published(short_dir / "a.sock")
    with server:
        os.utime(short_dir, ns=(0, 0))
        assert found.publish()
        assert short_dir.stat().st_mtime_ns > 0
        assert accepts(found.path)
        assert names(short_dir) == [".a.sock", "a.sock"]


def test_a_public_name_that_vanished_comes_back_without_a_new_server(short_dir: Path) -> None:
    found, server = published(short_dir / "a.sock")
    with server:
        found.path.unlink()
        assert not found.intact()
        assert found.publish()
        assert accepts(found.path)


def test_a_socket_whose_hidden_name_is_gone_has_to_be_bound_anew(short_dir: Path) -> None:
    found, server = published(short_dir / "a.sock")
    with server:
        found.path.unlink()
        found.hidden.unlink()
        assert not found.publish()


def test_a_socket_that_another_process_took_over_is_left_to_it(short_dir: Path) -> None:
    first, first_server = published(short_dir / "a.sock")
    second, second_server = published(short_dir / "a.sock")
    with first_server, second_server:
        assert first.taken()
        assert not first.publish()
        first.retract()
        assert second.intact()
        assert accepts(second.path)


def test_a_stale_socket_of_a_dead_process_is_replaced(short_dir: Path) -> None:
    _, dead = published(short_dir / "a.sock")
    dead.close()
    assert not accepts(short_dir / "a.sock")
    found, server = published(short_dir / "a.sock")
    with server:
        assert accepts(found.path)


def test_retracting_removes_the_own_public_name(short_dir: Path) -> None:
    found, server = published(short_dir / "a.sock")
    with server:
        found.retract()
        assert not found.path.exists()


def test_connections_are_counted_while_they_are_open(short_dir: Path) -> None:
    found, server = published(short_dir / "a.sock")
    with server:
        assert found.connections() == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(found.path))
            accepted, _ = server.accept()
            with accepted:
                assert found.connections() == 1
        assert found.connections() == 0
