"""An agent that is killed at a point of its work.

Flow: strace is attached to some of the agent's threads and told at which of their calls the kernel kills it;
then somebody has it work. Whether it died is seen by the broken connection, or shortly after its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import grpc

from tests.support.agent_process import AgentProcess
from tests.support.tracing import Calls, kill_at, traced

_DYING_S = 0.2
_KILLED = "+++ killed by SIGKILL"


def killed_while(
    agent: AgentProcess,
    run: Callable[[], None],
    *,
    threads: Collection[int],
    at: tuple[str, int],
    follow: bool = True,
) -> tuple[bool, Calls]:
    """Has an agent work, and die at a system call if it comes to that.

    Args:
        agent: The agent.
        run: Asks it for something; a connection that breaks is how it dies.
        threads: The threads that are watched.
        at: A system call, and the how manieth of each of these threads it is.
        follow: As for `traced`.

    Returns:
        Whether the agent died, and the calls that were seen.
    """
    died = False
    with traced(threads, options=kill_at(*at), follow=follow) as calls:
        try:
            run()
        except grpc.RpcError as broken:
            assert broken.code() is grpc.StatusCode.UNAVAILABLE, broken  # noqa: PT017 - no other way to end
            died = True
        # A thread may still have to do something when the answer is out already.
        died = died or _is_dying(agent)
    # The last call may have come while strace was let go.
    died = died or was_killed(calls, threads) or not agent.alive
    if died:
        assert agent.ended() == -9
    return died, calls


def _is_dying(agent: AgentProcess) -> bool:
    deadline = time.monotonic() + _DYING_S
    while agent.alive and time.monotonic() < deadline:
        time.sleep(0.005)
    return not agent.alive


def was_killed(calls: Calls, threads: Collection[int]) -> bool:
    """Whether strace saw one of these threads be killed."""
    return any(_KILLED in line for thread in threads for line in calls.lines.get(thread, ()))
