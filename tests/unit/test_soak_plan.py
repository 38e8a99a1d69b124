"""Rounds of a soak are drawn from its seed."""

from tests.soak.plan import KINDS, Round, draw_round

FAULTS = {"jira": ["429", "hang"], "trino": ["502"]}


def rounds(seed: int, *, count: int = 40) -> list[Round]:
    return [draw_round(seed, number, FAULTS, steps=5) for number in range(1, count + 1)]


def test_a_seed_draws_the_same_rounds_again_and_another_seed_others() -> None:
    assert rounds(7) == rounds(7)
    assert rounds(7) != rounds(8)


def test_everything_is_drawn_in_time_and_nothing_suffers_twice_at_once() -> None:
    steps = [step for each in rounds(7) for step in each.steps]
    drawn = {(each.kind, each.target) for step in steps for each in step.disturbances}
    assert drawn == {
        (kind, target)
        for kind, targets in KINDS.items()
        for named in targets
        for target in (FAULTS if named == "source" else [named])
    }
    assert {source for step in steps for source in step.faults} == set(FAULTS)
    for step in steps:
        targets = [each.target for each in step.disturbances]
        assert len(targets) == len(set(targets)) > 0
