"""The store on the real stack: spending, staying current, tokens, and what is left behind."""

import html
import itertools
import json
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from supabase import Client
from tests.support import credit_samples as samples
from tests.support.app_page import App, answer
from tests.support.clock import until
from tests.support.stack import ROOT, Env, User

Make = Callable[..., App]
BALANCE = "<credits-balance></credits-balance>"
SPEND = """
async ([operation, options]) => {
  const { createCredits } = await import('/static/credits.js')
  const credits = createCredits(client)
  globalThis.events ??= []
  credits.addEventListener('credits-insufficient', (event) => globalThis.events.push(event.detail))
  try { return { row: await credits.spend(operation, options) } }
  catch (error) { return { status: error.status, code: error.code, message: error.message } }
}
"""


def spend(made: App, operation: str = "stable_diffusion", **options: Any) -> Any:
    """createCredits(client).spend() in the page; what it returned, or the error."""
    return made.page.evaluate(SPEND, [operation, options])


def figure(made: App) -> str:
    """The balance that is shown."""
    return made.page.locator("credits-balance [part=number]").inner_text()


def shows(made: App, words: str) -> None:
    """Wait until the balance is that."""
    made.page.locator("credits-balance [part=number]").get_by_text(words, exact=True).wait_for()


def charged(made: User) -> int:
    """How many spends the ledger has."""
    rows = made.client.table("credit_transactions").select("id").eq("kind", "spend").execute().data
    return len(rows)


def test_a_lost_answer_is_asked_for_again_with_the_same_key(app: Make, user: Callable[..., User]) -> None:
    """The first answer is lost after the charge, the second is a 503: one charge, one key."""
    owner = user()
    made = app(owner)
    made.open(BALANCE)
    shows(made, "10")
    keys: list[str] = []

    def lose(route: Any) -> None:
        if route.request.method == "OPTIONS":
            route.continue_()
            return
        keys.append(route.request.post_data_json["idempotency_key"])
        if len(keys) == 1:
            route.fetch()
            route.abort()
        elif len(keys) == 2:
            answer(route, {"message": "busy", "code": "PGRST000"}, 503)
        else:
            route.continue_()

    made.page.route("**/rpc/consume_credits", lose)
    row = spend(made)["row"]
    assert (row["amount"], row["balance_after"]) == (-3, 7)
    assert len(keys) == 3
    assert len(set(keys)) == 1
    shows(made, "7")
    assert charged(owner) == 1


def test_a_spend_without_an_answer_is_asked_for_again(app: Make, user: Callable[..., User]) -> None:
    """The network swallows the answer and says nothing: after half a minute the same key is sent again."""
    owner = user()
    made = app(owner)
    made.page.clock.install()
    made.open(BALANCE)
    made.page.clock.run_for(2_000)
    shows(made, "10")
    keys: list[str] = []

    def swallow(route: Any) -> None:
        if route.request.method == "OPTIONS":
            route.continue_()
            return
        keys.append(route.request.post_data_json["idempotency_key"])
        if len(keys) == 1:
            route.fetch()
        else:
            route.continue_()

    made.page.route("**/rpc/consume_credits", swallow)
    made.page.evaluate(
        "async () => { const { createCredits } = await import('/static/credits.js');"
        " createCredits(client).spend('stable_diffusion').then((row) => { globalThis.row = row }) }"
    )
    meanwhile(made, lambda: len(keys) == 1)
    made.page.clock.run_for(30_000)
    meanwhile(made, lambda: made.page.evaluate("globalThis.row?.balance_after") == 7)
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert charged(owner) == 1


def test_too_few_credits_are_told_with_figures(app: Make, user: Callable[..., User]) -> None:
    made = app(user())
    made.open(BALANCE)
    shows(made, "10")
    assert spend(made, "video_generation")["status"] == 402
    assert made.page.evaluate("globalThis.events") == [
        {"operation": "video_generation", "required": 50, "available": 10, "shortfall": 40}
    ]
    shows(made, "10")


