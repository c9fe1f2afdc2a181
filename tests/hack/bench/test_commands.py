"""The command line, without measuring anything."""

import pytest

from tooling.bench import __main__ as bench
from tooling.cluster.machine import Missing


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in ("prepare", "start", "pods"))


def test_a_machine_that_cannot_run_a_cluster_is_told_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacks = [Missing(what="this is not root", remedy="Run it as root")]
    monkeypatch.setattr("tooling.bench.__main__.clusters_machine.missing", lambda: lacks)
    assert bench.main(["start"]) == 2
    assert "this is not root. Run it as root" in capsys.readouterr().err


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_every_command_is_where_the_table_says(capsys: pytest.CaptureFixture[str]) -> None:
    for name in bench.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            bench.main([name, "--help"])
        assert ended.value.code == 0
        assert f"hack/bench {name} " in capsys.readouterr().out
