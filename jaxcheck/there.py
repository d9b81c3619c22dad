"""What is known to be there, said to the reader and to the type checker at once."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def there(value: T | None) -> T:
    """The value, which is not None here.

    Raises:
        RuntimeError: it is, which is a mistake of jaxcheck's own.
    """
    if value is None:
        raise RuntimeError("jaxcheck took something for granted that is not there; please report this")
    return value