def test_retry_after_is_honoured(app: Make, user: Callable[..., User]) -> None:
    made = app(user())
    made.open(BALANCE)
    asked = 0

    def refuse(route: Any) -> None:
        nonlocal asked
        if route.request.method != "OPTIONS":
            asked += 1
        if asked == 1:
            answer(route, {"message": "slow down", "code": "PT429"}, 429, {"Retry-After": "2"})
        else:
            route.continue_()

    made.page.route("**/rpc/consume_credits", refuse)
    made.page.evaluate("globalThis.began = performance.now()")
    assert spend(made)["row"]["balance_after"] == 7
    assert made.page.evaluate("performance.now() - globalThis.began") >= 2000
    assert asked == 2


def test_the_next_user_is_not_charged_for_what_the_last_asked(app: Make, user: Callable[..., User]) -> None:
    """Whoever a refused token is replaced by: the call is not made once more for another."""
    first, second = user(), user()
    made = app(first)
    made.open(BALANCE)
    shows(made, "10")
    asked = 0

    def refuse(route: Any) -> None:
        nonlocal asked
        if route.request.method == "OPTIONS":
            route.continue_()
            return
        asked += 1
        if asked == 1:
            answer(route, {"message": "JWT expired", "code": "PGRST301"}, 401)
        else:
            route.continue_()

    made.page.route("**/rpc/consume_credits", refuse)
    # Another tab's: both have the same storage.
    made.page.evaluate(
        "given => { client.auth.refreshSession = () => client.auth.signInWithPassword(given) }",
        {"email": second.email, "password": second.password},
    )
    assert spend(made)["status"] == 401
    assert asked == 1
    assert charged(second) == 0


def test_ten_at_once_end_at_the_servers_figure(app: Make, user: Callable[..., User], service: Client) -> None:
    owner = user()
    service.rpc("grant_credits", {"user_id": owner.id, "amount": 90, "source": "promo"}).execute()
    made = app(owner)
    made.open(BALANCE)
    shows(made, "100")
    made.page.evaluate(
        "async () => { const { createCredits } = await import('/static/credits.js');"
        "const credits = createCredits(client);"
        "await Promise.all(Array.from({length: 10}, () => credits.spend('stable_diffusion'))) }"
    )
    assert figure(made) == "70"
    made.page.wait_for_timeout(1500)
    assert figure(made) == "70"
    assert charged(owner) == 10


def test_with_run_credits_are_held_first(app: Make, user: Callable[..., User]) -> None:
    made = app(user())
    made.open(BALANCE)
    shows(made, "10")
    result = made.page.evaluate(
        "async () => { const { createCredits } = await import('/static/credits.js');"
        "return createCredits(client).spend('stable_diffusion', { run: (hold) => hold.status }) }"
    )
    assert result["result"] == "held"
    shows(made, "7")
    made.page.get_by_text("3 on hold").wait_for()


def test_a_spend_elsewhere_shows_within_two_seconds(app: Make, user: Callable[..., User]) -> None:
    """In both tabs, by Realtime."""
    owner = user()
    tabs = [app(owner), app(owner)]
    for made in tabs:
        made.open(BALANCE)
        shows(made, "10")
        until(partial(is_live, made), 20)
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    for made in tabs:
        made.page.set_default_timeout(4_000)  # two seconds, and as much for a busy machine
        shows(made, "7")


def is_live(made: App) -> bool:
    """Whether the store says that changes are told at once."""
    live: bool = made.page.evaluate("document.querySelector('credits-balance').snapshot.live")
    return live


def test_without_realtime_it_is_asked_for(app: Make, user: Callable[..., User]) -> None:
    """Nothing is shown of that, and a spend elsewhere comes with the next reading."""
    owner = user()
    made = app(owner)
    made.page.add_init_script("globalThis.WebSocket = class { constructor() { throw new Error('none') } }")
    made.page.clock.install()
    made.open(BALANCE)
    made.page.clock.run_for(2_000)
    shows(made, "10")
    assert not is_live(made)
    assert made.page.get_by_role("alert").count() == 0
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    made.page.clock.run_for(12_000)
    shows(made, "7")


