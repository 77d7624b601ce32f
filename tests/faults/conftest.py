"""Fixtures of the fault campaigns."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_lab import memory_folder


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Give a folder in memory where there is one; thousands of small trees are made in it."""
    folder = Path(tempfile.mkdtemp(prefix="demand-maint-", dir=memory_folder()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
