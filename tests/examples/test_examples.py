"""Every example runs, and prints what it says it prints."""

import doctest
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.catboost
EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "car_parks")


def run(script: str, *arguments: str) -> str:
    """Run an example in a process of its own, warnings being errors; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{script}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the first champion once for all examples."""
    root = tmp_path_factory.mktemp("examples") / "root"
    assert "5 car parks" in run("car_parks", str(root))
    return root


@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_what_its_docstring_says(name: str, planted: Path, tmp_path: Path) -> None:
    """The block under `Prints::` matches the output line by line; three dots stand for anything."""
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert "Run it::" in text or "Run the service::" in text
    block = re.search(r"^Prints::\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    assert block is not None
    root = tmp_path / "root"
    shutil.copytree(planted, root)
    printed = run(name, "--root", str(root))
    wanted = textwrap.dedent(block[1]).strip() + "\n"
    assert doctest.OutputChecker().check_output(wanted, printed, doctest.ELLIPSIS), printed