def test_a_reading_without_an_answer_is_not_the_last(app: Make, user: Callable[..., User]) -> None:
    """The next comes when its time has come; what the first one brings much later is old."""
    owner = user()
    made = app(owner)
    made.page.add_init_script("globalThis.WebSocket = class { constructor() { throw new Error('none') } }")
    made.page.clock.install()
    made.open(BALANCE)
    made.page.clock.run_for(2_000)
    shows(made, "10")
    late: list[Any] = []

    def swallow(route: Any) -> None:
        if route.request.method == "OPTIONS" or late:
            route.continue_()
        else:
            late.extend((route, route.fetch()))

    made.page.route("**/rest/v1/user_credits*", swallow)
    made.page.clock.run_for(12_000)
    until(lambda: made.page.title() == "App" and len(late) == 2, 10)
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    made.page.clock.run_for(12_000)
    shows(made, "7")
    route, response = late
    route.fulfill(response=response)
    made.page.clock.run_for(1_000)
    made.page.evaluate("client.from('pricing_tiers').select('operation').limit(1).then(() => 0)")
    assert figure(made) == "7"


def test_a_socket_that_is_cut_is_no_end_of_it(app: Make, user: Callable[..., User]) -> None:
    """While there is none the balance is asked for, without a word of that; then it is live again."""
    owner = user()
    made = app(owner)
    sockets: list[Any] = []
    is_down = False

    def connect(socket: Any) -> None:
        if is_down:
            socket.close()
            return
        sockets.append(socket)
        socket.connect_to_server()

    made.page.route_web_socket("**/realtime/**", connect)
    made.open(BALANCE)
    shows(made, "10")
    until(partial(is_live, made), 20)
    is_down = True
    for socket in sockets:
        socket.close()
    until(lambda: not is_live(made), 20)
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    shows(made, "7")
    assert made.page.get_by_role("alert").count() == 0
    assert made.page.get_by_text("Not up to date").count() == 0
    is_down = False
    until(partial(is_live, made), 20)
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    made.page.set_default_timeout(4_000)
    shows(made, "4")


def test_a_channel_that_the_server_ends_is_joined_again(app: Make, user: Callable[..., User]) -> None:
    """As it does when a token has expired; supabase-js leaves such a channel closed."""
    made = app(user())
    joined: list[tuple[Any, list[Any]]] = []

    def connect(socket: Any) -> None:
        server = socket.connect_to_server()

        def forward(message: Any) -> None:
            if '"phx_join"' in message:
                joined.append((socket, json.loads(message)))
            server.send(message)

        socket.on_message(forward)

    made.page.route_web_socket("**/realtime/**", connect)
    made.open(BALANCE)
    until(partial(is_live, made), 20)
    (socket, (reference, _, topic, *_)) = joined[-1]
    socket.send(json.dumps([reference, None, topic, "phx_close", {}]))
    until(lambda: not is_live(made), 5)
    until(partial(is_live, made), 20)
    assert len(joined) == 2


def test_a_removed_element_leaves_nothing_behind(app: Make, user: Callable[..., User]) -> None:
    made = app(user())
    made.open(BALANCE)
    shows(made, "10")
    until(lambda: is_live(made), 20)
    made.page.evaluate("document.querySelector('credits-balance').remove()")
    until(lambda: made.page.evaluate("client.getChannels().length") == 0, 10)
    until(lambda: made.page.evaluate("client.realtime.isConnected()") is False, 10)
    asked: list[str] = []
    made.page.on("request", lambda request: asked.append(request.url))
    made.page.evaluate("dispatchEvent(new Event('online'))")
    made.page.wait_for_timeout(1500)
    assert asked == []


def test_a_token_is_renewed_once_and_then_asked_for(app: Make, user: Callable[..., User]) -> None:
    made = app(user())
    made.open(BALANCE)
    shows(made, "10")
    renewals: list[str] = []
    made.page.on("request", lambda request: note_renewal(renewals, request))
    made.page.route(
        "**/rest/v1/user_credits*",
        lambda route: (
            answer(route, {"message": "JWT expired", "code": "PGRST301"}, 401)
            if route.request.method != "OPTIONS"
            else route.continue_()
        ),
    )
    made.page.evaluate("dispatchEvent(new Event('online'))")
    made.page.get_by_text("Sign in to see your credits.").wait_for()
    assert len(renewals) == 1


