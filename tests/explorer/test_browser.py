"""The page in a real browser; requires Chromium."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import pytest

import selfsight
from selfsight.explorer.server import opening
from selfsight.explorer.server.opening import RunningServer, serve
from selfsight.explorer.server.static_site import export_static_site
from selfsight.explorer.server.store import ExplorerStore

from explorer_store import Client, make_shelf

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
VIEWS = (
    "/map", "/map?pictures=1", "/grid", "/image/5", "/units", "/units/output/1", "/runs", "/health", "/clusters", "/clusters/1",
    "/clusters/1?of=cluster_4", "/compare", "/quiz", "/quiz?kind=class", "/edits", "/search/x", "/nothing",
    "/image/99", "/clusters?of=nothing", "/clusters/99", "/units/output/99", "/compare?left=nothing",
)  # fmt: skip
LONG = 200_000
"""Milliseconds that work may take beside other tests."""
SLOW = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    for step in range(1000):
        print(json.dumps({"words": f"step {step} of 1000"}), flush=True)
        time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Without a network, with a slow worker."""
    make_shelf(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setattr(opening, "WORKER", (str(tmp_path / "slow.py"),))
    opened = serve(tmp_path / "pack", port=0)
    yield opened
    opened.close()


def page_of(browser, opened, problems: list[str], path: str = "/map"):
    page = browser.new_context(viewport={"width": 1200, "height": 800}).new_page()
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}") or dialog.dismiss())
    page.goto(f"{opened.address}&next={path}")
    return page


def test_lasso_neighbours_names_and_addresses(browser, shelf):
    problems: list[str] = []
    page = page_of(browser, shelf, problems)
    page.wait_for_selector(".legend i")
    assert "token" not in page.url
    box = page.locator("canvas.move").bounding_box()
    middle, side = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), min(box["width"], box["height"]) / 2
    page.get_by_role("button", name="lasso").click()
    page.mouse.move(middle[0] + 0.1 * side, middle[1] - 0.95 * side)
    page.mouse.down()
    for x, y in ((0.9, -0.95), (0.9, 0.95), (0.1, 0.95), (0.1, 0)):  # the right half: all that is blue
        page.mouse.move(middle[0] + x * side, middle[1] + y * side, steps=6)
    page.mouse.up()
    page.wait_for_selector("text=20 images")
    address = page.url
    assert "lasso=" in address
    fresh = page.context.new_page()
    fresh.goto(address)  # the address restores the view in a fresh tab
    fresh.wait_for_selector("text=20 images")
    fresh.close()
    page.locator(".cell a").first.click()
    page.wait_for_selector(".thumbs img")
    assert "/image/1" in page.url
    page.locator(".thumbs a").first.click()
    page.wait_for_url("**/image/*")
    before = page.locator(".thumbs figcaption").first.inner_text()
    page.get_by_label("layer").select_option("inner")
    page.wait_for_url("**layer=inner**")
    page.wait_for_selector(f".thumbs figcaption:not(:text-is('{before}'))")
    page.keyboard.press("3")
    page.wait_for_selector("text=2 clusters")
    page.get_by_label("name of cluster 0").fill("<b>reds</b>")
    page.get_by_role("button", name="name").first.click()
    page.wait_for_selector("h2 >> text=<b>reds</b>")
    page.get_by_role("button", name="undo").click()
    page.wait_for_selector("h2 >> text=cluster 0")
    assert problems == []


def test_hostile_names_are_escaped(browser, shelf):
    problems: list[str] = []
    page = page_of(browser, shelf, problems, "/image/2")
    page.wait_for_selector("h1 >> text=<img src=x onerror=alert(1)>.png")
    assert page.locator("h1 img").count() == 0
    assert problems == []


def test_jobs_show_progress_and_are_cancelled(browser, shelf):
    problems: list[str] = []
    page = page_of(browser, shelf, problems, "/image/5")
    page.get_by_role("button", name="attributions").click()
    page.wait_for_selector("progress")
    page.wait_for_selector("text=/step \\d+ of 1000|waiting/")
    page.get_by_role("button", name="cancel").click()
    page.wait_for_selector("text=cancelled")
    assert problems == []


