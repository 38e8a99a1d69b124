"""The pages by which a part of a list is read in pieces."""

import pytest

from temporaletl.worker.sources.servicetitan.extract.narrowing import _halves, _pages


@pytest.mark.parametrize(
    ("first", "behind"), [(0, 1), (0, 20), (20, 40), (6, 7), (7, 997), (0, 5_000), (5_000, 10_000)]
)
def test_pages_hold_just_the_positions_and_can_be_asked_for_by_number(
    first: int, behind: int
) -> None:
    pages = _pages(first, behind)
    assert [n for start, size in pages for n in range(start, start + size)] == list(
        range(first, behind)
    )
    assert all(start % size == 0 for start, size in pages)
    assert len(pages) <= 2 * 13
    assert max(size for _, size in pages) <= 5_000


def test_a_page_is_halved_until_one_record_is_left() -> None:
    assert _halves(8, 8) == [(12, 4), (8, 4)]
    assert _halves(5, 1) == []
