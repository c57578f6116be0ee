import itertools
import re

import pytest

from tests.results.report.chromium import NAMES, Chromium, found

pytestmark = pytest.mark.skipif(found() is None, reason=f"no Chromium here: none of {', '.join(NAMES)}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = Chromium(found(), tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture
def page(browser, html):
    browser.said.clear()

    def show(**how):
        browser.show(html, **how)
        return browser

    return show


@pytest.mark.parametrize(("width", "phone"), [(360, True), (360, False), (1280, False)])
def test_it_fits_the_window_and_nothing_is_complained_of(page, width, phone):
    shown = page(width=width, height=800, phone=phone)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    beyond = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.box, svg, details')"
    beyond += f" && e.getBoundingClientRect().right > {width} + 0.5).map(e => e.outerHTML.slice(0, 80))"
    assert shown.evaluate(beyond) == []
    assert shown.said == []


def test_letters_in_drawings_can_be_read_on_a_phone(page):
    shown = page(width=360, height=800, phone=True)
    smallest = "Math.min(...[...document.querySelectorAll('figure > svg')].map(s =>"
    smallest += " Math.min(...[...s.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize)))"
    smallest += " * s.getBoundingClientRect().width / s.viewBox.baseVal.width))"
    assert shown.evaluate(smallest) > 7.5


def test_dark_and_light(page):
    looks = []
    for dark in (False, True):
        shown = page(dark=dark)
        script = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        script += (
            " ...[...document.querySelectorAll('figure svg text')].slice(0, 3).map(t => getComputedStyle(t).fill)]"
        )
        looks.append(shown.evaluate(script))
    assert all(light != dark for light, dark in zip(*looks, strict=True))
    assert sum(int(part) for part in looks[1][0][4:-1].split(",")) < 150  # rgb(r, g, b) of dark paper


def test_a_click_on_a_heading_sorts(page):
    shown = page()
    column = "[...document.querySelector('#results table').tHead.rows[0].cells]"
    column += ".findIndex(c => /Overall\\s+NDCG@10/.test(c.textContent))"
    place = shown.evaluate(column)
    assert place > 0
    values = f"[...document.querySelector('#results table').tBodies[0].rows].map(r => r.cells[{place}].dataset.sort)"
    click = f"document.querySelector('#results table').tHead.rows[0].cells[{place}].click();"
    wait = "await new Promise(done => setTimeout(done, 50));"
    orders = [shown.evaluate(f"(async () => {{ {click} {wait} return {values} }})()") for _ in range(2)]
    measured = [[float(value) for value in order if value] for order in orders]
    assert measured[0] == sorted(measured[0], reverse=True)
    assert measured[1] == sorted(measured[1])
    assert all(order[-1] == "" for order in orders)  # the failed cell comes last, either way


def test_no_other_script_runs(browser, html, tmp_path):
    path = tmp_path / "meddled.html"
    path.write_text(html.read_text().replace("</main>", "<script>document.title = 'meddled'</script></main>"))
    browser.show(path)
    assert browser.evaluate("document.title") != "meddled"


#: An A4 sheet less the page's own margins (12 mm a side), in the pixels of print: 96 an inch.
PAPER = int((210 - 2 * 12) / 25.4 * 96)
WHERE = """(selector, what) => [...document.querySelectorAll(selector)].map(e => {
  const r = e.getBoundingClientRect(); return what === 'box' ? [r.left, r.top, r.right, r.bottom] : e[what]; })"""


def boxes(shown, selector):
    return shown.evaluate(f"({WHERE})({selector!r}, 'box')")


@pytest.fixture
def on_paper(browser, with_users):
    """The report as it is laid out for print, on dark paper by the screen's wish."""
    browser.said.clear()
    browser.show(with_users, width=PAPER, height=1000)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    yield browser
    browser.call("Emulation.setEmulatedMedia", media="")


def test_it_prints_dark_on_light_whatever_the_screens_theme(on_paper):
    style = "getComputedStyle(document.documentElement)"
    assert on_paper.evaluate(f"{style}.getPropertyValue('--ink')") == "#1b1f24"
    ink = on_paper.evaluate("getComputedStyle(document.querySelector('article li')).color")
    assert max(int(part) for part in ink[4:-1].split(",")) < 60


def test_nothing_runs_off_the_paper(on_paper):
    # Tables too wide for it lie on sheets of their own, turned.
    beyond = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.widest') && e.checkVisibility()"
    beyond += f" && !e.closest('svg') && e.getBoundingClientRect().right > {PAPER} + 0.5)"
    assert on_paper.evaluate(f"{beyond}.map(e => e.outerHTML.slice(0, 80))") == []
    # A box that scrolls on a screen shows all on paper.
    assert on_paper.evaluate(
        "[...document.querySelectorAll('.box')].every(e => getComputedStyle(e).overflowX === 'visible')"
    )
    for left, top, right, bottom in boxes(on_paper, "figure > svg"):
        assert right - left > 200
        assert bottom - top > 100


def test_paper_has_all_sections_and_nothing_to_click(on_paper):
    for name in ("run", "results", "learning", "popularity", "cost", "users"):
        ((left, top, right, bottom),) = boxes(on_paper, f"#{name}")
        assert bottom - top > 40, name
        assert right - left > PAPER - 40, name
    for selector in ("nav", ".scripted", "details:not([open])"):
        assert all(box == [0, 0, 0, 0] for box in boxes(on_paper, selector)), selector
    smallest = "Math.min(...[...document.querySelectorAll('main td, main th, main p, main li')]"
    smallest += ".filter(e => e.checkVisibility()).map(e => parseFloat(getComputedStyle(e).fontSize)))"
    assert on_paper.evaluate(smallest) >= 5.6 * 96 / 72 - 0.01  # points in pixels
    # History and both lists of a user side by side: three users fill a sheet, not each its own.
    history, first, second = boxes(on_paper, "article:first-of-type .told > div")[:3]
    assert history[1] == first[1] == second[1]
    assert history[2] <= first[0] < first[2] <= second[0]
    kept = "[...document.querySelectorAll('article, figure, tr')].map(e => getComputedStyle(e).breakInside)"
    assert set(on_paper.evaluate(kept)) == {"avoid"}


def test_it_prints_on_a4(on_paper, tmp_path):
    on_paper.pdf(tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    sheets = [tuple(float(x) for x in box.split()[2:]) for box in re.findall(rb"/MediaBox ?\[([^\]]+)\]", content)]
    # No table of this one is too wide for an upright sheet.
    assert all(size == pytest.approx((595, 842), abs=2) for size in sheets)
    # As long as what is on them: no blank sheets, no page of its own for every figure.
    height = on_paper.evaluate("document.documentElement.scrollHeight")
    least = height / ((297 - 2 * 14) / 25.4 * 96)
    assert least - 1 < len(sheets) < 1.6 * least + 2


def columns_of(shown):
    """Of each user: the boxes of history and lists."""
    n = len(boxes(shown, "article"))
    return [boxes(shown, f"article:nth-of-type({place}) .told > div") for place in range(1, n + 1)]


@pytest.mark.parametrize(("width", "phone"), [(360, True), (800, False), (1280, False)])
def test_users_lie_beside_each_other_where_there_is_room(browser, with_users, width, phone):
    browser.said.clear()
    browser.show(with_users, width=width, height=800, phone=phone)
    users = boxes(browser, "article")
    assert len(users) == 2 * 3
    told = boxes(browser, "article .told > div")
    assert len(told) == 3 * 3 + 3 * 2  # history, and the lists of two cells or of the one there is
    for left, _, right, _ in told:
        assert left >= 0
        assert right <= width
        assert right - left > 200  # a title fits
    history, first, second = told[:3]
    if phone:
        assert history[3] <= first[1]
        assert first[3] <= second[1]
    elif width == 1280:
        assert history[1] == first[1] == second[1]
        assert history[2] <= first[0]
        assert first[2] <= second[0]
    for one, other in itertools.pairwise(users):
        assert one[3] < other[1]  # a user ends before the next begins
    # No title, however long or unbroken, leaves its column.
    out = "[...document.querySelectorAll('article li, article p, article h4')]"
    out += ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
    assert browser.evaluate(out) == []
    assert browser.said == []


def test_a_user_is_told_by_title_with_the_target_marked(browser, with_users):
    browser.show(with_users)
    assert browser.evaluate("[...document.querySelectorAll('article h4')].map(e => e.textContent)")[0] == (
        "User A0000000000000"
    )
    lists = browser.evaluate(
        "[...document.querySelectorAll('article:first-of-type .told > div:not(:first-child)')].map(e =>"
        " [...e.querySelectorAll('li')].map(li => [li.textContent, li.className, getComputedStyle(li).fontWeight]))"
    )
    assert [len(items) for items in lists] == [10, 10]
    assert [place for place, (_, kind, _) in enumerate(lists[0], 1) if kind == "hit"] == [3]
    assert [kind for _, kind, _ in lists[1]] == [""] * 10  # ranked 47th: not among the ten
    assert {weight for _, kind, weight in lists[0] if kind == "hit"} == {"600"}
    assert "the target" in lists[0][2][0]
    start = browser.evaluate("document.querySelector('article ol').start")
    assert start == 35  # the last six of forty
