"""The page as a reader meets it: the colours' contrast by computation, the rest in a headless Chromium."""

from __future__ import annotations

import re
import shutil
from html import unescape

import pytest
from handmade import NAN, STEPS, curve, drawn, extreme, failing, inconclusive, leaf, passing, rule, strange

from jaxcheck.records_drawn import Made, Numbers
from jaxcheck.report import html, palette, series, terms
from jaxcheck.result import Reason, Report, Verdict

# (foreground, grounds that it stands on): words, and marks of pictures.
WORDS = (
    ("ink", ("ground", "card", "sunken", "smooth", "fail-tint", "pass-tint", "inconclusive-tint")),
    ("muted", ("ground", "card", "sunken", "fail-tint", "pass-tint", "inconclusive-tint")),
    ("focus", ("ground", "card")),
    *((verdict, ("ground", "card", "sunken", f"{verdict}-tint")) for verdict in ("fail", "pass", "inconclusive")),
)
MARKS = (
    ("edge", ("ground", "card")),
    *((mark, ("card", "smooth")) for mark in ("fail", "pass", "inconclusive", "second", "third")),
)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2, from 1 to 21, of two colours `#rrggbb`."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_the_palette_has_contrast(colours):
    for pairs, least in ((WORDS, 4.5), (MARKS, 3.0)):
        for fore, grounds in pairs:
            for ground in grounds:
                assert contrast(colours[fore], colours[ground]) >= least, (fore, ground)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert set(palette.LIGHT) == set(palette.DARK)


def test_the_v_curve_and_the_remainders_are_the_functions():
    found = series.errors(curve())
    by = {one.name: dict(one.points) for one in found.lines}
    assert list(by) == ["M", "A"] and found.relative
    for h in STEPS[:3]:
        assert by["A"][h] == pytest.approx(h**2 / 6 / 2, rel=1e-3)  # relative to |M| = 2
        assert by["M"][h] == pytest.approx(0.5, rel=1e-2)
    orders = dict(series.remainders(curve()).orders)
    assert orders["M"] == pytest.approx(1, abs=0.02) and orders["A"] == pytest.approx(2, abs=0.02)


def test_the_smooth_interval_is_the_known_one_or_what_looks_smooth():
    assert series.errors(curve(smooth=1e-3)).smooth == (STEPS[-1], 1e-3)
    assert series.errors(curve(smooth=0.0)).smooth is None
    looks = series.errors(curve())
    assert looks.smooth == (STEPS[-1], STEPS[0]) and not looks.known
    kinked = curve(right=Numbers(r + max(0.0, h - 1e-3) for r, h in zip(curve().right, STEPS, strict=True)))
    assert series.errors(kinked).smooth == (STEPS[-1], max(h for h in STEPS if h < 1e-3))


def test_where_autodiff_is_deceived_the_differences_are_gone_by():
    names = [name for name, _ in series.claims(curve(manual=1.0, autodiff=0.5))]
    assert names == ["M", "A", "N"]
    assert [name for name, _ in series.claims(curve(autodiff=NAN))] == ["M", "N"]


@pytest.mark.parametrize("k", range(24))
def test_whatever_the_numbers_are_they_are_drawn_as_numbers(k):
    pictures = re.findall(r"<svg class=.chart.*?</svg>", html.page(extreme(k)), re.DOTALL)
    assert pictures
    for picture in pictures:
        assert not re.search(r'="[^"]*\b(nan|inf)\b', re.sub(r'aria-label="[^"]*"', "", picture)), picture


def test_the_source_is_shown_with_its_line_marked_and_the_edit():
    page = html.page(drawn())
    assert '<span class="row bad"><span class="no">47</span>dv = p.T @ dc  # 47 &lt;b&gt;' in page
    assert '<span class="row good"><span class="no">+</span>dv = dc @ p' in page
    assert "/home/me/model.py:47" in page and '<span class="no">43</span>' in page
    for said in (
        "2026-01-02 03:04:05 UTC",
        "jax 0.10.2",
        "seed 0",
        "check_grad(loss, ..., seed=0)",
        "V-curve",
        "Taylor test",
    ):
        assert said in page
    alone = html.page(drawn(made=Made()))  # an older report, without the lines around it
    assert '<span class="row bad"><span class="no">47</span>dv = p.T @ dc' in alone


