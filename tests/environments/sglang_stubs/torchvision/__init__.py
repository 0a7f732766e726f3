"""Stands in for torchvision, which SGLang and transformers import for pictures that our tests never send."""

from typing import Any, NoReturn

__version__ = "0.0.0"


def __getattr__(name: str) -> Any:
    """Every name can be imported; none can be called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def absent(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(f"torchvision is a stub here; {name} was called")

    return absent
