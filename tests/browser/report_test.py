#!/usr/bin/env python3
"""Opens report.html in Chromium: does it render, sort, filter and enlarge, without a request?

report_test.py SAMPLE_REPORT   (the program that writes a report; see sample_report.cpp)

Returns 77 if there is no Chromium. With EFFICIENTAD_SCREENSHOTS=FOLDER it leaves pictures of the page
there, on a phone and on a desktop, light and dark, to be looked at.
"""

import http.server
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MOST_BYTES = 25_000_000

# Runs in the page after its own script, uses its controls and tells the page around it (which is
# itself, where there is none) what it saw.
DRIVER = """
<script>
const troubles = [];
addEventListener('error', event => troubles.push(event.message));
addEventListener('securitypolicyviolation', event => troubles.push(event.violatedDirective));
const pause = () => new Promise(done => setTimeout(done, 50));
const paths = place => [...document.querySelectorAll(place + ' .card .path')].map(p => p.textContent);
const scores = () => [...document.querySelectorAll('#cards .score')].map(s => parseFloat(s.textContent));
const badges = () => [...document.querySelectorAll('#cards .badge')].map(b => b.textContent);
const kinds = () => [...document.querySelectorAll('#cards .kind')].map(k => k.textContent);
async function choose(values) {
  for (const [name, value] of Object.entries(values)) {
    const field = document.getElementById('controls').elements.namedItem(name);
    if (field.type === 'checkbox') field.checked = value; else field.value = value;
    field.dispatchEvent(new Event('input', {bubbles: true}));
  }
  await pause();
  return {count: document.getElementById('count').textContent, scores: scores(), kinds: kinds(),
          badges: badges(), paths: paths('#cards'), hash: location.hash};
}
const rows = () => [...document.querySelectorAll('#defects tbody th')].map(th => th.textContent);
async function drive() {
  const seen = {};
  const all = {sort: 'wrong', kind: '', decision: '', text: ''};
  seen.first = await choose(all);
  const images = [...document.querySelectorAll('#cards img')].slice(0, 20);
  await Promise.all(images.map(image => image.decode()));
  seen.decoded = images.every(image => image.naturalWidth > 0 && image.alt !== '');
  seen.width = [document.documentElement.scrollWidth, innerWidth];
  seen.charts = [...document.querySelectorAll('svg.chart')].map(svg => svg.getBoundingClientRect().height);
  seen.decision = document.getElementById('decision-label').offsetHeight;
  seen.outlines = document.querySelectorAll('#cards .mask-line[d^="M"]').length;
  seen.high = await choose({...all, sort: 'high'});
  seen.low = await choose({...all, sort: 'low'});
  seen.name = await choose({...all, sort: 'name'});
  seen.kind = await choose({...all, kind: 'stain'});
  seen.missed = await choose({...all, decision: 'missed'});
  seen.alarms = await choose({...all, decision: 'false'});
  seen.right = await choose({...all, decision: 'right'});
  seen.text = await choose({...all, text: 'IMAGE_1'});
  seen.nothing = await choose({...all, text: 'no such path'});
  const line = () => getComputedStyle(document.querySelector('#cards .mask-line')).display;
  await choose({...all, mask: false});
  seen.hidden = line();
  await choose({...all, mask: true});
  seen.visible = line();
  location.hash = '#kind=crack&sort=low';
  await pause();
  seen.address = await choose({});
  await choose(all);
  for (let i = 0; i < 400 && !document.getElementById('more').hidden; ++i) {
    document.querySelector('#more button').click();
  }
  seen.cards = document.querySelectorAll('#cards .card').length;
  document.querySelector('#cards .pictures').click();
  await pause();
  const viewer = document.getElementById('viewer');
  const shown = () => viewer.querySelector('.viewer-bar .path').textContent;
  seen.viewer = [viewer.open, shown()];
  viewer.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));
  seen.viewer.push(shown());
  viewer.querySelector('[data-close]').click();
  seen.viewer.push(viewer.open);
  const heads = document.querySelectorAll('#defects thead button');
  seen.rows = [rows()];
  for (const column of [0, 3, 3]) {
    heads[column].click();
    seen.rows.push(rows());
  }
  seen.unlabelled = [...document.querySelectorAll('select, input')].filter(f => !f.labels.length).length;
  seen.requests = performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 60))
      .filter(name => !name.startsWith('data:'));
  seen.rude = document.getElementById('rude') !== null;
  return seen;
}
addEventListener('load', () => drive()
    .catch(error => ({failed: String(error.stack)}))
    .then(seen => parent.postMessage(JSON.stringify({...seen, troubles}), '*')));
</script>
"""

LISTENER = """
<script>
addEventListener('message', event => fetch('/seen', {method: 'POST', body: event.data}));
</script>
"""


def command_of(browser, profile, *options):
    command = [browser, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
               f"--user-data-dir={profile}", *options]
    if os.geteuid() == 0:
        command.append("--no-sandbox")
    return command


