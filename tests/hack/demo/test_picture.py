from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tooling.demo.picture import WIDTH, CardUse, Holding, draw


def holding(claim: str = "a", memory: int = 1024, cores: int = 0, *, whole: bool = False) -> Holding:
    return Holding(claim=claim, memory_mib=memory, cores_percent=cores, whole=whole)


def use(*holdings: Holding, total: int = 24576, note: str = "") -> CardUse:
    return CardUse(device="nvidia-1", title="NVIDIA A30", memory_mib=total, holdings=holdings, note=note)


def plain(*uses: CardUse) -> list[str]:
    return [line.plain for line in draw(uses, colour=False)]


def bar(lines: list[str], name: str) -> str:
    line = next(line for line in lines if line.strip().startswith(name))
    return line[line.index("[") + 1 : line.index("]")]


def test_a_bar_has_a_letter_for_each_claim_in_proportion() -> None:
    lines = plain(use(holding("a", 12288), holding("b", 6144)))
    assert bar(lines, "memory") == "A" * 20 + "B" * 10 + "·" * 10


def test_an_empty_card_is_all_free() -> None:
    assert bar(plain(use()), "memory") == "·" * WIDTH


def test_a_tiny_share_is_still_seen() -> None:
    assert "A" in bar(plain(use(holding("a", 1))), "memory")


def test_a_share_without_a_cap_takes_nothing_of_the_compute_bar() -> None:
    assert bar(plain(use(holding("a", 1024, 0))), "cores") == "·" * WIDTH


def test_a_whole_card_leaves_nobody_else_compute() -> None:
    lines = plain(use(holding("a", 24576, whole=True)))
    assert bar(lines, "cores") == "A" * WIDTH
    assert any("100 % of 100 % given out" in line for line in lines)


def test_a_claim_keeps_its_letter_on_every_card() -> None:
    lines = plain(use(holding("a")), use(holding("b"), holding("a")))
    assert "    A a: 1Gi and no cap on compute" in lines
    assert lines.count("    A a: 1Gi and no cap on compute") == 2


def test_a_whole_card_is_called_so() -> None:
    assert "    A a: the whole card" in plain(use(holding("a", 24576, whole=True)))


def test_a_card_that_is_not_offered_shows_why_instead_of_bars() -> None:
    lines = plain(use(note="MIG mode is on."))
    assert "  MIG mode is on." in lines
    assert not any("[" in line for line in lines)


def test_colour_marks_claims_by_colour_instead_of_letters() -> None:
    text = draw([use(holding("a", 12288))], colour=True)[1]
    assert "█" * 20 in text.plain


@given(st.lists(st.integers(1, 24576), max_size=60))
def test_a_bar_never_grows_beyond_its_width(amounts: list[int]) -> None:
    lines = plain(use(*(holding(str(index), amount) for index, amount in enumerate(amounts))))
    assert len(bar(lines, "memory")) == WIDTH
