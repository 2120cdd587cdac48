"""What users see: each state, in a browser, by axe and by eye; markup, keys, languages, widths."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import credit_samples as samples
from tests.support.app_page import ORIGIN, App, answer
from tests.support.stack import Env, User

if TYPE_CHECKING:
    from playwright.sync_api import Locator

Make = Callable[..., App]
MARKUP = '<img src=x onerror="globalThis.broken = 1"><b>bold</b>'


def show(made: App, state: str = "full", **options: Any) -> None:
    """The whole dashboard in a state."""
    made.table("user_credits", [samples.CREDITS | samples.STATES.get(state, {})])
    made.table("credit_accounts", [{"frozen_by": "operator", "frozen_reason": "A chargeback is looked at."}])
    empty = state in ("zero", "negative")
    made.table("credit_history", samples.history(0 if empty else 12, None if empty else 40))
    made.table("credit_lots", samples.lots() | ({"open": [], "ended": []} if empty else {}))
    made.table("credit_usage", samples.usage(groups=0 if empty else 6))
    made.table("credit_packages", samples.PACKAGES)
    made.table("subscription_plans", samples.PLANS)
    made.open("<credits-dashboard></credits-dashboard>", **options)


def settled(made: App) -> None:
    """Wait until all parts have their content."""
    made.page.wait_for_selector("credits-history [part=zone]")
    made.page.wait_for_selector("credits-usage [part=zone]")
    made.page.wait_for_selector("credits-grants [part=card][aria-busy=false]")


def overflow(made: App) -> int:
    """How far the page is wider than its window."""
    width: int = made.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["full", "low", "zero", "negative", "frozen"])
def test_axe_finds_nothing(app: Make, user: Callable[..., User], state: str, scheme: str) -> None:
    """Each state, light and dark, at three widths, from left to right and from right to left."""
    made = app(user(), width=320, scheme=scheme)
    show(made, state)
    settled(made)
    for width in (320, 768, 1280):
        made.page.set_viewport_size({"width": width, "height": 800})
        # Layout from right to left is another one; its colours are the same.
        for direction in ("ltr", "rtl") if state == "full" else ("rtl" if width == 768 else "ltr",):
            made.page.evaluate("direction => { document.documentElement.dir = direction }", direction)
            assert overflow(made) <= 0, (width, direction)
            assert made.violations() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_shop_while_loading_and_after_an_error(
    app: Make, user: Callable[..., User], scheme: str
) -> None:
    made = app(user(), width=320, scheme=scheme)
    show(made)
    settled(made)
    made.page.get_by_role("button", name="Buy credits").click()
    made.page.get_by_role("button", name="Buy Starter").wait_for()
    assert overflow(made) <= 0
    assert made.violations() == []
    made.page.route("**/rest/v1/**", lambda route: None)  # never answered
    made.open("<credits-dashboard></credits-dashboard>")
    assert made.page.locator("credits-balance [aria-busy=true]").count() == 1
    assert made.violations() == []
    made.page.unroute("**/rest/v1/**")
    made.page.route("**/rest/v1/**", lambda route: answer(route, {"message": "no", "code": "X"}, 500))
    made.open("<credits-dashboard></credits-dashboard>")
    made.page.locator("credits-balance [part=error]").wait_for()
    assert made.violations() == []


def test_the_box_of_the_balance_keeps_its_place(app: Make, user: Callable[..., User]) -> None:
    """No layout shift from the skeleton to the figure, at both ends of the widths."""
    for width in (320, 1280):
        made = app(user(), width=width)
        made.table("credit_packages", samples.PACKAGES)
        made.page.route("**/rest/v1/user_credits*", lambda route: None)
        made.open("<credits-balance></credits-balance>")
        before = made.page.locator("credits-balance").bounding_box()
        made.page.unroute("**/rest/v1/user_credits*")
        made.table("user_credits", [samples.CREDITS])
        made.open("<credits-balance></credits-balance>")
        made.page.locator("credits-balance [part=buy]").wait_for()
        assert made.page.locator("credits-balance").bounding_box() == before


def test_markup_stays_text(app: Make, user: Callable[..., User]) -> None:
    """Of names, operations, reasons, sources: none becomes an element."""
    made = app(user())
    made.table("user_credits", [samples.CREDITS | samples.STATES["frozen"]])
    made.table("credit_accounts", [{"frozen_by": "operator", "frozen_reason": MARKUP}])
    rows = [samples.entry(1, kind="spend", operation=MARKUP, metadata={"note": MARKUP})]
    made.table("credit_history", samples.history(0) | {"rows": rows, "zone": MARKUP})
    made.table("credit_lots", samples.lots() | {"open": [samples.lot(1, source=MARKUP)]})
    groups = [{"group": MARKUP, "totals": {"spent": 5}, "series": {"spent": [0] * 29 + [5]}}]
    series = {"spent": [0] * 29 + [5]}
    made.table("credit_usage", samples.usage() | {"groups": groups, "series": series, "zone": MARKUP})
    made.table("credit_packages", [samples.PACKAGES[1] | {"name": MARKUP}])
    made.table("subscription_plans", [])
    made.table("pricing_tiers", [{"operation": MARKUP}])
    made.open("<credits-dashboard></credits-dashboard><credits-purchase inline></credits-purchase>")
    made.page.wait_for_selector("credits-history [part=row]")
    made.page.wait_for_selector("credits-usage [part=legend]")
    made.page.wait_for_selector("credits-purchase[inline] [part=offer]")
    for element in ("balance", "history", "grants", "usage", "purchase[inline]"):
        text = made.page.locator(f"credits-{element}").first.get_by_text("<b>bold</b>")
        text.first.wait_for(state="attached")
    assert made.page.locator("img, b").count() == 0
    assert made.page.evaluate("globalThis.broken") is None


@pytest.mark.parametrize(
    "link",
    [
        "javascript:globalThis.broken=1", "data:text/html,<script>1</script>", "http://shop.example/pay",
        "https://user@shop.example/", "//shop.example/", "",
    ],
)  # fmt: skip
def test_checkout_follows_no_odd_link(app: Make, user: Callable[..., User], link: str) -> None:
    made = app(user())
    made.page.route("**/functions/v1/checkout", lambda route: answer(route, {"id": "cs_1", "url": link}))
    made.open("<credits-purchase inline></credits-purchase>")
    made.page.get_by_role("button", name="Buy Starter").click()
    made.page.get_by_text("cannot be opened").wait_for()
    assert made.page.url == f"{ORIGIN}/"
    assert made.page.evaluate("globalThis.broken") is None


def test_a_secret_key_is_refused(app: Make, env: Env) -> None:
    """Neither the elements nor createCredits() run with it, and no request goes out."""
    made = app()
    asked: list[str] = []
    made.page.on("request", lambda request: asked.append(request.url))
    for key in (env.secret_key, env.service_role_key):
        made.page.add_init_script(f"globalThis.given.key = {key!r}")
        made.open("<credits-balance></credits-balance>")
        made.page.get_by_text("must never reach a browser").wait_for()
        refused = made.page.evaluate(
            "import('/static/credits.js').then(m => m.createCredits(client)).then(() => '', e => e.message)"
        )
        assert "secret key" in refused
    assert not [url for url in asked if "/rest/" in url or "/auth/" in url]


def test_the_keyboard_is_enough(app: Make, user: Callable[..., User]) -> None:
    """Open the shop and close it, with the focus back; go through the bars; filter; page."""
    made = app(user())
    show(made)
    settled(made)
    page = made.page
    buy = page.get_by_role("button", name="Buy credits")
    buy.focus()
    page.keyboard.press("Enter")
    close = page.get_by_role("button", name="Close")
    close.wait_for()
    assert is_focused(close)
    page.keyboard.press("Escape")
    close.wait_for(state="hidden")
    assert is_focused(buy)

    last = page.locator("credits-usage .day[tabindex='0']")
    label = last.get_attribute("aria-label")
    last.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "label => document.querySelector('credits-dashboard').shadowRoot.querySelector('credits-usage')"
        ".shadowRoot.activeElement?.getAttribute('aria-label') !== label",
        arg=label,
    )
    page.keyboard.press("Home")
    page.get_by_role("img", name="October 26, 2026").wait_for()
    assert is_focused(page.get_by_role("img", name="October 26, 2026"))

    page.get_by_label("Kind").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile(r"credits-kind=grant"))
    more = page.get_by_role("button", name="Show more")
    more.focus()
    with page.expect_request(re.compile("credit_history")) as asked:
        page.keyboard.press("Enter")
    sent: Any = asked.value.post_data_json
    assert (sent["before"], sent["kinds"]) == (40, ["grant"])


@pytest.mark.parametrize("where", ["", "inline"])
def test_a_package_is_bought_by_keyboard(app: Make, user: Callable[..., User], where: str) -> None:
    """Tab goes from offer to offer, in a dialog and in the page; Enter and the space bar choose."""
    made = app(user())
    made.table("user_credits", [samples.CREDITS])
    made.table("credit_packages", samples.PACKAGES)
    made.table("subscription_plans", [])
    bodies: list[Any] = []

    def checkout(route: Any) -> None:
        if route.request.method != "OPTIONS":
            bodies.append(route.request.post_data_json)
        answer(route, {"url": "https://checkout.stripe.com/c/pay/1"})

    made.page.route("**/functions/v1/checkout", checkout)
    made.open(f"<credits-purchase {where}></credits-purchase>")
    page = made.page
    page.evaluate(
        "() => { globalThis.left = []; addEventListener('credits-checkout',"
        " (event) => { event.preventDefault(); left.push(event.detail.url) }) }"
    )
    offers = page.locator("credits-purchase [part=offer] button")
    if not where:
        offers.first.wait_for(state="attached")
        page.evaluate("document.querySelector('credits-purchase').show()")
        close = page.get_by_role("button", name="Close")
        close.wait_for()
        assert is_focused(close)
    offers.first.wait_for()
    for number, key in enumerate(("Enter", "Space")):
        for _ in range(10):
            page.keyboard.press("Tab")
            if is_focused(offers.nth(number)):
                break
        assert is_focused(offers.nth(number))
        page.keyboard.press(key)
        page.wait_for_function("number => left.length === number", arg=number + 1)
        assert is_focused(offers.nth(number))
    mine = [offer["slug"] for offer in samples.PACKAGES if offer["currency"] == "usd"]
    assert [body["package"] for body in bodies] == mine[:2]


def test_how_a_payment_stands_is_read_out(app: Make, user: Callable[..., User]) -> None:
    """In a region that was there before: what comes with a new one is not said."""
    made = app(user())
    show(made)
    settled(made)
    stayed = made.page.locator("credits-purchase").evaluate(
        "async (element) => { const before = element.renderRoot.querySelector('[role=status]');"
        " element.back = { state: 'slow' }; await element.updateComplete;"
        " return before.isConnected && before.innerText }"
    )
    assert stayed.startswith("This takes longer")


def is_focused(element: "Locator") -> bool:
    """Whether the focus is on it, within whatever shadow root."""
    focused: bool = element.evaluate("element => element.getRootNode().activeElement === element")
    return focused


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("de", ["230", "10 reserviert", "50 verfallen am 3. Dez.", "Verlauf"]),
        ("ja", ["230", "12月3日"]),
        ("ar-EG", ["٢٣٠"]),
        ("hi", ["230"]),
        ("en-US@posix", ["230", "Dec 3"]),
        ("not a tag", ["230"]),
    ],
)
def test_languages(app: Make, user: Callable[..., User], lang: str, words: list[str]) -> None:
    made = app(user())
    show(made, lang=lang)
    settled(made)
    for word in words:
        made.page.get_by_text(word).first.wait_for()
    assert [line for line in made.console if "WebSocket" not in line] == []


def test_figures_are_exact_and_words_replaceable(app: Make, user: Callable[..., User]) -> None:
    made = app(user())
    show(made, "huge")
    settled(made)
    made.page.get_by_text("1,000,000,000,000,000", exact=True).wait_for()
    made.page.evaluate(
        "import('/static/credits.js')"
        ".then(m => m.defineStrings('en', {buy: 'Top up', held: '{count} kept back'}))"
    )
    made.page.get_by_role("button", name="Top up").click()
    made.page.get_by_text("10 kept back").wait_for()
    for currency, price in (("JPY", "¥750"), ("KWD", "KWD 1.525"), ("USD", "$17.99")):
        made.page.get_by_label("Currency").select_option(currency.lower())
        made.page.get_by_text(re.compile(re.escape(price).replace(r"\ ", r"\s"))).first.wait_for()


def test_forced_colours_and_reduced_motion(app: Make, user: Callable[..., User]) -> None:
    made = app(user(), forced_colors="active", reduced_motion="reduce")
    show(made, "low")
    settled(made)
    moving = made.page.evaluate("document.getAnimations().length")
    assert moving == 0
    made.page.get_by_text("Running low").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_parts_of_the_chart_stand_out(app: Make, user: Callable[..., User], scheme: str) -> None:
    """3:1 at least against what is behind them."""
    made = app(user(), scheme=scheme)
    show(made)
    settled(made)
    colours = made.page.evaluate(
        """() => {
          const usage = document.querySelector('credits-dashboard').shadowRoot.querySelector('credits-usage')
          const get = (selector, name) => getComputedStyle(usage.shadowRoot.querySelector(selector))[name]
          return [get('.card', 'backgroundColor'), ...[1, 2, 3, 4, 5].map((n) => get(`rect.c${n}`, 'fill'))]
        }"""
    )
    behind, *parts = [luminance(colour) for colour in colours]
    for part in parts:
        assert (max(part, behind) + 0.05) / (min(part, behind) + 0.05) >= 3


def luminance(colour: str) -> float:
    """The relative luminance of rgb(…), as WCAG defines it."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
