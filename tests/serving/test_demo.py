"""The web page, in a headless Chromium driven over the WebDriver protocol."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import saved_models

from tfx_captioner.serving import launcher
from tfx_captioner.serving.launcher import Server, free_endpoint

pytest.importorskip("gradio", reason="needs the extra `demo`")
from tfx_captioner.serving import demo

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name of an element reference
MODELS = ("cnn_lstm", "resnet_gru")
# Whether the page, or a row of pictures in it, is wider than its place.
_CUT_OFF = """return [document.documentElement, ...document.querySelectorAll("[id^=attention] *")]
    .some(e => e.scrollWidth > e.clientWidth
          && (e.parentNode === document || /auto|scroll/.test(getComputedStyle(e).overflowX)))"""
AWAY = f"grpc://127.0.0.1:{free_endpoint().port}"


class Browser:
    """As much of WebDriver as the tests need."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        options = {"args": ["--headless=new", "--no-sandbox", "--window-size=1280,1400"]}
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
        value = self._post("/session", {"capabilities": capabilities})
        self._session = f"/session/{value['sessionId']}"

    def open(self, url: str) -> None:
        self._post(f"{self._session}/url", {"url": url})

    def text(self, css: str) -> str:
        script = "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''"
        return str(self.run(script, css))

    def run(self, script: str, *arguments: Any) -> Any:
        body = {"script": script, "args": list(arguments)}
        return self._post(f"{self._session}/execute/sync", body)

    def upload(self, css: str, path: Path) -> None:
        found = self._post(f"{self._session}/element", {"using": "css selector", "value": css})
        self._post(f"{self._session}/element/{found[ELEMENT]}/value", {"text": str(path)})

    def show_on(self, width: int, height: int) -> None:
        """A screen of another size, in pixels."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": screen}
        self._post(f"{self._session}/goog/cdp/execute", command)

    def screenshot(self, path: Path) -> None:
        png = self._client.get(f"{self._session}/screenshot").json()["value"]
        path.write_bytes(base64.b64decode(png))

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"{what}; the page shows: {self.text('body')}"
            time.sleep(0.2)

    def close(self) -> None:
        self._client.delete(self._session)
        self._client.close()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        response = self._client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()["value"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("needs chromedriver and Chromium (Debian: chromium-driver)")
    port = free_endpoint().port
    with subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _wait_for_http(f"http://127.0.0.1:{port}/status")
        browser = Browser(port)
        yield browser
        browser.close()
        process.terminate()


@pytest.fixture
def page_of(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts `captioner demo` for a server, and gives the page's address."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(server_url: str) -> str:
        port = free_endpoint().port
        command = [sys.executable, "-m", "tfx_captioner.pipeline.cli", "demo"]
        log = (tmp_path / "demo.log").open("wb")
        processes.append(
            subprocess.Popen(
                [*command, f"--server={server_url}", f"--port={port}"],
                stdout=log, stderr=log, env={**launcher.environment(), "TMPDIR": str(tmp_path)},
            )
        )  # fmt: skip
        log.close()
        _wait_for_http(f"http://127.0.0.1:{port}")
        return f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        launcher.stop(process, patience=20)
    assert "Traceback" not in (tmp_path / "demo.log").read_text(encoding="utf-8")


def _wait_for_http(url: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            httpx.get(url, timeout=5)
            return
        except httpx.HTTPError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)


@pytest.mark.slow(reason="starts Chromium and the page")
def test_a_dropped_photograph_is_captioned_by_both_models(
    browser: Browser, server: Server, page_of: Callable[[str], str], tmp_path: Path
) -> None:
    photo = tmp_path / "red.jpg"
    photo.write_bytes(saved_models.image(saved_models.RED, size=240, form="JPEG"))
    browser.open(page_of(server.endpoint.grpc_url))
    browser.wait(lambda: "version 1" in browser.text("#status"), "no version is shown")
    browser.upload("#photo input[type=file]", photo)

    count = "return document.querySelectorAll(arguments[0]).length"
    for model in MODELS:
        caption = f"a {model} scene in red"
        browser.wait(
            lambda css=f"#caption-{model}", text=caption: text in browser.text(css),
            f"{model} gave no caption",
        )
        assert "version 1" in browser.text(f"#caption-{model}")
        browser.wait(
            lambda css=f"#beams-{model}", text=caption: f"{text} again" in browser.text(css),
            f"{model} gave no alternatives",
        )
        browser.wait(
            lambda css=f"#attention-{model} img": browser.run(count, css) == 5,
            f"{model} shows no attention",
        )
    for device, width in (("desk", 1280), ("telephone", 390)):
        browser.show_on(width, 1400)
        browser.wait(lambda: not browser.run(_CUT_OFF), f"something is cut off on a {device}")
        if folder := os.environ.get("SCREENSHOTS"):
            browser.screenshot(Path(folder) / f"demo_{device}.png")


@pytest.mark.slow(reason="starts Chromium and the page")
def test_the_page_says_when_the_server_is_away(
    browser: Browser, page_of: Callable[[str], str]
) -> None:
    browser.open(page_of(AWAY))
    browser.wait(lambda: f"The server at {AWAY} is away" in browser.text("#status"), "no warning")
    if folder := os.environ.get("SCREENSHOTS"):
        browser.screenshot(Path(folder) / "demo_away.png")


def test_what_is_no_photograph_is_told(server: Server, tmp_path: Path) -> None:
    page = demo.Page(server.endpoint.grpc_url, MODELS)
    text = tmp_path / "notes.txt"
    text.write_text("no photograph")
    assert "no photograph that can be read" in page.explain(str(text), "cnn_lstm")[0]
    broken = tmp_path / "broken.png"
    broken.write_bytes(saved_models.image(saved_models.RED)[:40])
    assert page.explain(str(broken), "cnn_lstm")[0].startswith("⚠️")
    assert page.explain(None, "cnn_lstm") == ("", [], [])


def test_other_formats_are_sent_as_png(server: Server, tmp_path: Path) -> None:
    webp = tmp_path / "green.webp"
    webp.write_bytes(saved_models.image(saved_models.GREEN, form="WEBP"))
    page = demo.Page(server.endpoint.rest_url, MODELS)
    caption, beams, panels = page.explain(str(webp), "resnet_gru")
    assert caption.startswith("a resnet_gru scene in green")
    assert [row[0] for row in beams][1] == "a resnet_gru scene in green again"
    assert [word for _, word in panels] == ["a", "resnet_gru", "scene", "in", "green"]


@pytest.mark.slow(reason="starts the page")
def test_uploads_are_bounded_private_and_gone_at_the_end(
    page_of: Callable[[str], str], tmp_path: Path
) -> None:
    url = page_of(AWAY)
    small = saved_models.image(saved_models.RED)
    upload = f"{url}/gradio_api/upload"
    kept = httpx.post(upload, files={"files": ("red.png", small)})
    assert kept.status_code == 200
    path = Path(kept.json()[0])
    assert path.read_bytes() == small
    (private,) = tmp_path.glob("captioner-demo-*")
    assert private in path.parents
    assert private.stat().st_mode & 0o077 == 0

    large = small + bytes(40 << 20)
    assert httpx.post(upload, files={"files": ("red.png", large)}, timeout=60).status_code == 413
    spelled = {"Content-Type": "multipart/form-data; boundary=x"}
    pieces = (b"--x\r\n" + bytes(1 << 20) for _ in range(40))
    with contextlib.suppress(httpx.HTTPError):  # it may be cut before it is answered
        response = httpx.post(upload, content=pieces, headers=spelled, timeout=60)
        assert response.status_code >= 400
    assert sum(file.stat().st_size for file in private.rglob("*")) < 1 << 20

    assert httpx.get(url, headers={"Host": "rebound.example"}).status_code == 400
    assert httpx.get(url).status_code == 200


@pytest.mark.slow(reason="starts the page")
def test_the_folder_of_the_uploads_is_removed(tmp_path: Path) -> None:
    environment = {**launcher.environment(), "TMPDIR": str(tmp_path)}
    port = free_endpoint().port
    argv = [sys.executable, "-m", "tfx_captioner.pipeline.cli", "demo", f"--port={port}"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL) as process:
        _wait_for_http(f"http://127.0.0.1:{port}")
        assert list(tmp_path.glob("captioner-demo-*"))
        process.terminate()
        assert process.wait(60) == 0
    assert list(tmp_path.glob("captioner-demo-*")) == []


def test_a_picture_of_too_many_pixels_is_told(tmp_path: Path) -> None:
    page = demo.Page(AWAY, MODELS)
    huge = tmp_path / "huge.png"
    huge.write_bytes(saved_models.image(saved_models.RED, size=8_000))
    assert "8000 x 8000 pixels are more than" in page.explain(str(huge), "cnn_lstm")[0]
