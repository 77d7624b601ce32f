"""Fixtures every test shares, and the option that turns the long campaigns on."""

import logging
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

# how long a test takes says how busy the machine is, not whether the code is right
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch between a campaign's small tier and its big one."""
    parser.addoption("--big", action="store_true", help="run every campaign in its big tier (hours)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give campaigns in their big tier the hours they take; all else keeps its limit."""
    if config.getoption("--big"):
        for item in items:
            if "big" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.timeout(24 * 3600), append=False)


@pytest.fixture
def big(request: pytest.FixtureRequest) -> bool:
    """Whether this run wants the big tier of a campaign."""
    return bool(request.config.getoption("--big"))


@pytest.fixture
def quiet_logging() -> Iterator[None]:
    """Give the package's logger back as it was: a command sends its lines to standard error."""
    logger = logging.getLogger("demand_maint")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Raise where a coroutine under test calls something that blocks its loop."""
    if request.node.get_closest_marker("asyncio") is None:
        yield None
        return
    with blockbuster_ctx("demand_maint") as guard:
        yield guard
