"""demand_maint.toml, the environment and arguments."""

from pathlib import Path

import pytest

from demand_maint.config import Config, PolicyConfig, duration_seconds, effective_values, load_config
from demand_maint.errors import ConfigError


def test_no_file_means_defaults(tmp_path: Path) -> None:
    """A root without a file has the defaults."""
    assert load_config(tmp_path) == Config()


def test_the_file_is_read(tmp_path: Path) -> None:
    """What the file says holds, the rest stays at its default."""
    (tmp_path / "demand_maint.toml").write_text('step = "30m"\n[policy]\nwindow_days = 14\n')
    config = load_config(tmp_path)
    assert (config.step_seconds, config.policy.window_days, config.zone) == (1800, 14, "UTC")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[policy]\nwindow_days = 'seven'\n", "policy.window_days"),
        ("[policy]\nwindow_days = 0\n", "policy.window_days"),
        ("[training]\nvalidation = 1.5\n", "training.validation"),
        ("step = '1 fortnight'\n", "step"),
        ("zone = 'Mars/Olympus'\n", "zone"),
        ("[policy]\nwindow_dayz = 7\n", "window_dayz"),
    ],
)
def test_a_wrong_value_names_its_key(tmp_path: Path, text: str, path: str) -> None:
    """The message of a wrong setting holds the path of its key."""
    (tmp_path / "demand_maint.toml").write_text(text)
    with pytest.raises(ConfigError, match=path):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[policy]\nwindow_dayz = 7\n", "unknown field `window_dayz`, at `policy`. Did you mean 'window_days'?"),
        ("pizza = 1\n", "unknown field `pizza`. Known are zone, step, horizon,"),
        ("[policy]\nmethod = 'x'\n", "at `policy.method`. Write one of 'difficulty_adjusted', 'raw'."),
        ("step = '2x'\n", "as in '30m', '1h' or '7d', at `step`. The default is '1h'."),
        ("policy = 3\n", "at `policy`. Write a table."),
        ("holidays = [1]\n", "at `holidays[0]`. Mend that entry."),
        ("[training]\nfull_days = 'x'\n", "at `training.full_days`. Leave it out for the default."),
    ],
)
def test_a_wrong_value_is_told_what_it_may_be(tmp_path: Path, text: str, remedy: str) -> None:
    """The message ends with the nearest key, the known words or the default: a command that lists them would fail too."""
    (tmp_path / "demand_maint.toml").write_text(text)
    with pytest.raises(ConfigError) as told:
        load_config(tmp_path)
    assert remedy in str(told.value)


def test_broken_toml_is_a_config_error(tmp_path: Path) -> None:
    """A file that is no TOML is refused with its name."""
    (tmp_path / "demand_maint.toml").write_text("step = ")
    with pytest.raises(ConfigError, match=r"demand_maint\.toml"):
        load_config(tmp_path)


def test_arguments_win_over_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument beats the environment, which beats the file, and the origin of each value is told."""
    (tmp_path / "demand_maint.toml").write_text('zone = "Europe/London"\nstep = "30m"\n[policy]\nwindow_days = 3\n')
    monkeypatch.setenv("DEMAND_MAINT_POLICY__WINDOW_DAYS", "4")
    monkeypatch.setenv("DEMAND_MAINT_STEP", "15m")
    values = effective_values(tmp_path, {"policy": {"window_days": 5}}, environment=True)
    assert values["policy.window_days"] == (5, "argument")
    assert values["step"] == ("15m", "environment")
    assert values["zone"] == ("Europe/London", "demand_maint.toml")
    assert values["horizon"] == ("1d", "default")


def test_the_environment_is_not_read_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library call ignores DEMAND_MAINT_ variables."""
    monkeypatch.setenv("DEMAND_MAINT_STEP", "15m")
    assert load_config(tmp_path).step == "1h"


def test_durations() -> None:
    """Durations are a whole number and a unit; anything else is refused."""
    assert [duration_seconds(text) for text in ("45s", "30m", "6h", "7d", "2w")] == [45, 1800, 21600, 604800, 1209600]
    for text in ("", "7", "d", "1.5h", "-1d", "0d", "1y"):
        with pytest.raises(ConfigError):
            duration_seconds(text)


def test_literal_is_the_users_document() -> None:
    """The literal policy keeps the document's figures and adds nothing of ours."""
    policy = PolicyConfig.literal()
    assert (policy.suggest_degradation, policy.critical_degradation) == (0.15, 0.25)
    assert (policy.full_retrain_interval_days, policy.fine_tune_interval_days, policy.max_fine_tunes) == (90, 7, 5)
    assert (policy.method, policy.sequential_test, policy.cooldown_hours, policy.max_trainings_per_week) == (
        "raw",
        False,
        0,
        None,
    )


def test_a_wrong_variable_is_not_blamed_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown setting in the environment is told as one of the variables."""
    monkeypatch.setenv("DEMAND_MAINT_WINDOW", "7")
    with pytest.raises(ConfigError, match=r"DEMAND_MAINT_ variables.*window"):
        load_config(tmp_path, environment=True)
