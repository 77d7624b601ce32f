"""Subcommands that run for a while: collect, replay, demo."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demand_maint._cli.answers import Answer, configuration
from demand_maint.config import duration_seconds
from demand_maint.errors import ConfigError
from demand_maint.exit_codes import FAILED

__all__ = ["collect", "columns", "demo", "replay"]


def collect(arguments: argparse.Namespace) -> Answer:
    """Hand over to the collector, whose own command line this is."""
    from demand_maint.data_collector import main

    configuration(arguments)
    argv = ["--root", arguments.root]
    argv += [
        f"--{name}"
        for name in ("json", "auto-maintain", "force-maintenance", "no-monitoring")
        if _given(arguments, name)
    ]
    for name in ("maintenance-interval", "every", "rounds"):
        if _given(arguments, name):
            argv += [f"--{name}", _given(arguments, name)]
    for venue in arguments.venue:
        argv += ["--venue", venue]
    arguments.json = False  # it has printed what there is to print
    return Answer(None, "", main(argv))


def replay(arguments: argparse.Namespace) -> Answer:
    """Live through a history once for each policy."""
    from demand_maint.replay import replay as live_through
    from demand_maint.replay_words import ProgressLine, event_line

    config = configuration(arguments)
    line = ProgressLine(sys.stderr)
    named: dict[str, Any] = {"policies": arguments.policy} if arguments.policy else {}
    try:
        with _side_by_side():
            report = live_through(
                arguments.history,
                **named,
                train_until=arguments.train_until,
                until=arguments.until,
                horizon=arguments.horizon,
                step=arguments.step,
                label_delay=duration_seconds(arguments.label_delay) if arguments.label_delay else 0.0,
                config=config,
                root=arguments.root,
                out=arguments.out,
                jobs=arguments.jobs,
                training=not arguments.no_training,
                columns=columns(arguments) or None,
                tell=lambda event: line.line(event_line(event, config.zone)),
                progress=line,
            )
    finally:
        line.close()
    text = report.table()
    if report.report is not None:
        text += f"\n\nReport: {report.report}"
    text += "".join(f"\n\nNote: {line}" for line in report.history["advice"])
    if not report.complete:
        text += "\n\nInterrupted; this is what was done so far."
    return Answer(report.as_dict(), text, 0 if report.complete else FAILED)


def demo(arguments: argparse.Namespace) -> Answer:
    """Live through a year of bike demand."""
    from demand_maint.demo import run_demo

    root = None if arguments.root == "." else arguments.root
    with _side_by_side():
        report = run_demo(root, literal=arguments.literal, out=sys.stderr if arguments.json else sys.stdout)
    return Answer(report.as_dict(), "", 0 if report.complete else FAILED)


@contextmanager
def _side_by_side() -> Iterator[None]:
    """Let policies that are lived side by side pass the interpreter on ten times sooner; this process is nobody's host.

    A thread that comes out of CatBoost or numpy waits that long for one that is busy in Python: a fifth of the demo's time.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 10)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def columns(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the mapping of columns that was asked for; feature columns keep their names."""
    mapping = {}
    for text in arguments.column:
        ours, found, theirs = text.partition("=")
        if not found or not ours or not theirs:
            raise ConfigError(f"--column is {text!r}. Write our name and theirs, as in --column actual=count.")
        mapping[ours] = theirs
    return mapping | {name: name for name in arguments.feature}


def _given(arguments: argparse.Namespace, name: str) -> Any:
    return getattr(arguments, name.replace("-", "_"))