def test_what_is_set_before_the_elements_load_counts(app: Make, user: Callable[..., User]) -> None:
    """The balance alone, whose file comes after the app has given its client."""
    made = app(user())
    late = """
      const client = supabase.createClient(given.url, given.key, { auth: { autoRefreshToken: false } })
      await client.auth.setSession(given.session)
      const balance = document.querySelector('credits-balance')
      Object.assign(balance, { client, strings: { title: 'Coins' } })
      await import('/static/credits-balance.js')
      globalThis.ready = true
    """
    made.page.route("**/late.js", lambda route: route.fulfill(content_type="text/javascript", body=late))
    made.open('<credits-balance lang="ja"></credits-balance>', script="/late.js")
    shows(made, "10")
    made.page.get_by_role("heading", name="Coins").wait_for()
    balance = made.page.locator("credits-balance")
    assert balance.evaluate("element => [element.lang, Object.hasOwn(element, 'client')]") == ["ja", False]
    balance.evaluate("element => { element.strings = { title: 'Tokens' }; element.removeAttribute('lang') }")
    made.page.get_by_role("heading", name="Tokens").wait_for()
    assert balance.evaluate("element => element.updateComplete.then(() => element.tag)") == "en"


def note_renewal(renewals: list[str], request: Any) -> None:
    """Keep the requests for a new token."""
    if "grant_type=refresh_token" in request.url and request.method == "POST":
        renewals.append(request.url)


def test_another_user_sees_nothing_of_the_last(app: Make, user: Callable[..., User], service: Client) -> None:
    first, second = user(), user()
    service.rpc("grant_credits", {"user_id": first.id, "amount": 321, "source": "promo"}).execute()
    made = app(first)
    made.open("<credits-dashboard></credits-dashboard>")
    shows(made, "331")
    made.page.get_by_text("Promotion").first.wait_for()
    made.page.evaluate("client.auth.signOut({ scope: 'local' })")
    made.page.get_by_text("Sign in to see your credits.").first.wait_for()
    assert "Promotion" not in made.page.content()
    made.page.evaluate(
        "given => client.auth.signInWithPassword(given)", {"email": second.email, "password": second.password}
    )
    shows(made, "10")
    made.page.get_by_text("Bonus").first.wait_for()
    assert made.page.get_by_text("Promotion").count() == 0


def test_a_frozen_account_says_why(
    app: Make, user: Callable[..., User], service: Client, db: "psycopg.Connection[Any]"
) -> None:
    owner = user()
    service.rpc("freeze_account", {"user_id": owner.id, "reason": "Stolen cards."}).execute()
    made = app(owner)
    made.open(BALANCE)
    made.page.get_by_text("Stolen cards.").wait_for()
    assert spend(made)["code"] == "PT403"
    assert made.page.get_by_role("button", name="Buy credits").count() == 0


def test_a_server_error_offers_another_try_and_a_missing_call_hides_its_panel(
    app: Make, user: Callable[..., User]
) -> None:
    made = app(user())
    made.page.route(
        "**/rpc/credit_lots",
        lambda route: answer(route, {"message": "no function", "code": "PGRST202"}, 404),
    )
    failing = True
    made.page.route(
        "**/rpc/credit_usage",
        lambda route: answer(route, {"message": "no", "code": "X"}, 500) if failing else route.continue_(),
    )
    made.open("<credits-dashboard></credits-dashboard>")
    made.page.get_by_role("heading", name="History").wait_for()
    again = made.page.locator("credits-usage").get_by_role("button", name="Try again")
    again.wait_for()
    failing = False
    again.click()
    made.page.get_by_text("Nothing was spent in these days.").wait_for()
    assert made.page.locator("credits-grants section").count() == 0


