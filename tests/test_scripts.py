"""The Makefile and the scripts of the set-up, with another uv in the place of the real one."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION = "0.13.9"


def program(path: Path, text: str) -> Path:
    """Writes an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# The Makefile.


def make_pipeline(tmp_path: Path, *given: str, **environment: str) -> list[str]:
    """Arguments of `captioner` that `make pipeline` runs."""
    out = tmp_path / "arguments"
    uv = program(
        tmp_path / "uv",
        f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(out)!r}, 'w'))\n",
    )
    subprocess.run(
        ["make", "--no-print-directory", "pipeline", f"UV={uv}", *given],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
    )
    arguments = json.loads(out.read_text())
    return arguments[arguments.index("captioner") :]


NAMES = [
    "/data/Mary's photos",
    "/data/two  words",
    "/data/$(HOME)/$HOME/$$/`id`",
    "/data/a\nb",
    '/data/"quoted"; echo no',
    "/data/*",
    "/data/#1 \\ %",
    "$(shell touch made-by-make)",
]


@pytest.mark.parametrize("name", NAMES)
def test_data_is_a_name_whatever_is_in_it(tmp_path: Path, name: str) -> None:
    assert make_pipeline(tmp_path, f"DATA={name}") == ["captioner", "run", "sample", "--data", name]
    assert not (ROOT / "made-by-make").exists()


def test_data_and_preset_from_the_environment(tmp_path: Path) -> None:
    preset = "/my presets/Mary's.yaml"
    arguments = make_pipeline(tmp_path, DATA=NAMES[2], PRESET=preset)
    assert arguments == ["captioner", "run", preset, "--data", NAMES[2]]


def test_settings_are_words(tmp_path: Path) -> None:
    settings = "trainer.epochs=3 data.ingest.source_name=Mary's\nx=$(id);* y='1'"
    arguments = make_pipeline(tmp_path, f"SET={settings}", "PRESET=coco")
    words = ["trainer.epochs=3", "data.ingest.source_name=Mary's", "x=$(id);*", "y='1'"]
    expected = [part for word in words for part in ("--set", word)]
    assert arguments == ["captioner", "run", "coco", *expected]


def test_nothing_given(tmp_path: Path) -> None:
    assert make_pipeline(tmp_path) == ["captioner", "run", "sample"]
    assert make_pipeline(tmp_path, "PRESET=") == ["captioner", "run"]


