"""One cluster and one installation for the whole run, one namespace for each test.

Flow: `target` (which cluster) -> `images` -> `installed` (Helm, once) -> `space` (a namespace that must leave
nothing behind). Beside all of it, `ledger` adds up what the claims were given. When a test fails, what a
person would look at is added to its report.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import urllib3

from tests.cluster.support import diagnosis
from tests.cluster.support.api import Api, Refused
from tests.cluster.support.figures import FIGURE, Tell
from tests.cluster.support.images import Images, make_images
from tests.cluster.support.installation import Installation
from tests.cluster.support.ledger import Ledger
from tests.cluster.support.own_cluster import run_version
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.target import Target, from_environment

_INSTALLED = pytest.StashKey[Installation]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The first test pays for the image and the installation; a node of its own takes its time as well.
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def kubernetes_version() -> str:
    """The Kubernetes version that this run is about."""
    return run_version()


@pytest.fixture(scope="session")
def target() -> Target:
    return from_environment()


@pytest.fixture(scope="session")
def api(target: Target) -> Api:
    return target.api


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(folder=tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def installed(target: Target, images: Images, request: pytest.FixtureRequest) -> Installation:
    """Dragoman as its chart installs it; it stays when the run ends, the cluster is thrown away."""
    installation = Installation(target, images=images)
    request.session.stash[_INSTALLED] = installation
    if not os.environ.get("DRAGOMAN_INSTALLED"):
        images.load(target)
        installation.install()
    installation.wait_ready()
    installation.wait_webhooks()
    return installation


@pytest.fixture(scope="session")
def ledger(installed: Installation) -> Iterator[Ledger]:
    found = Ledger(installed.api)
    found.start()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def _node_is_there(request: pytest.FixtureRequest) -> None:
    """Tests that touch the node are reported as not run where there is no way to it."""
    if request.node.get_closest_marker("node") and not request.node.get_closest_marker("own_cluster"):
        target: Target = request.getfixturevalue("target")
        if not target.has_node:
            pytest.skip("not run: this cluster's node cannot be touched from here")


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Keeps a figure of this run for the end of the output, in whatever process the test runs."""
    # pytest's own `record_property` warns wherever a JUnit file is written, and `hack/test` writes one.
    return lambda sentence: request.node.user_properties.append((FIGURE, sentence))


@pytest.fixture
def space(installed: Installation, ledger: Ledger, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace; afterwards nothing of it may be left on the node, and nothing may be over-committed."""
    one = open_space(installed.api, request.node.name)
    yield one
    installed.expect_nothing_left(one.close())
    assert not ledger.violations


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when in ("setup", "call"):
        arguments = [*getattr(item, "funcargs", {}).values(), item.session.stash.get(_INSTALLED, None)]
        for one in arguments:
            if isinstance(one, Space):
                report.sections.extend(_collected(diagnosis.of_namespace(one.api, one.name)))
            if isinstance(one, Installation):
                report.sections.extend(_collected(diagnosis.of_installation(one.api, one.namespace)))
    return report


def _collected(sections: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What can be had: the API server may be what failed."""
    try:
        yield from sections
    except (Refused, urllib3.exceptions.HTTPError) as failed:
        yield "more could not be collected", str(failed)