def test_history_pages_filters_and_saves(
    app: Make, user: Callable[..., User], service: Client, db: "psycopg.Connection[Any]"
) -> None:
    """Pages of 50, the filter in the address, Back, a row that arrives meanwhile, and the file."""
    owner = user()
    for number in range(60):
        service.rpc("grant_credits", {"user_id": owner.id, "amount": number + 1, "source": "promo"}).execute()
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    made = app(owner)
    sizes: list[int] = []
    made.page.on("response", lambda response: note_rows(sizes, response))
    made.open("<credits-history></credits-history>")
    rows = made.page.locator("credits-history [part=row]")
    rows.nth(49).wait_for()
    assert rows.count() == 50
    until(lambda: made.page.evaluate("document.querySelector('credits-history').snapshot.live"), 20)
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    rows.nth(50).wait_for()
    made.page.get_by_role("button", name="Show more").click()
    rows.nth(62).wait_for()
    assert rows.count() == 63
    balances = [text.replace(",", "") for text in rows.locator("td:nth-child(3)").all_inner_texts()]
    stored = owner.client.table("credit_transactions").select("balance_after").order("id", desc=True)
    assert balances == [str(row["balance_after"]) for row in stored.execute().data]  # type: ignore[call-overload, index]

    made.page.get_by_label("Kind").select_option("spend")
    until(lambda: rows.count() == 2, 20)
    assert "credits-kind=spend" in made.page.url
    with made.page.expect_download() as saved:
        made.page.get_by_role("button", name="Download CSV").click()
    lines = saved.value.path().read_text().splitlines()
    assert lines[0] == "id,time,kind,operation,quantity,credits,balance_after"
    assert len(lines) == 3
    assert all(",spend,stable_diffusion,1,-3," in line for line in lines[1:])
    made.page.go_back()
    until(lambda: rows.count() == 50, 20)
    made.page.go_forward()
    until(lambda: rows.count() == 2, 20)
    assert max(sizes) <= 51


def test_history_on_a_bad_network(app: Make, user: Callable[..., User], service: Client) -> None:
    """A new row whose reading fails comes later, and does not undo that more was asked for."""
    owner = user()
    for number in range(60):
        service.rpc("grant_credits", {"user_id": owner.id, "amount": number + 1, "source": "promo"}).execute()
    made = app(owner)
    made.open("<credits-history></credits-history>")
    rows = made.page.locator("credits-history [part=row]")
    rows.nth(49).wait_for()
    until(lambda: made.page.evaluate("document.querySelector('credits-history').snapshot.live"), 20)
    waiting: list[Any] = []
    failed = 0

    def hold(route: Any) -> None:
        nonlocal failed
        if route.request.method == "OPTIONS":
            route.continue_()
        elif "before" in route.request.post_data_json:
            waiting.append(route)
        elif failed:
            route.continue_()
        else:
            failed += 1
            route.abort()

    made.page.route("**/rpc/credit_history", hold)
    made.page.get_by_role("button", name="Show more").click()
    meanwhile(made, lambda: bool(waiting))
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    meanwhile(made, lambda: failed == 1)
    waiting.pop().continue_()
    rows.nth(60).wait_for()
    assert rows.count() == 61
    made.page.evaluate("dispatchEvent(new Event('online'))")
    rows.nth(61).wait_for()
    assert rows.first.inner_text().startswith("Stable diffusion")


def test_a_file_has_the_rows_of_one_user(app: Make, user: Callable[..., User]) -> None:
    """Another user signs in while it is made: there is none, and the next can have their own."""
    second = user()
    made = app(user())
    waiting: list[Any] = []

    def history(route: Any) -> None:
        if route.request.method == "OPTIONS":
            route.continue_()
        elif "before" in (asked := route.request.post_data_json):
            waiting.append(route)
        else:
            found = samples.history(1, 5 if asked["page_size"] == 200 and len(waiting) == 0 else None)
            answer(route, found)

    made.page.route("**/rpc/credit_history", history)
    saved: list[Any] = []
    made.page.on("download", lambda download: saved.append(download))
    made.open("<credits-history></credits-history>")
    made.page.get_by_role("button", name="Download CSV").click()
    meanwhile(made, lambda: bool(waiting))
    made.page.evaluate(
        "given => client.auth.signInWithPassword(given)", {"email": second.email, "password": second.password}
    )
    made.page.wait_for_function(
        "id => document.querySelector('credits-history').snapshot.user === id", arg=second.id
    )
    answer(waiting[0], samples.history(1))
    with made.page.expect_download():
        button = made.page.get_by_role("button", name="Download CSV")
        until(lambda: button.get_attribute("aria-disabled") == "false", 10)
        assert saved == []
        button.click()


