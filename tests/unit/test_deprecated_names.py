"""Deprecated names of the author's API still work, and name what replaces them."""

import importlib

import pytest

import temporaletl
from temporaletl.deletions import DeletionScan, Items


@pytest.mark.parametrize(
    ("old", "new", "module"),
    [("Whole", "CompleteSet", "rows"), ("take_permit", "acquire", "budget")],
)
def test_a_deprecated_name_gives_the_object_of_the_new_one(old: str, new: str, module: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{old} is now temporaletl\.{new}"):
        found = getattr(temporaletl, old)
    assert found is getattr(importlib.import_module(f"temporaletl.{module}"), new)
    assert old not in temporaletl.__all__


def test_deprecated_fields_of_a_deletion_scan_set_the_new_ones() -> None:
    def is_deleted(_id: str) -> bool:
        return True

    with pytest.warns(DeprecationWarning, match="is_gone is now is_deleted"):
        scan = DeletionScan("orders", Items("order:"), lambda _: iter(()), is_gone=is_deleted)
    assert scan.is_deleted is is_deleted
    with pytest.warns(DeprecationWarning, match="most_asked is now max_checks"):
        scan = DeletionScan("orders", Items("order:"), lambda _: iter(()), most_asked=5)
    assert scan.max_checks == 5


def test_names_that_nobody_has_used_yet_are_listed() -> None:
    assert {*temporaletl.__all__} <= {*dir(temporaletl)}
