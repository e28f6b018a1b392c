"""AWS Lambda freezes a process when the answer of an invocation is posted, for as long as it likes, or for ever.
So what was captured is delivered before.

awslambdaric (1.0 to 4.2) posts answers and errors by a method each of its runtime client, whose class is loaded long
before the function and with it the SDK.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...core import guard, package
from ...core.patching import replace_all
from ...settings.config import Config

CLASSES = ("BaseLambdaRuntimeClient", "LambdaRuntimeClient")
METHODS = ("post_invocation_result", "post_invocation_error")


def instrument(module: ModuleType, settings: Config) -> bool:
    """`awslambdaric.lambda_runtime_client`."""
    return sum(replace_all(vars(module).get(cls), dict.fromkeys(METHODS, _post)) for cls in CLASSES) > 0


def _post(original: Any) -> Any:
    def post(*args: Any, **kwargs: Any) -> Any:
        api = package.loaded("api")
        if api is not None:
            guard.attempt("deliver before an answer of Lambda", api.deliver_now)
        return original(*args, **kwargs)

    return post