def test_what_words_mean_is_said_as_explain_says_it():
    page = unescape(html.page(drawn()))
    for name in ("M", "N", "A", "floor", "difference", "FAIL", "MANUAL_WRONG"):
        assert terms.meaning(name) in page, name
    assert "check_grad(loss, ..., seed=0)" in html.page(passing())


def test_a_cell_has_its_pictures_and_no_tools():
    cell = drawn()._repr_html_()
    assert "<svg" in cell and "<script" not in cell and "data-table" not in cell
    assert 'data-jp-theme-light="false"' in cell and "prefers-color-scheme" not in cell


# In a browser.

HOSTILE = '<script>window.hit=1</script><img src=x onerror="window.hit=1">'
AUDIT = """
const clear = colour => /, 0\\)$|transparent/.test(colour);
const parts = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
const light = c => {
  const [r, g, b] = parts(c).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b; };
const low = [];
for (const one of document.querySelectorAll("body *")) {
  if (!Array.from(one.childNodes).some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  if (!one.getClientRects().length) continue;
  if (["SCRIPT", "STYLE", "title", "desc", "TITLE"].includes(one.tagName)) continue;
  const style = getComputedStyle(one), fore = one.namespaceURI.includes("svg") ? style.fill : style.color;
  let ground = one;
  while (ground && clear(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const back = getComputedStyle(ground || document.documentElement).backgroundColor;
  const [a, b] = [light(fore), light(back)].sort((x, y) => y - x);
  if ((a + .05) / (b + .05) < 4.5) low.push([one.tagName, one.textContent.slice(0, 40), fore, back]);
}
return low;
"""


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install selenium")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for said in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(said)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture
def shown(browser, tmp_path):
    """Opens a page of reports and gives what finds in it; no page may have complained at the end."""

    def show(*reports, errors=(), width=1200, scheme="light"):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": "", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        text = html.page(reports[0]) if len(reports) == 1 and not errors else html.pages(reports, errors)
        target = tmp_path / "page.html"
        target.write_text(text, encoding="utf-8")
        browser.get(target.as_uri())
        return lambda script, *args: browser.execute_script(f"return {script}", *args)

    browser.get_log("browser")
    yield show
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    assert browser.execute_script("return window.hit") is None


ROWS = "Array.from(document.querySelectorAll('.leaves tbody tr')).filter(row => row.getClientRects().length)"


def names(find) -> list[str]:
    return find(f"{ROWS}.map(row => row.cells[1].innerText)")


def wide(**changed) -> Report:
    """2,000 leaves with hostile names, some failing."""

    def one(k):
        bad = dict(verdict=Verdict.FAIL, reason=Reason.MANUAL_WRONG, difference=0.1 + k / 1e5) if k % 500 == 7 else {}
        return leaf(f"blocks[{k}].{HOSTILE if k == 3 else 'W'}", **{**dict(difference=k * 1e-13 if k else NAN), **bad})

    return failing(leaves=tuple(map(one, range(2000))), name=HOSTILE, notes=(HOSTILE,), **changed)


