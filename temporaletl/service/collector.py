"""Python's garbage collector in processes that make rows by the million."""

import gc

#: Objects that are made, and are not gone again, before the collector looks through the young ones.
_OBJECTS_BETWEEN = 50_000


def spare_collections() -> None:
    """Have the garbage collector look seldom, and never again at what there is now.

    Rows are in no reference cycles: each look at the records and rows of a page, and at all that
    was imported, finds nothing, and took a tenth of a worker's time. Called once a process has
    imported what it needs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN, *gc.get_threshold()[1:])
