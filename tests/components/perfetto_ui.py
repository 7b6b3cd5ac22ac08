"""The real Perfetto UI in a headless Chromium: open a trace, ask its trace processor, take a screenshot.

Everything is served from this machine. tests/components/install.sh brings it here.
"""

from __future__ import annotations

import http.server
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

_WIDTH, _HEIGHT = 1500, 700
_PATIENCE = 60_000  # milliseconds

_LOADED = """() => {
    const trace = window.app && window.app.trace;
    return (trace && trace.engine) || document.querySelector('.pf-modal-dialog, .modal-dialog, .modal-container');
}"""
_MODAL = """() => {
    const modal = document.querySelector('.pf-modal-dialog, .modal-dialog, .modal-container');
    return modal ? modal.innerText : null;
}"""
_QUERY = """async sql => {
    const result = await window.app.trace.engine.query(sql), columns = result.columns(), rows = [];
    const plain = value => typeof value === 'bigint' ? Number(value) : value;
    for (const row = result.iter({}); row.valid(); row.next())
        rows.push(Object.fromEntries(columns.map(name => [name, plain(row.get(name))])));
    return rows;
}"""
_SHOW_SLOTS = """() => {
    const tracks = window.app.trace.workspace.flatTracks;
    tracks.forEach(track => track.hasChildren && track.expand());
    return tracks.filter(track => track.hasChildren).length > 0;
}"""


class Look(NamedTuple):
    """What Perfetto made of a trace: rows of its tables, and what it complained about."""

    complaint: str | None
    errors: list[dict[str, Any]]
    slices: list[dict[str, Any]]
    threads: list[dict[str, Any]]
    processes: list[dict[str, Any]]


def home() -> Path:
    """Where install.sh put what it brought."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("COMPONENTS_DIR") or f"{cache}/taskfarmer-components")


def missing() -> str | None:
    """Why there is no Perfetto UI here."""
    if not shutil.which("chromium") or not all((home() / name).is_dir() for name in ("playwright", "perfetto-ui")):
        return "the Perfetto UI is not here: tests/components/install.sh perfetto"
    return None


def look_at(trace: Path, screenshot: Path) -> Look:
    """Open a trace in the Perfetto UI."""
    sys.path.append(str(home() / "playwright"))
    from playwright.sync_api import sync_playwright

    server = _serve(trace)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    nowhere = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", nowhere]
            )
            page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
            page.goto(f"{address}/#!/?url={address}/trace.json")
            page.wait_for_function(_LOADED, timeout=_PATIENCE)
            complaint = page.evaluate(_MODAL)
            if complaint is None:
                page.wait_for_function(_SHOW_SLOTS, timeout=_PATIENCE)
                page.wait_for_timeout(2000)  # for the picture only: the tracks are drawn as their queries come back
            page.screenshot(path=screenshot)
            look = _ask(page, complaint)
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    return look


def _ask(page: Any, complaint: str | None) -> Look:
    if complaint is not None:
        return Look(complaint, [], [], [], [])
    return Look(
        page.evaluate(_MODAL),
        page.evaluate(_QUERY, "select name, value from stats where severity in ('error', 'data_loss') and value > 0"),
        page.evaluate(
            _QUERY,
            "select s.name name, s.category category, s.ts ts, s.dur dur, s.depth depth, t.name thread, p.name process"
            " from slice s join thread_track k on s.track_id = k.id join thread t using (utid)"
            " join process p using (upid) order by s.ts",
        ),
        page.evaluate(_QUERY, "select tid, name, upid from thread where name is not null"),
        page.evaluate(_QUERY, "select pid, name, upid from process where name is not null"),
    )


def _serve(trace: Path) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {
            **http.server.SimpleHTTPRequestHandler.extensions_map,
            ".wasm": "application/wasm",
            ".js": "text/javascript",
        }

        def translate_path(self, path: str) -> str:
            return str(trace) if path == "/trace.json" else super().translate_path(path)

        def log_message(self, *words: object) -> None:
            pass

    def handler(*args: Any) -> Handler:
        return Handler(*args, directory=str(home() / "perfetto-ui"))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
