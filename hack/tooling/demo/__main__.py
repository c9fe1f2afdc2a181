"""The command line of `hack/demo`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console

from driver.api.node import cards_of, decode_status
from driver.errors import DragomanError
from driver.vendors.simulated import parse_simulated_node
from tooling.demo.agent import Agent, Folders
from tooling.demo.manifests import NODE, load_documents, read_manifests
from tooling.demo.screen import Screen
from tooling.demo.story import Story
from tooling.generate.device_classes import device_classes

HERE = Path(__file__).parent
EPILOG = """\
Your own files:
  hack/demo --node my-node.yaml      cards, in the form of
                                     hack/tooling/demo/node.yaml
  hack/demo --claims my-claims.yaml  ResourceClaims, ResourceClaimTemplates,
                                     DeviceClasses, Pods
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Shows the main job; returns 0 if every step that was expected to work did."""
    parser = argparse.ArgumentParser(
        prog="hack/demo",
        description="Shows the main job on an embedded simulated node:\ncards, slices, claims, prepare, CDI.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--node", type=Path, default=HERE / "node.yaml", help="the simulated node's cards (YAML)"
    )
    parser.add_argument("--claims", type=Path, default=HERE / "claims.yaml", help="what is asked for (YAML)")
    parser.add_argument(
        "--output", type=Path, help="folder for CDI specs, slices and state (default: a new one)"
    )
    options = parser.parse_args(argv)
    try:
        return _show(node_file=options.node.resolve(), claims_file=options.claims, output=options.output)
    except (DragomanError, RuntimeError) as refused:
        print(f"hack/demo: {refused}", file=sys.stderr)
        return 2


def _show(*, node_file: Path, claims_file: Path, output: Path | None) -> int:
    began = time.monotonic()
    manifests = read_manifests(load_documents(claims_file), source=claims_file.name)
    for document in load_documents(node_file):  # refused, if it has to be, before anything is started
        parse_simulated_node(document, field=node_file.name)
    base = (output or Path(tempfile.mkdtemp(prefix="dragoman-demo-"))).resolve()
    base.mkdir(parents=True, exist_ok=True)
    folders = Folders(base=base)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width of its own
    screen = Screen(console)
    screen.line("Dragoman: shares of accelerators, by the MiB and by the percent", "bold")
    screen.line(f"Simulated: the cards ({node_file.name}), and the kubelet's side of the conversation.")
    screen.line("Real: CEL, allocation, the agent's process, gRPC on a unix socket, state files, CDI specs.")
    agent = Agent.start(folders, node_file=node_file, node=NODE)
    try:
        cards = cards_of(decode_status(agent.inventory()["status"]))
        screen.heading(f"The agent (process {agent.pid}) found {len(cards)} cards")
        screen.cards(cards)
        classes = [*device_classes(sorted({card.vendor for card in cards})), *manifests.classes]
        story = Story(node=NODE, cards=cards, classes=classes, folders=folders, agent=agent)
        slices = base / "resourceslices.yaml"
        slices.write_text(yaml.safe_dump_all(story.slices, sort_keys=False))
        offered = sum(len(one["spec"]["devices"]) for one in story.slices)
        screen.heading(f"ResourceSlices made of them: {len(story.slices)} with {offered} devices")
        screen.line(f"   {slices}")
        several = len(manifests.claims) != 1
        screen.heading(f"{len(manifests.claims)} claims, one after the other" if several else "One claim")
        failed = 0
        for asked in manifests.claims:
            told = story.tell(asked)
            failed += told.answer is not None and bool(told.answer.error)
            screen.told(told, spec=story.spec_of(asked))
        screen.heading("Who holds what")
        screen.picture(story.uses())
    finally:
        agent.stop()
    screen.line(f"CDI specs, slices, state and the agent's log are in {base}")
    screen.line(
        f"No container was started: hack/test does that, on a real node. {time.monotonic() - began:.1f} s."
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
