"""The command line of `hack/image`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tooling.cluster.progress import elapsed, to_terminal
from tooling.image.build import build, copy_out, default_name
from tooling.image.errors import ImageError
from tooling.image.mirror import find_mirror
from tooling.image.push import push


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/image",
        description="Makes the project's container image, for agent and controller alike, as a tar that "
        "`ctr images import`, `docker load` and `kind load image-archive` take. Needs root, a Debian "
        "mirror and a package index; no registry, no container engine. Prints the tar's path.",
    )
    parser.add_argument("--output", type=Path, help="also put the tar here; else it lies in the cache only")
    parser.add_argument(
        "--name", default="", help="the image's full name (default: localhost/dragoman:VERSION)"
    )
    parser.add_argument(
        "--push", metavar="REF", default="", help="push it as REF, with skopeo, crane, podman or docker"
    )
    parser.add_argument(
        "--preload-library", type=Path, help="libvgpu.so to put in (check it with hack/preload-library)"
    )
    parser.add_argument(
        "--mirror", default="", help="Debian mirror (default: DRAGOMAN_DEBIAN_MIRROR, else apt's own)"
    )
    parser.add_argument(
        "--refresh-base", action="store_true", help="make the base anew, with today's Debian packages"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    options = _parser().parse_args(argv)
    begin = time.monotonic()
    try:
        built = build(
            name=options.name or default_name(),
            mirror=find_mirror(chosen=options.mirror or os.environ.get("DRAGOMAN_DEBIAN_MIRROR", "")),
            report=to_terminal,
            preload_library=options.preload_library,
            refresh_base=options.refresh_base,
        )
        if options.output:
            copy_out(built.tar, options.output)
        if options.push:
            push(built.tar, name=built.name, reference=options.push, report=to_terminal)
    except (ImageError, ValueError) as error:
        to_terminal(f"hack/image: {error}")
        return 1
    repository, _, tag = (options.push or built.name).rpartition(":")
    size = built.tar.stat().st_size / 1e6
    found = "found in the cache" if built.cached else "made"
    to_terminal(f"Image {built.name} {found} in {elapsed(time.monotonic() - begin)}, {size:.0f} MB")
    to_terminal(f"Install it with: --set image.repository={repository} --set image.tag={tag}")
    print(options.output or built.tar)
    return 0


if __name__ == "__main__":
    sys.exit(main())
