"""AWS Lambda freezes a process when the answer of an invocation is posted, for as long as it likes, or for ever.
So what was captured is delivered before.

awslambdaric (1.0 to 4.2) posts answers and errors by a method each of its runtime client, whose class is loaded long
before the function and with it the SDK.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ...core import guard, patching

MODULE = "awslambdaric.lambda_runtime_client"
METHODS = ("post_invocation_result", "post_invocation_error")


def patch(flush: Callable[[], object]) -> None:
    """Have the runtime client call `flush` before it posts. Idempotent, never raises."""
    guard.attempt("deliver before answers of Lambda", _patch, flush)


def _patch(flush: Callable[[], object]) -> None:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def post(*args: Any, **kwargs: Any) -> Any:
            guard.attempt("deliver before an answer of Lambda", flush)
            return original(*args, **kwargs)

        return post

    module = sys.modules.get(MODULE)
    for cls in ("BaseLambdaRuntimeClient", "LambdaRuntimeClient"):
        for name in METHODS:
            patching.replace(getattr(module, cls, None), name, make)
