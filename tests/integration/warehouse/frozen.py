"""Loads a page of a job and stops, like a worker that is frozen, in the middle of its transaction.

    python -m tests.integration.warehouse.frozen (between|copying)   < {"url": ..., "schema": ...}

It stops itself (SIGSTOP); continued, it exits with 3 if the warehouse tells it that its session
was ended.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import patch

from temporaletl import Event
from temporaletl.errors import WarehouseUnavailableError
from temporaletl.messages import ETLInput
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import Lineage, Loader, PageLoad
from temporaletl.worker.loading.copying import copy_rows
from tests.integration.loading.jobs import NOON, make_event

ENDED = 3


def _after_a_stop[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    def stopping(*args: P.args, **kwargs: P.kwargs) -> R:
        os.kill(os.getpid(), signal.SIGSTOP)
        return function(*args, **kwargs)

    return stopping


def _stopping_copy(connection: Any, statement: Any, head: bytes, blocks: Iterable[Any]) -> None:
    block = _after_a_stop(lambda each: each)
    copy_rows(connection, statement, head, (block(each) for each in blocks))


def main(moment: str) -> int:
    given = json.load(sys.stdin)
    job = ETLInput.model_validate(given["job"])
    settings = WarehouseSettings.model_validate(
        {"database_url": given["url"], "schema_name": given["schema"]}
    )
    with Warehouse(settings, max_connections=2) as warehouse:
        loader = Loader(warehouse, [Event], Lineage(job, "wf", "frozen", "1", "1.0"))
        loader.prepare()
        if moment == "between":
            patch.object(loader, "_running_streams", _after_a_stop(loader._running_streams)).start()
        else:
            patch("temporaletl.worker.loading.merge.copy_rows", _stopping_copy).start()
        page = PageLoad(0, [make_event(n) for n in range(10)], [], 10, 0, None, 1, NOON)
        try:
            loader.load(page)
        except WarehouseUnavailableError as error:
            sys.stdout.write(str(error))
            return ENDED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