def test_a_search_ends_when_nobody_waits_for_it(app: Make, user: Callable[..., User]) -> None:
    """Of a rare kind the database answers in parts; a removed element does not ask for the next."""
    made = app(user())
    asked: list[Any] = []

    def history(route: Any) -> None:
        if route.request.method != "OPTIONS":
            asked.append(route)
        answer(route, samples.history(0, 10**9 - len(asked)))

    made.page.route("**/rpc/credit_history", history)
    made.open("<credits-history></credits-history>")
    meanwhile(made, lambda: len(asked) > 2)
    made.page.evaluate("document.querySelector('credits-history').remove()")
    made.page.wait_for_timeout(500)
    before = len(asked)
    made.page.wait_for_timeout(500)
    assert len(asked) == before


def meanwhile(made: App, condition: Callable[[], bool]) -> None:
    """Wait until it is so, while the page's requests are answered."""

    def is_met() -> bool:
        made.page.wait_for_timeout(50)
        return condition()

    until(is_met, 10)


def note_rows(sizes: list[int], response: Any) -> None:
    """How many rows an answer of the history has that the table asked for."""
    if "credit_history" in response.url and response.request.method == "POST":
        asked = response.request.post_data_json
        if asked["page_size"] == 50:
            sizes.append(len(response.json()["rows"]))


def test_cells_of_the_file_are_no_formulas(app: Make, user: Callable[..., User]) -> None:
    made = app(user())
    made.open(BALANCE)
    cells = made.page.evaluate(
        "async (values) => (await import('/static/credits.js')).csvCell && values"
        ".map((await import('/static/credits.js')).csvCell)",
        ["=1+1", "+1", "-1", "@x", "a,b", 'a"b', "plain", -10, None],
    )
    assert cells == ["'=1+1", "'+1", "'-1", "'@x", '"a,b"', '"a""b"', "plain", "-10", ""]


def follow_redirects(made: App, base: str) -> None:
    """Have the page itself go where Stripe's page sends it: a redirect would pass by the app's own pages."""

    def passed_on(route: Any) -> None:
        got = route.fetch(max_redirects=0)
        if got.status != 303:
            route.fulfill(response=got)
            return
        target = html.escape(got.headers["location"])
        route.fulfill(content_type="text/html", body=f'<meta http-equiv="refresh" content="0; url={target}">')

    made.page.route(f"{base}/**", passed_on)


def test_buying_end_to_end(app: Make, user: Callable[..., User], env: Env) -> None:
    """A double click opens one session; the way back shows processing, and then the new balance."""
    if not env.stripe_api_base:
        pytest.skip("needs the local Stripe")
    made = app(user())
    follow_redirects(made, env.stripe_api_base)
    opened: list[str] = []
    made.page.on(
        "request",
        lambda request: (
            opened.append(request.url)
            if request.url.endswith("/checkout") and request.method == "POST"
            else None
        ),
    )
    made.open("<credits-dashboard></credits-dashboard>")
    shows(made, "10")
    made.page.get_by_role("button", name="Buy credits").click()
    made.page.get_by_role("button", name="Buy Popular").dblclick()
    made.page.locator("button.pay").click()
    made.page.get_by_text("200 credits were added.").wait_for()
    shows(made, "210")
    assert "credits-session" not in made.page.url
    assert len(opened) == 1


