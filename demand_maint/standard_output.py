"""Standard output of a command: closed, or of an encoding that knows few letters, it takes what is said all the same."""

import io
import sys

__all__ = ["ready_output", "speaks_unicode"]


def ready_output() -> None:
    """Let every text be written: what the encoding lacks is written as an escape, and a closed output swallows all."""
    if not sys.stdout:  # `>&-`: nobody wants to know
        sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def speaks_unicode() -> bool:
    """Whether JSON may hold letters as they are; such escapes as `ready_output` asks for are none of JSON's."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")
