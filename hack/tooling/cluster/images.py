"""The images that a node has before any registry is asked: the pod sandbox and, where possible, a shell."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import cache
from tooling.oci import ImageConfig, Layer, write_image

PAUSE = "docker.io/local/pause:1"
BUSYBOX = "docker.io/local/busybox:1"
_SOURCE = Path(__file__).with_name("pause.c")
_APPLETS = ("sh", "cat", "cp", "echo", "env", "id", "ip", "ls", "nc", "sleep", "touch", "true", "wc", "wget")


def pause() -> Path:
    """The sandbox image as a tar, compiled when it is not in the cache."""
    key = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    tar = cache() / "images" / f"pause-{key}.tar"
    if not tar.exists():
        with tempfile.TemporaryDirectory() as scratch:
            program = Path(scratch) / "pause"
            command = ["gcc", "-static", "-Os", "-s", "-Wall", "-Werror", "-o", str(program), str(_SOURCE)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ClusterError(f"the pause program cannot be compiled: {done.stderr.strip()}")
            layer = Layer.from_files({"pause": program}, modes={"pause": 0o755})
            write_image(out=tar, name=PAUSE, layers=[layer], config=ImageConfig(entrypoint=["/pause"]))
    return tar


def busybox(program: Path = Path("/bin/busybox")) -> Path | None:
    """An image with a shell, made of Debian's busybox-static; none where that is not installed.

    It is linked statically: the dynamic loader's ``ld.so.preload`` has no effect in it.
    """
    if not program.exists():
        return None
    found = program.stat()
    tar = cache() / "images" / f"busybox-{found.st_size}-{found.st_mtime_ns}.tar"
    if not tar.exists():
        layer = Layer.from_files(
            {"bin/busybox": program},
            symlinks={f"bin/{name}": "busybox" for name in _APPLETS},
            modes={"tmp": 0o1777},
            directories=["tmp"],
        )
        config = ImageConfig(command=["/bin/sh"], env={"PATH": "/bin"})
        write_image(out=tar, name=BUSYBOX, layers=[layer], config=config)
    return tar
