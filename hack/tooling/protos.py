"""Makes the Python code of `proto/`: messages, stubs and their types.

Flow: every `proto/**/*.proto` goes through protoc (from grpcio-tools) with the mypy-protobuf plugins into a
scratch folder; the result is compared with, or written to, the same path below the repository's root. The
path of a file below `proto/` is therefore the path of its module: `proto/kubelet_plugin/api/dra_v1.proto`
becomes `kubelet_plugin/api/dra_v1_pb2.py`. No generated line is edited.

Limits: the generated code refuses to load with an older grpcio or protobuf than the ones that made it; both
are locked together in requirements/.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(*, check: bool) -> list[str]:
    """Generates the code of all protocol files.

    Args:
        check: Only compare; write nothing.

    Returns:
        Paths, relative to the root, that were (or with `check`: would be) written or removed.
    """
    wanted = _compiled()
    changed = []
    for path, content in sorted(wanted.items()):
        target = ROOT / path
        if not target.is_file() or target.read_bytes() != content:
            changed.append(path)
            if not check:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    for path in sorted(_present() - wanted.keys()):
        changed.append(path)
        if not check:
            (ROOT / path).unlink()
    return changed


def main(check: bool) -> int:  # noqa: FBT001 - called by name from hack/generate and from the command line
    """Generates or checks, says what differed, and returns the exit status."""
    changed = generate(check=check)
    for path in changed:
        print(f"{'differs' if check else 'wrote'}: {path}")
    if check and changed:
        print("The code generated from proto/ is not what the protocol files say. Run hack/generate.")
        return 1
    return 0


def _compiled() -> dict[str, bytes]:
    protos = ROOT / "proto"
    sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        outputs = [
            f"--python_out={scratch}",
            f"--grpc_python_out={scratch}",
            f"--mypy_out=quiet:{scratch}",
            f"--mypy_grpc_out=quiet:{scratch}",
        ]
        plugins = Path(sys.executable).parent
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"-I{protos}",
                f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
                f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
                *outputs,
                *sources,
            ],
            check=True,
            cwd=protos,
        )
        made = Path(scratch)
        return {
            str(path.relative_to(made)): path.read_bytes()
            for path in made.rglob("*")
            if path.name.endswith(SUFFIXES)
        }


def _present() -> set[str]:
    folders = {path.parent.relative_to(ROOT / "proto") for path in (ROOT / "proto").rglob("*.proto")}
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).glob("*")
        if path.name.endswith(SUFFIXES)
    }


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
