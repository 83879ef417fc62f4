"""Checks of numbers in option sections."""

from __future__ import annotations

from core.errors import UserError


def within(options: object, low: float, high: float, *names: str) -> None:
    """Check numbers, or tuples of numbers, of a section; None passes.

    Raises:
        UserError: the first of the options that is NaN, infinite, below ``low`` or above ``high``.
    """
    for name in names:
        value = getattr(options, name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(low <= number <= high for number in numbers):  # NaN compares as false
            said = " ".join(map(str, numbers))
            raise UserError(f"--{name} is {said} and must lie between {low} and {high}")
