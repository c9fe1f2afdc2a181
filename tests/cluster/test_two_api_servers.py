"""API servers of 1.35 and 1.36 side by side on one etcd, as in the middle of an upgrade of several.

Flow: a cluster of 1.36 in mode controller, then a 1.35 API server beside it that the controllers do not find:
all that they see says that amounts are kept. What goes through the old server loses them all the same. Then
one that they find, in both modes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from driver.api.asked import STAMP
from driver.kube.resources import ACCELERATOR_NODES, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from tests.cluster.support import cards, waiting
from tests.cluster.support.api import JSON, Api, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.manifests import claim, pod, request, template
from tests.cluster.support.own_cluster import need_built
from tests.cluster.support.space import Space, open_space, results
from tests.cluster.support.stock import in_mode_controller
from tooling.cluster import api as clusters

pytestmark = [pytest.mark.own_cluster, pytest.mark.node]

OLDER, NEWER = "1.35.4", "1.36.3"
ON = cards.on(cards.NVIDIA_40)
SHARE = request(memory="4Gi", cores="30", cel=ON)


@pytest.fixture(scope="module")
def own(images: Images) -> Iterator[Installation]:
    need_built(OLDER)
    yield from in_mode_controller(images, purpose="skew", version=NEWER)


@pytest.fixture(scope="module")
def older(own: Installation) -> Api:
    """The same cluster as clients see it that reach the old server."""
    assert own.target.own is not None
    server = clusters.beside(own.target.own, kubernetes=OLDER, found=False)
    found = replace(own.api, server=server)
    assert found.request("GET", "/version").json()["gitVersion"] == f"v{OLDER}"
    return found


@pytest.fixture
def space(own: Installation, older: Api) -> Iterator[Space]:
    one = open_space(own.api, "skew")
    yield one
    own.expect_nothing_left(one.close())


def asked(devices: JSON) -> JSON | None:
    (one,) = devices["requests"]
    found: JSON | None = one["exactly"].get("capacity")
    return found


def test_a_claim_that_the_old_server_stored_gets_its_share(space: Space, older: Api) -> None:
    stored = older.create(RESOURCE_CLAIMS, claim("old", SHARE), namespace=space.name)
    assert asked(stored["spec"]["devices"]) is None
    assert STAMP in stored["metadata"]["annotations"]
    space.create(pod("of-old", claims={"card": "old"}))
    (given,) = space.wait_claim("old", results, what="is allocated")
    assert given["consumedCapacity"] == {"memory": "4Gi", "cores": "30"}


def test_a_template_that_the_old_server_stored_gives_shares(space: Space, older: Api) -> None:
    stored = older.create(RESOURCE_CLAIM_TEMPLATES, template("old", SHARE), namespace=space.name)
    assert asked(stored["spec"]["spec"]["devices"]) is None
    space.create(pod("of-old", templates={"card": "old"}))
    space.running("of-old")
    assert (space.seen("of-old").memory_mib(0), space.seen("of-old").cores(0)) == (4096, 30)


def test_what_the_new_server_stores_holds_its_amounts_twice_and_is_given_them_once(space: Space) -> None:
    space.create(template("new", SHARE), pod("of-new", templates={"card": "new"}))
    space.running("of-new")
    made = space.claim_of("of-new")
    assert asked(made["spec"]["devices"]) == {"requests": {"memory": "4Gi", "cores": "30"}}
    assert "ShareConfig" in str(made["spec"]["devices"]["config"])
    assert (space.seen("of-new").memory_mib(0), space.seen("of-new").cores(0)) == (4096, 30)


def test_where_there_is_no_room_to_carry_amounts_over_nothing_gets_a_whole_card(
    space: Space, older: Api
) -> None:
    others = [{"opaque": {"driver": f"other-{number}.example", "parameters": {}}} for number in range(32)]
    older.create(RESOURCE_CLAIM_TEMPLATES, template("full-old", SHARE, config=others), namespace=space.name)
    space.create(pod("of-old", templates={"card": "full-old"}))
    space.event("of-old", "not what went through", reason="ClaimNotStamped")
    assert not any(map(results, space.claims()))
    # The new server keeps the amounts, so nothing is refused there.
    space.create(template("full-new", SHARE, config=others), pod("of-new", templates={"card": "full-new"}))
    space.running("of-new")
    assert space.seen("of-new").memory_mib(0) == 4096


def test_a_constraint_that_the_old_server_would_lose_is_refused_by_it(space: Space, older: Api) -> None:
    apart = [{"requests": ["card"], "distinctAttribute": "dragoman.dev/uuid"}]
    with pytest.raises(Refused, match="matchAttribute"):
        older.create(RESOURCE_CLAIMS, claim("apart", SHARE, constraints=apart), namespace=space.name)
    space.create(claim("apart", SHARE, constraints=apart))


def test_once_the_old_server_is_gone_what_it_stored_is_given_out_as_asked(
    own: Installation, space: Space, older: Api
) -> None:
    older.create(RESOURCE_CLAIM_TEMPLATES, template("kept", SHARE), namespace=space.name)
    assert own.target.own is not None
    clusters.alone(own.target.own)
    waiting.eventually(
        lambda: own.target.own is not None and own.target.own.ready(), what="the new server goes on"
    )
    space.create(pod("late", templates={"card": "kept"}))
    space.running("late")
    assert space.seen("late").memory_mib(0) == 4096


@pytest.fixture(scope="module")
def listed(own: Installation) -> Api:
    """The old server beside the new one again, and this time whoever asks the Service may reach either."""
    assert own.target.own is not None
    clusters.alone(own.target.own)
    server = clusters.beside(own.target.own, kubernetes=OLDER, found=True)
    own.restart_controllers()
    return replace(own.api, server=server)


def test_a_server_that_can_be_found_is_asked_by_itself_and_constraints_survive_it(
    own: Installation, listed: Api
) -> None:
    space = open_space(own.api, "listed")
    apart = [{"requests": ["card"], "distinctAttribute": "dragoman.dev/uuid"}]
    for number, server in enumerate((listed, own.api, listed, own.api)):
        # Both controllers' webhooks know by now, whichever is asked.
        body = template(f"apart-{number}", SHARE, constraints=apart)
        stored = server.create(RESOURCE_CLAIM_TEMPLATES, body, namespace=space.name)
        assert "constraints" not in stored["spec"]["spec"]["devices"]
    space.create(pod("p", templates={"card": "apart-0"}))
    space.running("p")
    assert space.seen("p").memory_mib(0) == 4096
    own.expect_nothing_left(space.close())


def test_in_mode_native_no_card_is_offered_while_one_server_is_too_old(
    own: Installation, listed: Api
) -> None:
    own.controller = {"mode": "native"}
    own.install()

    def says() -> JSON | None:
        conditions = own.api.get(ACCELERATOR_NODES, own.node)["status"].get("conditions") or []
        return next((one for one in conditions if "One of several API servers" in one["message"]), None)

    found = waiting.eventually(says, what="the node says why")
    assert f"{OLDER.rpartition('.')[0]} cannot allocate shares" in found["message"]
    own.wait_slices(lambda now: not now, what="nothing is offered")


def test_they_are_offered_once_it_is_gone(own: Installation, listed: Api) -> None:
    assert own.target.own is not None
    clusters.alone(own.target.own)
    own.restart_controllers()
    own.wait_all_offered()
