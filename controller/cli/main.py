"""Flags and commands.

Flow: `run` -> click -> a command's `*_command` module, loaded only then -> a document -> text, JSON or YAML.

Limits: exit status 0 and 1 are answers (1: `simulate` found that something does not fit), 2 means that there
is no answer; then one sentence on standard error says why and what to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from driver.errors import DragomanError

if TYPE_CHECKING:
    from controller.cli.access import Access
    from controller.cli.reading import Reading
    from controller.cli.rules import Rules
    from controller.cli.screen import Screen
    from driver.kube.client import StreamingTransport

ANSWERED, DOES_NOT_FIT, NO_ANSWER = 0, 1, 2
_INTERRUPTED = 130
_READER_GONE = 141
_LONGEST_S = 60.0

Connect = Callable[["Access"], "StreamingTransport"]
Document = dict[str, Any]


def _connect(access: Access) -> StreamingTransport:
    transport: StreamingTransport = import_module("driver.kube.http_transport").HttpTransport(
        access.config, user_agent="kubectl-dragoman", threads=8, longest_s=_LONGEST_S
    )
    return transport


@dataclass(kw_only=True)
class Setup:
    """What a run works with.

    Attributes:
        rules: Loads what the controller's other parts know.
        connect: Makes a transport.
        environ: The environment.
    """

    rules: Callable[[], Rules]
    connect: Connect
    environ: Mapping[str, str]

    async def load(self, module: str) -> tuple[Rules, Any]:
        """Loads the rules and then a module, both in one thread, while the API server answers.

        Two threads that load modules of one package at once can each hold what the other waits for; Python
        then ends one of them (`_DeadlockError`, seen in one of 40 runs of `simulate` on two cores).
        """

        def both() -> tuple[Rules, Any]:
            return self.rules(), import_module(module)

        return await asyncio.to_thread(both)


@dataclass(kw_only=True)
class Common:
    """Flags that all commands have, and what they lead to."""

    setup: Setup
    kubeconfig: str
    context: str
    namespace: str
    output: str
    everything: bool
    reached: Access | None = field(default=None)

    def ask(self, work: Callable[[Reading, str], Awaitable[Document]]) -> Document:
        """Runs a piece of work with the API server and the namespace that is meant.

        Raises:
            DragomanError: There is no answer.
        """
        access: Access = import_module("controller.cli.access").find_access(
            kubeconfig=self.kubeconfig, context=self.context, environ=self.setup.environ
        )
        self.reached = access
        namespace = self.namespace or access.config.namespace
        client_module = import_module("driver.kube.client")
        reading_module = import_module("controller.cli.reading")

        async def all_of_it() -> Document:
            transport = self.setup.connect(access)
            try:
                return await work(reading_module.Reading(client_module.KubeClient(transport)), namespace)
            finally:
                await transport.close()

        return asyncio.run(all_of_it())

    def show(self, document: Document, text: Callable[[Document, Screen], None]) -> None:
        """Prints a document as the person wants it."""
        if self.output == "json":
            click.echo(json.dumps(document, indent=2))
        elif self.output == "yaml":
            yaml = import_module("yaml")
            click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100), nl=False)
        else:
            screen = import_module("controller.cli.screen").Screen(sys.stdout, environ=self.setup.environ)
            text(document, screen)


def _common(command: Callable[..., int]) -> Callable[..., int]:
    """Adds the flags that all commands have."""
    options = (
        click.option("--kubeconfig", metavar="FILE", default="", help="The kubeconfig, as for kubectl."),
        click.option("--context", metavar="NAME", default="", help="A context of the kubeconfig."),
        click.option("-n", "--namespace", metavar="NAME", default="", help="Default: that of the context."),
        click.option(
            "-o",
            "--output",
            type=click.Choice(["text", "json", "yaml"]),
            default="text",
            show_default=True,
            help="json and yaml hold everything that was found.",
        ),
        click.option(
            "--all", "everything", is_flag=True, help="Every node and card, however many there are."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return click.pass_obj(command)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 and 1 are answers (1: something does not fit), 2 means that there is none.",
)
def program() -> None:
    """Shares of accelerators: who allocates, what is free, and why a pod waits.

    Nothing is ever written to the cluster.
    """


@program.command(short_help="Who allocates, nodes and agents, what is free.")
@_common
def status(setup: Setup, **flags: Any) -> int:
    """Show who allocates (mode native or controller), nodes with their agents, and what is free.

    Reads AcceleratorNodes, AcceleratorPolicies, ResourceSlices, ResourceClaims and the pods of agents and
    controllers, in the whole cluster. What may not be read is named.
    """
    common = Common(setup=setup, **flags)
    found: int = import_module("controller.cli.status_command").run(common)
    return found


@program.command(short_help="Why a pod or a claim waits, or what it holds.")
@click.argument("what", metavar="pod/NAME|claim/NAME")
@_common
def explain(setup: Setup, what: str, **flags: Any) -> int:
    """Say why a pod or a claim waits: the first reason of each card, who holds it, what would help.

    For one that is allocated: what it holds, on which card, and the limits in force.

    With rights in one namespace only, the controller's last answer is shown, and the rights that are missing.

    \b
    Examples:
      kubectl dragoman explain pod/train
      kubectl dragoman explain claim/train-gpu-x7k2p -n team-a -o yaml
    """  # noqa: D301 - for click, \b is a character
    common = Common(setup=setup, **flags)
    found: int = import_module("controller.cli.explain_command").run(common, what)
    return found


@program.command(short_help="What the pods and claims of a YAML would get now.")
@click.option(
    "-f", "--filename", metavar="FILE", required=True, help="A YAML of objects; - is standard input."
)
@_common
def simulate(setup: Setup, filename: str, **flags: Any) -> int:
    """Say what the pods and claims of a YAML would get now, without creating anything.

    Pods are decided by priority and then in the file's order, each on what those before it leave. Claims and
    templates that the file names but does not hold are read from the cluster.

    Exit status: 0 all of it fits, 1 something does not, 2 there is no answer.

    \b
    Example:
      kubectl dragoman simulate -f job.yaml -n team-a
    """  # noqa: D301 - for click, \b is a character
    common = Common(setup=setup, **flags)
    found: int = import_module("controller.cli.simulate_command").run(common, filename)
    return found


def run(
    arguments: Sequence[str],
    *,
    rules: Callable[[], Rules],
    connect: Connect = _connect,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Runs the command line.

    Args:
        arguments: What comes after the program's name.
        rules: Loads what the controller's other parts know.
        connect: Makes a transport.
        environ: The environment; that of the process if None.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character is no reason to show nothing.
            stream.reconfigure(errors="replace")
    setup = Setup(rules=rules, connect=connect, environ=os.environ if environ is None else environ)
    try:
        found = program.main(
            args=list(arguments), prog_name="kubectl dragoman", standalone_mode=False, obj=setup
        )
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as wrong:
        wrong.show()
        return NO_ANSWER
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Whoever reads has seen enough; click and rich both end the process then, with a status of an answer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except OSError as failed:
        click.echo(f"kubectl dragoman: The answer cannot be written: {failed.strerror}.", err=True)
        return NO_ANSWER
    except DragomanError as failed:
        words = import_module("controller.cli.failures").sentence(failed)
        click.echo(f"kubectl dragoman: {words}", err=True)
        return NO_ANSWER
    except Exception:  # noqa: BLE001 - a mistake of ours must not look like an answer
        traceback.print_exc()
        return NO_ANSWER
    return found if isinstance(found, int) else ANSWERED
