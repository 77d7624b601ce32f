"""From what a subcommand found to what is printed and to an exit code."""

import argparse
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import msgspec

from demand_maint.config import Config, load_config
from demand_maint.errors import ConfigError, DemandMaintError
from demand_maint.exit_codes import BUSY, DONE, FAILED, INTERRUPTED, REFUSED, USAGE, exit_code, sentence
from demand_maint.standard_output import ready_output, speaks_unicode

__all__ = ["Answer", "configuration", "run", "when"]


class Answer(NamedTuple):
    """What a subcommand says: `data` for ``--json``, `text` for people."""

    data: Any
    text: str
    code: int = DONE


def run(perform: Callable[[argparse.Namespace], Answer], arguments: argparse.Namespace) -> int:
    """Perform, print, and return the exit code; every error becomes a sentence."""
    ready_output()
    _log_to(sys.stderr, logging.INFO if arguments.verbose else logging.WARNING)
    try:
        answer = perform(arguments)
    except BrokenPipeError:  # of an export to standard output
        _silence()
        return DONE
    except KeyboardInterrupt:
        answer = Answer({"error": "Interrupted.", "kind": "KeyboardInterrupt"}, "Interrupted.", INTERRUPTED)
    except (DemandMaintError, OSError) as error:
        code, said = exit_code(error), sentence(error)
        answer = Answer(
            {"error": said, "kind": type(error).__name__}, f"{'Refused' if code == REFUSED else 'Failed'}: {said}", code
        )
    return _printed(answer, as_json=arguments.json)


def configuration(arguments: argparse.Namespace, overrides: dict[str, Any] | None = None) -> Config:
    """Read the configuration of the root, the environment over it.

    Raises
    ------
    ConfigError
        There is no such folder, or a setting is wrong.
    """
    root = Path(arguments.root)
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder. Give the project's folder with --root.")
    return load_config(root, overrides, environment=True)


def when(text: str | None, config: Config, option: str) -> float | None:
    """Epoch seconds of a time that was typed; naive ones are in the configured zone."""
    if text is None:
        return None
    from demand_maint._storage.stamps import stamp_reader

    try:
        return stamp_reader(config.zone)(float(text) if text.replace(".", "", 1).isdigit() and len(text) > 8 else text)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{option} is {text!r}, which is no time. Write 2013-01-31 or 2013-01-31T08:30.") from None


def plain(value: Any) -> Any:
    """Return `value` as JSON can say it; what is no number becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(part) for part in value]
    if isinstance(value, msgspec.Struct):
        return plain(msgspec.to_builtins(value, enc_hook=str))
    tolist = getattr(value, "tolist", None)  # numpy scalars and arrays
    return plain(tolist()) if callable(tolist) else str(value)


def _printed(answer: Answer, *, as_json: bool) -> int:
    """Print, and return the exit code: 1 where there is nobody to print to, whatever was done."""
    try:
        _print(answer, as_json=as_json)
    except BrokenPipeError:  # `| head` has seen enough
        _silence()
    except OSError as error:
        _silence()
        sys.stderr.write(f"Failed: what was found cannot be printed: {sentence(error)}\n")
        return FAILED
    return answer.code


def _silence() -> None:
    """Keep the interpreter from trying, and complaining, again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(plain(answer.data), ensure_ascii=not speaks_unicode()) + "\n")
    elif answer.text:
        failed = answer.code in {FAILED, USAGE, REFUSED, BUSY, INTERRUPTED}
        (sys.stderr if failed else sys.stdout).write(answer.text.rstrip("\n") + "\n")
    sys.stdout.flush()


class _OurLines(logging.StreamHandler[TextIO]):
    """The handler of a command, to be told from those of a host."""


def _log_to(stream: TextIO, level: int) -> None:
    """Send the package's log lines to `stream`; this process is ours."""
    handler = _OurLines(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("demand_maint")
    for old in [old for old in logger.handlers if isinstance(old, _OurLines)]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
