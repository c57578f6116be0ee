import pytest

from tests.reporting.chromium import NAMES, Chromium, found

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
    column += ".findIndex(c => /ndcg@10\\s+overall/.test(c.textContent))"
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


def test_it_prints(page, tmp_path):
    shown = page()
    shown.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    shown.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    paper = shown.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')")
    shown.call("Emulation.setEmulatedMedia", media="")
    assert paper == "#1b1f24"  # dark ink, whatever the screen's theme
