"""The command line of `hack/replay`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from tooling.replay.errors import ReferenceMissingError, ReplayError

COMMANDS = {"cel": "tooling.replay.selectors", "allocator": "tooling.replay.allocations"}
FRESH = {"cel": "tooling.replay.fresh_cel", "allocator": "tooling.replay.fresh_allocator"}
"""Only the module of the command that was asked for is imported: selectors need no allocator."""
ADMIT = "admit"

EPILOG = """\
Cases come on standard input, in the form of tests/corpora, plain or gzip; one
answer a line goes out, in order:
  cel        a JSON string: true, false, compile-error, evaluation-error;
             not-supported or internal-error where ours has no answer
  allocator  {"id", "nodes": [{"node", "allocations", "errorKind"}, ...]}
  admit      AdmissionReviews, as the webhooks answer them; see
             hack/replay admit --help

  zcat tests/corpora/cel/random.jsonl.gz | hack/replay cel
  hack/replay allocator --check --kubernetes 1.37 \\
    < tests/corpora/allocator/handwritten.jsonl.gz

Rules are those of Kubernetes 1.36 for allocations; for selectors those of 1.37,
with which the CEL corpus was recorded (1.36 has no names in backquotes).
--kubernetes chooses.

exit status: 0; 1 where --check or --fresh found less agreement than is
demanded; 2 for a line that is no case; 3 where --fresh needs Go and there is
none.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == [ADMIT]:
            answered: int = importlib.import_module("tooling.replay.admit").main(arguments[1:])
            return answered
        parser = _parser()
        options = parser.parse_args(arguments)
        if options.what == ADMIT:
            parser.error("admit has options of its own and stands first: see hack/replay admit --help")
        modules = COMMANDS if options.fresh is None else FRESH
        status: int = importlib.import_module(modules[options.what]).run(options)
    except ReferenceMissingError as missing:
        print(f"hack/replay: {missing}", file=sys.stderr)
        return 3
    except ReplayError as failed:
        sys.stdout.flush()
        print(f"hack/replay: {failed}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has gone; Python would complain once more at its end
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/replay",
        description="Answers selectors, allocations and admission reviews by ours,\n"
        "and holds the first two against Kubernetes' own code.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=(*COMMANDS, ADMIT))
    parser.add_argument("--kubernetes", choices=("1.36", "1.37"), help="whose rules (default: see below)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare with the recorded answers; print disagreements and rates",
    )
    parser.add_argument(
        "--fresh",
        type=_seed,
        nargs="?",
        const=-1,
        metavar="SEED",
        help="instead of reading cases, make new ones and ask Kubernetes' own code; without SEED a new one, "
        "which is printed",
    )
    parser.add_argument("--cases", type=int, metavar="N", help="how many new ones (default: 4000, or 1500)")
    return parser


def _seed(text: str) -> int:
    seed = int(text)
    if seed < 0:
        raise argparse.ArgumentTypeError("a seed is 0 or more")
    return seed


if __name__ == "__main__":
    sys.exit(main())
