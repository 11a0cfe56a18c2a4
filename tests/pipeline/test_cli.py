"""The command line from outside."""

import os
import subprocess
import sys

import pytest

from tfx_captioner.pipeline.cli import main


def captioner(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfx_captioner.pipeline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_the_commands_with_examples() -> None:
    result = captioner("--help")
    assert result.returncode == 0
    for word in ("sample", "ingest", "run", "caption", "examples:"):
        assert word in result.stdout


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from tfx_captioner.pipeline.cli import build_parser\n"
        "build_parser().format_help()\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'numpy', 'pandas'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_user_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "smple"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captioner: `preset` must be one of")
    assert "Traceback" not in error


def test_output_that_nobody_reads_is_no_error() -> None:
    command = [sys.executable, "-m", "tfx_captioner.pipeline.cli", "weights"]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as nobody:
        result = subprocess.run(
            command, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (result.returncode, result.stderr) == (141, "")


def test_an_unknown_command_exits_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2
    assert "usage: captioner" in capsys.readouterr().err
