"""What the sections check about themselves."""

from __future__ import annotations

from core.errors import UserError


def at_least(options: object, least: float, *names: str) -> None:
    """Raise UserError for the first of these options that is smaller."""
    for name in names:
        if not getattr(options, name) >= least:
            raise UserError(f"--{name} is {getattr(options, name)} and must be at least {least}")