# scripts/uv.


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the script and the requirements, and a package index with another uv."""
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/uv", root / "scripts/uv")
    (root / ".python-version").write_text("3.10\n")
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / f"uv-{VERSION}-py3-none-any.whl"
    info = f"uv-{VERSION}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        script = zipfile.ZipInfo(f"uv-{VERSION}.data/scripts/uv")
        script.external_attr = (stat.S_IFREG | 0o755) << 16
        archive.writestr(script, f'#!/bin/sh\necho "uv {VERSION} $*"\n')
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: uv\nVersion: {VERSION}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    pin(root, hashlib.sha256(wheel.read_bytes()).hexdigest())
    return root


def pin(checkout: Path, sha256: str) -> None:
    requirements = checkout / "scripts/uv-requirements.txt"
    requirements.write_text(f"# A remark.\nuv=={VERSION} \\\n    --hash=sha256:{sha256}\n")


def run_uv(checkout: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    """Runs the script with a stock Python, no uv and no registry."""
    stock = checkout.parent / "stock"
    if not stock.exists():
        stock.mkdir()
        for tool in ("bash", "dirname", "sed", "cat", "rm", "mkdir", "ln", "sh", "env"):
            (stock / tool).symlink_to(str(shutil.which(tool)))
        program(stock / "python3", f'#!/bin/sh\nexec {sys.base_prefix}/bin/python3 "$@"\n')
    return subprocess.run(
        [checkout / "scripts/uv", "pip", "list"],
        env={
            "PATH": ":".join(map(str, [*path, stock])),
            "HOME": str(checkout.parent / "home"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(checkout.parent / "index"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_uv_is_installed_once_by_hash(checkout: Path) -> None:
    result = run_uv(checkout)
    assert (result.returncode, result.stdout) == (0, f"uv {VERSION} pip list\n"), result.stderr
    assert f"installing uv {VERSION} into .tools/" in result.stderr
    again = run_uv(checkout)
    assert (again.stdout, again.stderr) == (result.stdout, "")


def test_uv_is_installed_where_python_has_no_venv(checkout: Path) -> None:
    run_uv(checkout)
    shutil.rmtree(checkout / ".tools")
    program(
        checkout.parent / "stock/python3",
        f'#!/bin/sh\n[ "$2" = venv ] && exit 1\nexec {sys.base_prefix}/bin/python3 "$@"\n',
    )
    result = run_uv(checkout)
    assert (result.returncode, result.stdout) == (0, f"uv {VERSION} pip list\n"), result.stderr


def test_uv_of_another_hash_is_refused(checkout: Path) -> None:
    pin(checkout, "0" * 64)
    result = run_uv(checkout)
    assert (result.returncode, result.stdout) == (1, "")
    assert "DO NOT MATCH THE HASHES" in result.stderr
    assert f"uv {VERSION} could not be installed" in result.stderr


def test_uv_of_another_version_on_the_path_is_left_alone(checkout: Path) -> None:
    program(checkout.parent / "other/uv", f'#!/bin/sh\necho "uv {VERSION}9 $*"\n')
    result = run_uv(checkout, checkout.parent / "other")
    assert result.stdout == f"uv {VERSION} pip list\n"


def test_uv_of_this_version_on_the_path_is_taken(checkout: Path) -> None:
    program(checkout.parent / "other/uv", f'#!/bin/sh\necho "uv {VERSION} (mine) $*"\n')
    result = run_uv(checkout, checkout.parent / "other")
    assert result.stdout == f"uv {VERSION} (mine) pip list\n"
    assert not (checkout / ".tools").exists()


def test_uv_of_an_earlier_pin_is_replaced(checkout: Path) -> None:
    program(checkout / ".tools/bin/uv", '#!/bin/sh\necho "uv 0.1.0 $*"\n')
    assert run_uv(checkout).stdout == f"uv {VERSION} pip list\n"


def test_what_is_tested_is_the_pin() -> None:
    assert f"\nuv=={VERSION} " in (ROOT / "scripts/uv-requirements.txt").read_text()


# scripts/audit.


class Advisories(http.server.BaseHTTPRequestHandler):
    """As much of the OSV database as uv asks for."""

    status: ClassVar[int] = 200
    vulnerable: ClassVar[str] = ""

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        found = {"vulns": [{"id": "TEST-1", "modified": "2024-01-01T00:00:00Z"}]}
        names = [query["package"]["name"] for query in queries]
        self.answer({"results": [found if name == self.vulnerable else {} for name in names]})

    def do_GET(self) -> None:
        day = "2024-01-01T00:00:00Z"
        self.answer({"id": "TEST-1", "modified": day, "published": day, "summary": "A hole"})

    def answer(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def audit(url: str) -> tuple[int, str]:
    result = subprocess.run(
        [ROOT / "scripts/audit", f"--service-url={url}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


def test_audit_fails_for_a_vulnerability(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = audit(database)
    assert status == 0
    assert "no known vulnerabilities" in said
    monkeypatch.setattr(Advisories, "vulnerable", "pillow")
    status, said = audit(database)
    assert status == 1
    assert "TEST-1: A hole" in said


def test_audit_says_where_it_could_not_be_done(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Advisories, "status", 503)
    for url in (database, "http://127.0.0.1:9"):
        status, said = audit(url)
        assert status == 0
        assert "NOT AUDITED" in said
    status, said = audit("no address")
    assert status > 1
    assert "NOT AUDITED" not in said