def test_views_are_usable_and_accessible_without_external_requests(browser, shelf):
    """No scrolling sideways and no violation of axe-core's rules (contrast, names, order of headings, landmarks, …).

    The dark theme differs in colours only, which is why only their contrast is measured in it.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    problems: list[str] = []
    asked: list[str] = []
    with browser.new_context(viewport={"width": 1200, "height": 800}, bypass_csp=True) as context:
        page = context.new_page()
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(shelf.address)
        for path in VIEWS:
            page.emulate_media(color_scheme="light")
            page.goto("/".join(page.url.split("/")[:3]) + path)
            page.wait_for_selector("main *")
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
            for scheme, rules, least in (("light", {}, 11), ("dark", {"runOnly": ["color-contrast"]}, 1)):
                page.emulate_media(color_scheme=scheme)
                report = axe.run(page, options=rules | {"resultTypes": ["violations"]})
                assert len(report.response["passes"]) >= least, (path, scheme)
                assert report.violations_count == 0, f"{path}, {scheme}: {report.generate_report()}"
        page.emulate_media(color_scheme="light")
        page.get_by_role("button", name="dark colours").click()
        page.wait_for_selector("html[data-shade=dark]")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    host = shelf.address.split("/")[2]
    assert all(one.split("/")[2] == host for one in asked if one.startswith("http"))
    assert problems == []


def test_a_notebook_shows_the_page_inline(browser, tmp_path):
    """A page on another port of this machine can embed it if allowed, under both host names; otherwise it is refused."""
    make_shelf(tmp_path)
    allowed, refused = (serve(tmp_path / "pack", port=0, work=False, frames=frames) for frames in (True, False))
    assert "iframe" not in refused._repr_html_()
    shown = RunningServer(refused.enter, refused.close, refused.wait, frames=True)
    files = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=files.serve_forever, daemon=True).start()
    try:
        for host in ("localhost", "127.0.0.1"):
            page = browser.new_context().new_page()
            (tmp_path / "note.html").write_text(f"<!doctype html><p>a notebook</p>{allowed._repr_html_()}{shown._repr_html_()}")
            page.goto(f"http://{host}:{files.server_port}/note.html")
            first, second = page.frame_locator("iframe").first, page.frame_locator("iframe").nth(1)
            first.locator(".legend i").first.wait_for()
            first.get_by_role("link", name="clusters").click()
            first.locator("text=2 clusters").wait_for()
            assert second.locator(".brand").count() == 0
    finally:
        files.shutdown()
        files.server_close()
        allowed.close()
        refused.close()


def test_an_exported_folder_opens_from_a_file(browser, tmp_path):
    """The same views without a server: map, lasso, conditions, neighbours, clusters, units, an address in a new tab."""
    shelf = make_shelf(tmp_path)
    shelf.edits.set("cluster_name", [1], "<i>blues</i>")
    index = export_static_site(shelf, tmp_path / "page").as_uri()
    problems: list[str] = []
    page = browser.new_context(viewport={"width": 1200, "height": 800}).new_page()
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else problems.append(request.url))
    page.goto(index)
    page.wait_for_selector(".legend i")
    page.get_by_role("link", name="clusters").click()
    page.wait_for_selector("h2 >> text=<i>blues</i>")
    page.get_by_label("number of clusters").select_option("cluster_4")
    page.wait_for_selector("text=4 clusters")
    assert page.get_by_role("button", name="undo").count() == 0
    fresh = page.context.new_page()
    fresh.goto(index + "#/grid?" + 'where=[{"column":"label","sign":"=","value":"red"}]&sort=brightness&down=1')
    fresh.wait_for_selector("text=20 images")
    fresh.wait_for_selector(".cell a[href='#/image/38']")
    fresh.goto(index + "#/grid?lasso=0.000,-2;2,-2;2,2;0,2&map=turned")
    fresh.reload()
    fresh.wait_for_selector("text=20 images")
    fresh.locator(".cell a").first.click()
    fresh.wait_for_selector(".thumbs img")
    assert "#/image/20" in fresh.url
    wanted = [f"{one['alike']:.3f}" for one in shelf.neighbours(20, "", "", 18)]
    assert fresh.locator(".thumbs figcaption").all_inner_texts()[:18] == wanted
    assert fresh.evaluate("document.querySelector('.thumbs img').naturalWidth") == 32
    for path in ("/units", "/units/output/1", "/runs", "/health", "/compare", "/quiz", "/clusters/1"):
        fresh.goto(f"{index}#{path}")
        fresh.reload()
        fresh.wait_for_selector("main *")
        assert fresh.locator("[role=alert]").count() == 0, path
    assert problems == []


ASKED = [
    {"sort": "label", "descending": True},
    {"sort": "label"},
    {"sort": "tag"},
    {"sort": "tag", "descending": True},
    {"sort": "duplicates", "descending": True},
    {"sort": "brightness", "descending": True, "conditions": [{"column": "label", "sign": "!=", "value": "red"}]},
    {"conditions": [{"column": "duplicates", "sign": "!=", "value": 0}]},
    {"conditions": [{"column": "duplicates", "sign": "<=", "value": 0}]},
    {"conditions": [{"column": "name", "sign": "has", "value": "ÜNÏ"}, {"column": "brightness", "sign": "<", "value": 0.5}]},
    {"conditions": [{"column": "cluster", "sign": "=", "value": 1}], "descending": True},
    {"conditions": [{"column": "cluster_4_name", "sign": "=", "value": "threes"}]},
    {"lasso": [[-0.2, -0.9], [0.8, -0.7], [0.9, 0.9], [0.3, 0.1]]},
    {"lasso": [[-0.2, -0.9], [0.8, -0.7], [0.9, 0.9], [0.3, 0.1]], "map": "turned"},
]


def test_an_exported_folder_selects_as_the_server_does(browser, tmp_path):
    """Filters, order and lasso of the exported page give the same rows in the same order as the server."""
    shelf = make_shelf(tmp_path)
    shelf.edits.set("tag", [7, 3, 20], "b")
    shelf.edits.set("tag", [5], "a")
    shelf.edits.set("cluster_name", [1_000_003], "threes")
    shelf.edits.set("cluster_merge", [0], "1")
    index = export_static_site(shelf, tmp_path / "page").as_uri()
    opened = serve(tmp_path / "pack", port=0, work=False)
    page = browser.new_context(viewport={"width": 1200, "height": 2400}).new_page()
    try:
        client = Client(opened)
        for asked in ASKED:
            wanted = client.json("POST", "/api/select", asked)["rows"]
            query = {"where": json.dumps(asked["conditions"])} if "conditions" in asked else {}
            query |= {"lasso": ";".join(",".join(map(str, corner)) for corner in asked["lasso"])} if "lasso" in asked else {}
            query |= {name: asked[name] for name in ("sort", "map") if name in asked} | ({"down": "1"} if asked.get("descending") else {})
            page.goto(f"{index}#/grid?{urlencode(query)}")
            page.reload()
            page.wait_for_selector(f"text={len(wanted)} images")
            links = page.locator(".cell a").evaluate_all("list => list.map(one => one.getAttribute('href'))")
            assert [int(link.split("/")[-1]) for link in links] == wanted, asked
            assert wanted, asked
    finally:
        opened.close()


def test_search_by_uploaded_image(browser, tmp_path):
    """With the real worker and an untrained network."""
    run = tmp_path / "none"
    selfsight.learn("world:shapes?count=24&size=32&split=test", out=run, backbone="resnet_tiny?width=8", size=32, batch=8, epochs=0)
    opened = selfsight.load(run).explore(port=0)
    try:
        problems: list[str] = []
        page = page_of(browser, opened, problems)
        page.wait_for_selector(".legend")
        (tmp_path / "mine.jpg").write_bytes(ExplorerStore.of(next((run / "explorer").glob("*/pack.json")).parent).pack.thumb(5))
        page.get_by_label("search for images similar to your own").set_input_files(tmp_path / "mine.jpg")
        page.wait_for_selector(".thumbs a", timeout=LONG)
        assert page.locator(".thumbs a").first.get_attribute("href").endswith("/image/5")
        (tmp_path / "bad.jpg").write_text("<svg onload=alert(1)>")
        page.get_by_label("search for images similar to your own").set_input_files(tmp_path / "bad.jpg")
        page.wait_for_selector("text=The upload is not a JPEG, PNG or WebP image")
        page.goto(page.url.split("/search")[0] + "/units/output/3")
        page.wait_for_selector(".places img", timeout=LONG)  # heat maps and crops come by themselves
        page.get_by_role("button", name="dissection").click()
        page.wait_for_selector("text=Dissection: closest to", timeout=LONG)
        page.goto(page.url.split("/units")[0] + "/image/5")
        page.get_by_role("button", name="objects").click()
        page.wait_for_selector("img.sheet", timeout=LONG)
        shelf = ExplorerStore.of(next((run / "explorer").glob("*/pack.json")).parent)
        for network in ("untrained", "none"):  # what did training change?
            page.get_by_label("network").select_option(network)
            wanted = [f"/image/{one['row']}?network={network}" for one in shelf.neighbours(5, network, "", 18)]
            page.wait_for_function(
                "wanted => [...document.querySelectorAll('.thumbs a')].slice(0, 18).map(one => one.getAttribute('href')).join() === wanted",
                arg=",".join(wanted),
            )
        assert problems == []
    finally:
        opened.close()