def served(folder, answers):
    """A server of the folder's files, on this machine only; what is posted goes to `answers`."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_POST(self):
            answers.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *unused):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def drive(browser, report, width):
    """What the driver saw in the report, in a window of this width."""
    text = report.read_text(errors="replace")
    report.with_name("driven.html").write_text(text.replace("</body>", DRIVER + "</body>"))
    # A frame has any width; a window of Chromium is at least 500 px wide.
    report.with_name("around.html").write_text(
        f"<!DOCTYPE html><body>{LISTENER}<iframe src='driven.html' width='{width}' height='900' "
        "style='border:0'></iframe></body>")
    answers = queue.Queue()
    with served(report.parent, answers) as server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        url = f"http://127.0.0.1:{server.server_port}/around.html"
        running = subprocess.Popen(command_of(browser, profile, "--window-size=1600,1000", url),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        try:
            seen = json.loads(answers.get(timeout=240))
        finally:
            # Its own group: the browser is started by a script, and starts more.
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            server.shutdown()
    assert "failed" not in seen, seen["failed"]
    return seen


def data_of(report):
    text = report.read_text(errors="replace")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))


def check(browser, report, width):
    data = data_of(report)
    images = data["images"]
    count = len(images)
    seen = drive(browser, report, width)
    assert seen["troubles"] == [], seen["troubles"]
    assert seen["requests"] == [], seen["requests"]
    assert not seen["rude"], "a name became a part of the page"
    assert seen["decoded"], "a picture is not shown, or has no text instead"
    assert seen["width"][0] <= seen["width"][1], f"the page is wider than its window: {seen['width']}"
    assert len(seen["charts"]) == 4 and min(seen["charts"]) > 150, seen["charts"]
    assert seen["unlabelled"] == 0
    assert seen["outlines"] > 0 and seen["hidden"] == "none" and seen["visible"] != "none"

    def total(view):
        return int(view["count"].split()[0])

    def same(view, expected, order=None):
        chosen = sorted(expected, key=order) if order else expected
        assert total(view) == len(chosen), (view["count"], len(chosen))
        assert len(view["paths"]) >= min(len(chosen), 48), len(view["paths"])
        assert view["paths"] == [image["path"] for image in chosen[:len(view["paths"])]]

    def wrong(image, kind):
        good = image["kind"] == "good"
        return kind == good and (image.get("called") == "good") != good

    same(seen["first"], images)
    for name, sign in (("high", -1), ("low", 1)):
        values = seen[name]["scores"]
        assert values == sorted(values, key=lambda v: sign * v) and len(values) >= min(count, 48)
    assert seen["name"]["paths"] == sorted(seen["name"]["paths"])
    same(seen["kind"], [image for image in images if image["kind"] == "stain"])
    assert set(seen["kind"]["kinds"]) == {"stain"}
    same(seen["text"], [image for image in images if "image_1" in image["path"]])
    assert total(seen["nothing"]) == 0 and seen["nothing"]["paths"] == []
    assert set(seen["address"]["kinds"]) == {"crack"} and "sort=low" in seen["address"]["hash"]
    assert seen["address"]["scores"] == sorted(seen["address"]["scores"])
    assert (seen["decision"] > 0) == data["decides"], "a choice of decisions where there are none"
    if data["decides"]:
        same(seen["missed"], [image for image in images if wrong(image, False)])
        same(seen["alarms"], [image for image in images if wrong(image, True)])
        assert set(seen["missed"]["badges"]) == {"missed"}
        assert set(seen["alarms"]["badges"]) == {"false alarm"}
        assert total(seen["right"]) == count - total(seen["missed"]) - total(seen["alarms"])
    else:
        assert set(seen["first"]["badges"]) == {""}
    assert seen["cards"] == count, (seen["cards"], count)
    opened, first, second, still_open = seen["viewer"]
    assert opened and not still_open, seen["viewer"]
    assert first == f"1 / {count} · {images[0]['path']}", first
    assert second == f"2 / {count} · {images[1]['path']}", second
    given, by_kind, down, up = seen["rows"]
    assert sorted(given) == sorted(by_kind) and given[0] == "good"
    assert down == up[::-1] and sorted(down) == sorted(given)


def screenshots(browser, report, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for scheme, option in (("light", "preferredColorScheme=1"), ("dark", "preferredColorScheme=0")):
        for device, width, height in (("phone", 390, 844), ("desktop", 1400, 900)):
            for place in ("", "gallery"):
                around = report.with_name("shown.html")
                around.write_text(f"<body style='margin:0'><iframe src='{report.name}#{place}' "
                                  f"width='{width}' height='{height}' style='border:0'></iframe>")
                file = folder / f"{device}_{scheme}{'_' + place if place else ''}.png"
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                    subprocess.run(
                        command_of(browser, profile, "--virtual-time-budget=5000",
                                   f"--screenshot={file}", f"--window-size={width},{height}",
                                   f"--blink-settings={option}", around.as_uri()),
                        check=True, timeout=120, stderr=subprocess.DEVNULL)


def main():
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("skipped: there is no Chromium here")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        for count, kind, widths in ((60, "model", (390, 1400)), (60, "maps", (1400,)),
                                    (2000, "model", (390,))):
            folder = Path(temporary) / f"{kind}_{count}"
            folder.mkdir()
            subprocess.run([sys.argv[1], folder, str(count), kind], check=True)
            report = folder / "report.html"
            size = report.stat().st_size
            assert size < MOST_BYTES, f"{size} bytes for {count} images"
            for width in widths:
                check(browser, report, width)
                print(f"{count} images ({kind}), {width} px wide: right", flush=True)
            if (count, kind) == (60, "model") and "EFFICIENTAD_SCREENSHOTS" in os.environ:
                screenshots(browser, report, Path(os.environ["EFFICIENTAD_SCREENSHOTS"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
