"""The black box. Called, as in `@lanelock.engine(params=..., gates=...)`, it declares a function as an engine.

The name of the decorator is that of this package, so that the package itself is what can be called.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

DECLARED = "__lanelock__"  # attribute of a function: the keywords of its decorator


class _Decorator(ModuleType):
    def __call__(self, **declared: Any) -> Callable[[Any], Any]:
        """Returns a decorator that keeps, on a function that stays as it is, the keywords of `lanelock.sweep`."""

        def declare(function: Any) -> Any:
            setattr(function, DECLARED, declared)
            return function

        return declare


sys.modules[__name__].__class__ = _Decorator
