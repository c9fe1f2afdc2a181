"""What a probe in another thread learns."""

from controller.health import Health


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_before_the_first_report_the_controller_is_starting() -> None:
    assert Health(clock=Clock()).not_ready() == ("The controller is starting.",)
    assert Health(clock=Clock()).problems() == (), "a restart would not make it start sooner"


def test_a_report_without_problems_is_health() -> None:
    health = Health(clock=Clock())
    health.report([])
    assert (health.problems(), health.not_ready()) == ((), ())


def test_what_keeps_it_from_being_ready_is_no_reason_for_a_restart() -> None:
    health = Health(clock=Clock())
    health.report([], not_ready=["The list of nodes is not complete yet."])
    assert health.problems() == ()
    assert health.not_ready() == ("The list of nodes is not complete yet.",)


def test_problems_are_told_as_they_were_reported() -> None:
    health = Health(clock=Clock())
    health.report(["The queue is stuck."], not_ready=["The queue is stuck."])
    assert health.problems() == health.not_ready() == ("The queue is stuck.",)


def test_a_loop_that_hangs_is_found_out_by_the_age_of_its_last_report() -> None:
    clock = Clock()
    health = Health(clock=clock)
    health.report([])
    clock.now = 31
    assert health.problems() == ("The event loop has not reported for 31 s.",)
