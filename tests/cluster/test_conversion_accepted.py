"""Every pod that conversion makes, and every template, as API servers of three releases take them.

Flow: a bare cluster of each release; all golden files of tests/driver/conversion by server-side dry run. The
pod of before is sent too, because what comes back is what a webhook gets: amounts as the server writes them,
and defaults filled in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from driver.conversion import convert
from driver.kube.resources import PODS
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, NAMESPACES, SERVICE_ACCOUNTS, TEMPLATES, Api, Refused
from tests.cluster.support.own_cluster import bare_cluster
from tests.driver.conversion.golden_files import IDENTITY, files, name_of, read, settings_of, stock_of

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

NAMESPACE = "team"
DROPS = "1.34.4"
CASES: Mapping[str, JSON] = {name_of(path): read(path) for path in files()}
CONVERTED = {name: case for name, case in CASES.items() if case.get("templates")}
NOT_SENT = {
    *(name for name, case in CASES.items() if case.get("unchanged")),
    "nvidia/node-name",  # its node is not there
}


@pytest.fixture(scope="module", params=[DROPS, "1.36.3", "1.37.1"])
def release(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def api(release: str) -> Iterator[Api]:
    with bare_cluster(purpose="accepted", version=release) as target:
        found = target.api
        found.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        waiting.eventually(
            lambda: found.find(SERVICE_ACCOUNTS, "default", namespace=NAMESPACE), what="a service account"
        )
        yield found


def test_every_template_is_stored_as_it_was_made(api: Api, release: str) -> None:
    for name, case in CONVERTED.items():
        for template in case["templates"]:
            stored = api.create(TEMPLATES, template, namespace=NAMESPACE, dry_run=True)
            made = template["spec"]["spec"]["devices"]
            wanted = _without_amounts(made) if release == DROPS else made
            assert stored["spec"]["spec"]["devices"] == wanted, name


def test_every_converted_pod_is_taken_and_keeps_its_claims(api: Api) -> None:
    for name, case in CONVERTED.items():
        stored = api.create(PODS, case["after"], namespace=NAMESPACE, dry_run=True)
        assert stored["spec"]["resourceClaims"] == case["after"]["spec"]["resourceClaims"], name
        for kind in ("containers", "initContainers"):
            for one, made in zip(
                stored["spec"].get(kind, ()), case["after"]["spec"].get(kind, ()), strict=True
            ):
                assert one["resources"].get("claims") == made["resources"].get("claims"), name


def test_a_pod_as_the_server_hands_it_to_webhooks_is_converted_alike(api: Api) -> None:
    sent = 0
    for name, case in CASES.items():
        if name in NOT_SENT or "refused" in case:
            continue
        handed = api.create(PODS, case["before"], namespace=NAMESPACE, dry_run=True)
        found = convert(
            handed,
            identity=IDENTITY,
            settings=settings_of(case),
            stock=stock_of(case),
            classes=case.get("classes") or {},
            class_of=(case.get("served") or {}).get,
        )
        assert found is not None, name
        assert list(found.templates) == case["templates"], name
        sent += 1
    assert sent > 100


def test_what_the_server_itself_refuses_is_none_that_we_convert(api: Api) -> None:
    for name, case in CASES.items():
        try:
            api.create(PODS, case["before"], namespace=NAMESPACE, dry_run=True)
        except Refused:
            assert "refused" in case, name


def _without_amounts(devices: Mapping[str, Any]) -> JSON:
    def bare(option: Mapping[str, Any]) -> JSON:
        return {key: value for key, value in option.items() if key != "capacity"}

    requests = []
    for one in devices["requests"]:
        options = {"exactly": bare(one["exactly"])} if "exactly" in one else {}
        several = [bare(sub) for sub in one.get("firstAvailable", ())]
        requests.append({**one, **options, **({"firstAvailable": several} if several else {})})
    return {**devices, "requests": requests}
