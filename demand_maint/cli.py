"""The command line: ``demand-maint <subcommand>``.

This file knows the words and nothing else: what a subcommand does is imported once it was asked for, so that ``--help`` costs
an argument parser and no more.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 action needed (with ``--exit-code``), 4 refused by the gate,
5 another process maintains this root.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from demand_maint.argument_types import count
from demand_maint.exit_codes import EPILOG

__all__ = ["COMMANDS", "Subcommand", "build_parser", "main"]

Parser = argparse.ArgumentParser


class Subcommand(NamedTuple):
    """A word, what it does, the function that does it (``module:function`` below ``demand_maint._cli``), and its arguments."""

    name: str
    does: str
    target: str
    add_arguments: Callable[[Parser], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as end:  # argparse ends the process; a caller wants the code
        return int(end.code or 0)
    module, _, function = arguments.target.partition(":")
    runner = import_module("demand_maint._cli.answers")
    perform: Callable[[argparse.Namespace], Any] = getattr(import_module(f"demand_maint._cli.{module}"), function)
    return int(runner.run(perform, arguments))


def build_parser() -> Parser:
    """Build the parser of every subcommand."""
    parser = Parser(
        prog="demand-maint",
        description="Keeps a demand-forecasting CatBoost model healthy: watches it, retrains it, deploys what earned its place.",
        epilog=EPILOG,
    )
    _common(parser, default=True)
    chosen = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name, does, target, add_arguments in COMMANDS:
        sub = chosen.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", epilog=EPILOG)
        _common(sub, default=False)
        add_arguments(sub)
        sub.set_defaults(target=target)
    return parser


def _common(parser: Parser, *, default: bool) -> None:
    """Accept the shared options before and after the subcommand; the one after wins."""

    def otherwise(value: object) -> Any:
        return value if default else argparse.SUPPRESS

    root = os.environ.get("DEMAND_MAINT_ROOT", ".")
    parser.add_argument(
        "--root",
        default=otherwise(root),
        metavar="DIR",
        help="folder of the project (default: $DEMAND_MAINT_ROOT, or here)",
    )
    parser.add_argument("--json", action="store_true", default=otherwise(value=False), help="print one JSON value")
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=otherwise(value=False), help="more log lines on standard error"
    )
    if default:
        parser.add_argument("--version", action="version", version=_version())


def _version() -> str:
    from demand_maint import __version__

    return f"demand-maint {__version__}"


def _nothing(_parser: Parser) -> None:
    """Take no arguments of its own."""


def _init(parser: Parser) -> None:
    parser.add_argument(
        "--history",
        metavar="FILE",
        help="CSV or Parquet of place_id, timestamp, actual to train the first model on; without it an existing rf_model.joblib with its metadata is adopted",
    )
    _history_columns(parser)
    parser.add_argument(
        "--combine",
        choices=["last", "sum", "mean"],
        default="last",
        help="what several rows of a place in one slot become (default: last)",
    )
    for name, example in (("zone", "Europe/London"), ("step", "1h"), ("horizon", "1d"), ("season", "7d")):
        parser.add_argument(
            f"--{name}", metavar=name.upper(), help=f"written into a new demand_maint.toml, as {example}"
        )
    parser.add_argument("--missing-actual", choices=["unknown", "zero"], help="written into a new demand_maint.toml")
    parser.add_argument("--why", default="", help="for the history")


def _history_columns(parser: Parser) -> None:
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="name of a column in the file, as actual=count; repeatable",
    )
    parser.add_argument(
        "--feature",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column of the file to use as a feature, instead of the built ones; repeatable",
    )


def _exit_code(parser: Parser) -> None:
    parser.add_argument("--exit-code", action="store_true", help="exit with 3 where maintenance would act now")


def _why(parser: Parser) -> None:
    parser.add_argument("--why", default="", help="for the history")


def _deploy(parser: Parser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="PATH", help="a .cbm or .joblib file (default: the newest in data/models/finetuned)"
    )
    parser.add_argument("--metadata", metavar="PATH", help="its metadata (default: <model>_metadata.json beside it)")
    parser.add_argument("--force", action="store_true", help="do not compare with the champion")
    _why(parser)


def _history(parser: Parser) -> None:
    parser.add_argument("--at", metavar="TIME", help="which version was live then")
    parser.add_argument("--last", type=count, metavar="N", help="only the newest N changes")


def _collect(parser: Parser) -> None:
    parser.add_argument(
        "--auto-maintain", action="store_true", help="check the model's health now and then, and update it"
    )
    parser.add_argument("--force-maintenance", action="store_true", help="check now, act on what is found, and end")
    parser.add_argument("--maintenance-interval", metavar="HOURS", help="hours between checks (6)")
    parser.add_argument("--no-monitoring", action="store_true", help="log nothing")
    parser.add_argument(
        "--venue", action="append", default=[], metavar="ID", help="a venue; repeatable (default: all of the source)"
    )
    parser.add_argument("--every", metavar="SECONDS", help="time between collections (default: the step)")
    parser.add_argument("--rounds", metavar="N", help="end after N collections")


def _export(parser: Parser) -> None:
    parser.add_argument("--format", choices=["csv", "parquet"], default="csv", help="default: csv")
    parser.add_argument("--since", metavar="TIME", help="first slot (default: all that is kept)")
    parser.add_argument("--until", metavar="TIME", help="up to, not including")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="where to (default: logs/predictions_export.<format> in the root; - for standard output, csv only)",
    )


def _explain(parser: Parser) -> None:
    parser.add_argument(
        "--at", metavar="TIME", help="the decision in force then (default: the newest); with --place the slot"
    )
    parser.add_argument(
        "--place", metavar="ID", help="explain the value served at this place for the slot --at instead"
    )


def _report(parser: Parser) -> None:
    parser.add_argument("--out", metavar="FILE", help="where to (default: logs/report.html in the root)")


def _replay(parser: Parser) -> None:
    parser.add_argument("history", metavar="HISTORY", help="CSV or Parquet of place_id, timestamp, actual")
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a named policy or a TOML file of one; repeatable (default: default, frozen, full-28d, naive)",
    )
    parser.add_argument(
        "--train-until", metavar="DATE", help="first replayed day; what comes before trains the first champion"
    )
    parser.add_argument("--until", metavar="DATE", help="where to stop")
    parser.add_argument("--horizon", metavar="DURATION", help="over the configuration's, as 1d")
    parser.add_argument("--label-delay", metavar="DURATION", help="until the truth of a slot is known, as 2h")
    parser.add_argument("--step", metavar="DURATION", help="over the configuration's, as 1h")
    parser.add_argument("--out", metavar="DIR", help="keep the report page, the results and every root here")
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="policies at the same time (default: 1)")
    parser.add_argument("--no-training", action="store_true", help="only what the rules would ask for; fits nothing")
    _history_columns(parser)


def _demo(parser: Parser) -> None:
    parser.add_argument(
        "--literal", action="store_true", help="also live by the document's rules to the letter; takes minutes"
    )


COMMANDS: tuple[Subcommand, ...] = (
    Subcommand("init", "train the first champion on a history, or adopt the model that is there", "beginning:init", _init),
    Subcommand("status", "tell what serves, how it does, and what the next check would do", "looking:status", _exit_code),
    Subcommand("check", "assess and decide without acting; show the evidence", "looking:check", _exit_code),
    Subcommand("update", "check, and fine-tune or retrain as needed", "maintaining:update", _nothing),
    Subcommand("fine-tune", "fine-tune now; the result still has to earn its place", "maintaining:fine_tune", _nothing),
    Subcommand("full-retrain", "retrain now; the result still has to earn its place", "maintaining:full_retrain", _nothing),
    Subcommand("deploy", "validate a model file and make it champion", "maintaining:deploy", _deploy),
    Subcommand("rollback", "go back to the champion before", "maintaining:rollback", _why),
    Subcommand("history", "list every change with who, why and verdict", "looking:history", _history),
    Subcommand("explain", "tell in plain words why a decision was taken, or how a served value came about", "explaining:explain", _explain),
    Subcommand("collect", "collect demand from the configured source, log it, keep the model healthy", "running:collect", _collect),
    Subcommand("replay", "show what maintenance would have done to a history", "running:replay", _replay),
    Subcommand("report", "write the page that shows how the model did and what was done", "looking:report", _report),
    Subcommand("config", "list every setting, its value and where that came from", "looking:config", _nothing),
    Subcommand("export", "write the records to a file, and renew exports that are out of date", "looking:export", _export),
    Subcommand("verify", "check every model, commit and log segment against its checksum", "looking:verify", _nothing),
    Subcommand("demo", "live through a year of real bike demand in virtual time", "running:demo", _demo),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
