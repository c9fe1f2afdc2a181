"""What a probe in another thread learns."""

from controller.health import Health


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_before_the_first_report_the_controller_is_starting() -> None:
    assert Health(clock=Clock()).problems() == ("The controller is starting.",)


def test_a_report_without_problems_is_health() -> None:
    health = Health(clock=Clock())
    health.report([])
    assert health.problems() == ()


def test_problems_are_told_as_they_were_reported() -> None:
    health = Health(clock=Clock())
    health.report(["The list of nodes is not complete yet."])
    assert health.problems() == ("The list of nodes is not complete yet.",)


def test_a_loop_that_hangs_is_found_out_by_the_age_of_its_last_report() -> None:
    clock = Clock()
    health = Health(clock=clock)
    health.report([])
    clock.now = 31
    assert health.problems() == ("The event loop has not reported for 31 s.",)
