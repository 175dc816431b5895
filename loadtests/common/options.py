"""Command-line options that several tools have, and what their values may be."""

import argparse


def add_patience(parser: argparse.ArgumentParser) -> None:
    """Add ``--patience``, by which a tool multiplies its time limits."""
    parser.add_argument(
        "--patience",
        type=positive,
        default=1.0,
        metavar="FACTOR",
        help="multiply all time limits by this, on a slow machine [%(default)s]",
    )


def positive(text: str) -> float:
    """A number above 0 that is not infinite.

    Raises:
        argparse.ArgumentTypeError: for any other number.
    """
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, not {number:g}")
    return number


def count(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: for any other number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number
