"""What the terminal shows: lines on standard error, a progress bar on long runs."""

from collections.abc import Iterable
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def track(items: Iterable[T], what: str) -> Iterable[T]:
    """The items, with a progress bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    return rich_track(items, what, console=console, transient=True, disable=not console.is_terminal)


def status(what: str) -> Any:
    """A spinner on standard error for the duration of a ``with`` block; nothing where that is no terminal."""
    return Console(stderr=True).status(what)


def warn(message: str) -> None:
    """One line on standard error."""
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"Warning: {message}")