def test_it_sorts_filters_and_folds(shown, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    find = shown(
        drawn(
            leaves=(
                leaf("a", difference=3e-9),
                leaf("b", difference=NAN),
                leaf("c10", difference=1e-12),
                leaf("c9"),
                *failing().leaves[1:],
            )
        )
    )
    assert names(find)[0] == "layers[1].W"  # failures first
    head = browser.find_element(By.XPATH, "//table[contains(@class,'leaves')]//button[text()='to N']")
    head.click()
    assert names(find) == ["layers[1].W", "a", "c9", "c10", "b"]  # largest first, unknown last
    head.send_keys(Keys.ENTER)
    assert names(find) == ["c10", "c9", "a", "layers[1].W", "b"]
    assert find("document.querySelectorAll('[aria-sort]').length") == 1
    browser.find_element(By.XPATH, "//table[contains(@class,'leaves')]//button[text()='leaf']").click()
    assert names(find) == ["a", "b", "c9", "c10", "layers[1].W"]

    search = browser.find_element(By.CSS_SELECTOR, "input[type=search]")
    search.send_keys("C pass")
    assert names(find) == ["c9", "c10"] and "2 of 5" in browser.find_element(By.CSS_SELECTOR, ".shown").text
    search.clear()
    search.send_keys(Keys.ESCAPE)
    find("document.querySelector('input[type=search]').dispatchEvent(new Event('input'))")
    chip = browser.find_element(By.CSS_SELECTOR, ".chip.FAIL")
    chip.send_keys(Keys.SPACE)
    assert names(find) == ["layers[1].W"] and chip.get_attribute("aria-pressed") == "true"
    chip.click()
    assert len(names(find)) == 5

    fold = browser.find_element(By.CSS_SELECTOR, "details.leaf > summary")
    assert browser.find_element(By.CSS_SELECTOR, "figure svg").is_displayed()
    fold.send_keys(Keys.ENTER)
    picture = browser.find_element(By.CSS_SELECTOR, "figure svg")
    WebDriverWait(browser, 10).until(lambda _: not picture.is_displayed())
    browser.find_element(By.CSS_SELECTOR, ".leaves a").click()  # what is linked to is opened
    WebDriverWait(browser, 10).until(lambda _: picture.is_displayed())
    term = browser.find_element(By.CSS_SELECTOR, ".term")
    assert "Formula (2)" in term.get_attribute("data-tip")


def test_two_thousand_leaves_with_hostile_names(shown, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    find = shown(wide())
    # A busy machine lays out a long page in parts.
    WebDriverWait(browser, 30).until(lambda _: len(names(find)) >= 200)
    assert len(names(find)) == 200 and names(find)[:4] == [f"blocks[{k}].W" for k in (7, 507, 1007, 1507)]
    browser.find_element(By.CSS_SELECTOR, ".more button").click()
    WebDriverWait(browser, 30).until(lambda _: len(names(find)) >= 2000)
    assert len(names(find)) == 2000
    browser.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("onerror")
    assert names(find) == [f"blocks[3].{HOSTILE}"]
    assert find("document.querySelector('h1').innerText") == f"check_grad({HOSTILE})"
    assert find("document.querySelectorAll('img, main script').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_every_word_can_be_read_and_nothing_is_wider_than_the_page(shown, browser, width, scheme):
    long = "encoder." + "layers_with_a_long_name." * 12 + "kernel"
    reports = (drawn(leaves=(leaf(long), *drawn().leaves)), inconclusive(notes=(long,)), passing(), rule(), strange())
    find = shown(*reports, errors=[("case", "raised " + long)], width=width, scheme=scheme)
    find("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.execute_script(AUDIT) == []
    dark = find("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 22)"
    assert dark is (scheme == "dark")
    over = find(
        "Array.from(document.querySelectorAll('main *')).filter(e => !e.closest('svg, pre') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert over == []
    assert find("document.documentElement.scrollWidth") <= width
    # A row of words above the leaves of a narrow page is that of a table's head, which sorts: it says so there.
    heads = find(
        "Array.from(document.querySelectorAll('.stacks thead tr')).map(head => "
        "[head.querySelector('button') !== null, getComputedStyle(head, '::before').content])"
    )
    assert {said for sorts, said in heads if sorts} == {'"sort by"' if width == 390 else "none"}
    assert {said for sorts, said in heads if not sorts} == {"none"}


def test_on_paper_everything_is_there_and_no_tools(shown, browser):
    find = shown(wide())
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert find("document.querySelector('.tools').getClientRects().length") == 0
    assert find(f"{ROWS}.length") == 2000


@pytest.mark.parametrize(("light", "ground"), [("true", "#fff"), ("false", "#111")])
def test_a_notebooks_cell_can_be_read_on_either_theme(browser, tmp_path, light, ground):
    host = "table { font-size: 12px; color: black } td, th { color: inherit; max-width: 9em } body { font-size: 13px }"
    cells = drawn()._repr_html_() + passing()._repr_html_()
    body = f'<body data-jp-theme-light="{light}" style="background: {ground}">{cells}'
    page = f'<!doctype html><meta charset="utf-8"><style>{host}</style>{body}'
    (tmp_path / "cell.html").write_text(page, encoding="utf-8")
    browser.get((tmp_path / "cell.html").as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.execute_script(AUDIT) == []