def test_an_account_that_a_purchase_opens_does_not_end_it(app: Make, user: Callable[..., User]) -> None:
    """The account is there before the checkout has answered: it is followed all the same."""
    made = app(user())
    made.table("user_credits", [])
    waiting: list[Any] = []

    def checkout(route: Any) -> None:
        if route.request.method == "OPTIONS":
            answer(route, {})
        else:
            waiting.append(route)

    made.page.route("**/functions/v1/checkout", checkout)
    made.open("<credits-purchase inline></credits-purchase>")
    made.page.evaluate(
        "() => addEventListener('credits-checkout', (event) => {"
        " event.preventDefault(); globalThis.gone = event.detail.url })"
    )
    button = made.page.get_by_role("button", name="Buy Popular")
    button.click()
    meanwhile(made, lambda: bool(waiting))
    made.table("user_credits", [samples.CREDITS])
    made.page.evaluate("dispatchEvent(new Event('online'))")
    made.page.wait_for_function(
        "document.querySelector('credits-purchase').snapshot.credits.account_id !== ''"
    )
    answer(waiting[0], {"url": "https://checkout.stripe.com/c/pay/1"})
    made.page.wait_for_function("globalThis.gone")
    assert button.get_attribute("aria-disabled") == "false"


def test_cancelling_a_purchase_changes_nothing(app: Make, user: Callable[..., User], env: Env) -> None:
    """The page comes back as it was, its own query included."""
    if not env.stripe_api_base:
        pytest.skip("needs the local Stripe")
    made = app(user())
    follow_redirects(made, env.stripe_api_base)
    made.open(f"<credits-purchase inline></credits-purchase>{BALANCE}", path="/?tab=a")
    made.page.get_by_role("button", name="Buy Starter").click()
    made.page.locator("button[value=abandon]").click()
    shows(made, "10")
    until(lambda: made.page.url == "http://127.0.0.1:3000/?tab=a", 10)


def test_it_loads_without_a_dom_and_twice(app: Make, user: Callable[..., User]) -> None:
    """In Node nothing of a browser is touched; in a browser two copies live side by side."""
    script = (
        "const m = await import('./functions/dashboard/client/index.js');"
        "console.log(JSON.stringify(Object.keys(m).length > 5))"
    )
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("true", "")
    made = app(user())
    made.open(BALANCE)
    assert made.page.evaluate(
        "Promise.all(['credits.js?again', 'credits-balance.js'].map((file) => import(`/static/${file}`)))"
        ".then(() => true)"
    )
    shows(made, "10")
    assert json.dumps(made.console).count("already been") == 0


def test_it_speaks_at_most_once_a_second(app: Make, user: Callable[..., User], service: Client) -> None:
    """However often the figure changes: the last one is told."""
    owner = user()
    service.rpc("grant_credits", {"user_id": owner.id, "amount": 90, "source": "promo"}).execute()
    made = app(owner)
    made.open(BALANCE)
    shows(made, "100")
    told = made.page.evaluate(
        """async () => {
          const status = document.querySelector('credits-balance').shadowRoot.querySelector('[role=status]')
          const at = []
          new MutationObserver(() => at.push([performance.now(), status.textContent]))
            .observe(status, { childList: true, characterData: true, subtree: true })
          const { createCredits } = await import('/static/credits.js')
          const credits = createCredits(client)
          for (let spend = 0; spend < 10; spend++) await credits.spend('stable_diffusion')
          await new Promise((resolve) => setTimeout(resolve, 2500))
          return at
        }"""
    )
    assert told[-1][1] == "70 credits available"
    assert all(later[0] - earlier[0] > 900 for earlier, later in itertools.pairwise(told))


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_day_is_the_users(app: Make, user: Callable[..., User], zone: str) -> None:
    """The zone is named; with the browser's, today is the day that the user's clock says."""
    owner = user()
    owner.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    made = app(owner, timezone_id=zone)
    made.open("<credits-usage></credits-usage><credits-history></credits-history>")
    made.page.get_by_text("Days of UTC", exact=True).wait_for()
    made.page.get_by_role("button", name=f"Use {zone}").click()
    made.page.get_by_text(f"Days of {zone}", exact=True).wait_for()
    today = made.page.evaluate("new Date().toLocaleDateString('en-US', { dateStyle: 'long' })")
    made.page.get_by_role("img", name=f"{today}: 3 credits spent").wait_for(state="attached")
    made.page.get_by_text(f"Times and days of {zone}").wait_for()
    moment = made.page.evaluate(
        "moment => new Date(moment).toLocaleString('en-US', { dateStyle: 'medium', timeStyle: 'short' })",
        made.page.locator("credits-history time").first.get_attribute("datetime"),
    )
    made.page.get_by_text(moment).first.wait_for()
