"""Evaluation of expressions: in a sandbox of its own process, bounded in memory and time.

The only module that knows the engine. What it gets has passed `parse_expression`, which defines the
language; the engine is the second wall: it has no files, no network, no host objects.
"""

import json
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from pydantic import JsonValue
from pydantic_monty import (
    Monty,
    MontyConversionError,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
)

from temporaletl.errors import PermanentError
from temporaletl.worker.pipelines.settings import PipelineSettings

_MEGABYTE = 1_000_000
#: The sandbox ends itself first, and says where it was.
_MORE_SECONDS = 5
_TOO_MUCH = ("MemoryError", "TimeoutError", "RecursionError")


class EvaluationError(PermanentError):
    """An expression that failed with the values it met, or took more than it may."""


class Evaluator:
    """Sandboxes for expressions, kept from one evaluation to the next; safe to share by threads.

    Starts the first process with the first evaluation; `close` ends them all.
    """

    def __init__(self, settings: PipelineSettings) -> None:
        self._limits: Any = {
            "max_memory": settings.expression_memory_megabytes * _MEGABYTE,
            "max_feed_duration_secs": settings.expression_seconds,
            "max_total_sleep_secs": 0,
        }
        self._timeout = settings.expression_seconds + _MORE_SECONDS
        self._lock = threading.Lock()
        self._opened = ExitStack()
        self._pool: Monty | None = None

    def evaluate(self, code: str, variables: Mapping[str, JsonValue]) -> JsonValue:
        """The value of checked code, as JSON can hold it: tuples become lists.

        Raises:
            EvaluationError: it failed, took too much, or has a value that is none of JSON.
        """
        try:
            with self._sandboxes().checkout(limits=self._limits) as sandbox:
                value = sandbox.feed_run(code, inputs=dict(variables))
        except MontyCrashedError as error:
            what = "took too long" if error.timed_out else "took more memory than it may"
            msg = f"the expression {what}, and its sandbox was ended"
            raise EvaluationError(msg) from None
        except (MontyConversionError, UnicodeEncodeError) as error:
            msg = f"a value cannot be passed to the expression: {error}"
            raise EvaluationError(msg) from None
        except MontyError as error:
            raise EvaluationError(_told(error)) from None
        return _as_json(value)

    def close(self) -> None:
        """End the sandboxes; safe to repeat."""
        with self._lock:
            self._opened.close()
            self._pool = None

    def _sandboxes(self) -> Monty:
        with self._lock:
            if self._pool is None:
                self._pool = self._opened.enter_context(Monty(request_timeout=self._timeout))
            return self._pool


def _told(error: MontyError) -> str:
    """What failed, and in which part of the expression."""
    frames = error.traceback() if isinstance(error, MontyRuntimeError) else []
    message = str(error)
    if message.startswith(_TOO_MUCH):
        return f"the expression took more than it may: {message}"
    line = frames[-1].source_line if frames else None
    if not line or frames[-1].line != frames[-1].end_line:
        return message
    return f"{message}, in {line[frames[-1].column - 1 : frames[-1].end_column - 1]}"


def _as_json(value: object) -> JsonValue:
    try:
        return json.loads(json.dumps(value, allow_nan=False))  # type: ignore[no-any-return]
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"the value of the expression is none of JSON: {error}"
        raise EvaluationError(msg) from None
