"""Numbers on a command line, refused with a word where they make no sense."""

import argparse
import math

__all__ = ["count", "positive"]


def count(text: str) -> int:
    """Whole number of one or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def positive(text: str) -> float:
    """Finite number above zero."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number
