"""How long vanished slices are waited for."""

from controller.publishing.recreation import Recreation


def vanish(recreation: Recreation, *, now: float) -> float:
    """Slices vanish, are waited for and made again; gives the wait."""
    wait = recreation.wait("n1", now=now)
    assert recreation.wait("n1", now=now + wait) == 0
    recreation.recreated("n1", now=now + wait)
    return wait


def test_the_wait_doubles_up_to_its_cap_while_they_keep_vanishing() -> None:
    recreation, now, waits = Recreation(), 0.0, []
    for _ in range(7):
        waits.append(vanish(recreation, now=now))
        now += waits[-1] + 1
    assert waits == [5, 10, 20, 40, 60, 60, 60]


def test_the_wait_begins_anew_once_they_stayed() -> None:
    recreation = Recreation()
    vanish(recreation, now=0)
    vanish(recreation, now=10)
    assert vanish(recreation, now=200) == 5


def test_asking_again_does_not_prolong_the_wait() -> None:
    recreation = Recreation()
    assert [recreation.wait("n1", now=now) for now in (0, 2, 4, 5, 6)] == [5, 3, 1, 0, 0]


def test_slices_that_somebody_else_put_back_and_that_vanish_again_are_waited_for_anew() -> None:
    recreation = Recreation()
    recreation.wait("n1", now=0)
    recreation.present("n1")
    assert recreation.wait("n1", now=100) == 5


def test_nodes_are_independent_and_forgotten_with_their_history() -> None:
    recreation = Recreation()
    vanish(recreation, now=0)
    assert recreation.wait("n2", now=1) == 5
    recreation.forget("n1")
    assert vanish(recreation, now=10) == 5
