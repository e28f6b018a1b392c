"""What an SDK sends and receives, a package for each provider: its patch points, its endpoints, and the pure readers of
its requests and responses.

`docs/adding-a-provider.md` walks through one; `tests/support/provider_contract.py` checks it.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from ..core import package

if TYPE_CHECKING:
    from .provider import Provider


def load_providers() -> tuple[Provider, ...]:
    """Every package in this one, by name. Each defines `PROVIDER`."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return tuple(package.load(f"providers.{name}").PROVIDER for name in names)
