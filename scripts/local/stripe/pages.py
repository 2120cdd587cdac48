"""What a buyer sees in a browser: the checkout page and the billing portal. Plain HTML, no script."""

import re
from html import escape
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route as Path

from . import checkout, forms, subscriptions
from .deliver import Courier
from .errors import JSON, ApiError
from .params import ZERO_DECIMAL
from .payments import DECLINES
from .world import World

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1f36; background: #f6f8fa; margin: 0; }
main { max-width: 28rem; margin: 3rem auto; background: #fff; padding: 2rem; border-radius: 12px;
       box-shadow: 0 1px 3px #0003; }
.note { background: #fff4d6; border-radius: 6px; padding: .4rem .8rem; font-size: .85rem; }
.bad { background: #fde2e1; border-radius: 6px; padding: .4rem .8rem; }
h1 { font-size: 1rem; font-weight: 500; color: #596171; margin: 1rem 0 0; }
.total { font-size: 2.2rem; font-weight: 600; margin: 0 0 1rem; }
table { width: 100%; border-collapse: collapse; margin-bottom: 1rem; }
td { padding: .4rem 0; border-top: 1px solid #e6e8eb; } td:last-child { text-align: right; }
form { margin: .5rem 0; display: flex; gap: .5rem; }
input, select { flex: 1; min-width: 0; padding: .5rem; border: 1px solid #c9ced6; border-radius: 6px;
                font: inherit; }
button { flex: 1; padding: .6rem 1rem; border: 1px solid #c9ced6; border-radius: 6px; background: #fff;
         font: inherit; cursor: pointer; }
button.pay { background: #0a66d8; border-color: #0a66d8; color: #fff; font-weight: 600; }
small { color: #596171; }
"""


def money(amount: int, currency: str) -> str:
    """An amount in minor units, for people."""
    sign = "-" if amount < 0 else ""
    amount = abs(amount)
    text = f"{amount:,}" if currency in ZERO_DECIMAL else f"{amount // 100:,}.{amount % 100:02}"
    symbols = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}
    return f"{sign}{symbols[currency]}{text}" if currency in symbols else f"{sign}{text} {currency.upper()}"


def _html(title: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f'<style>{STYLE}</style></head><body><main><p class="note">Local Stripe: for development only. '
        f"No money moves.</p>{body}</main></body></html>",
        status,
        {
            "Content-Security-Policy": (
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
            ),
            "Cache-Control": "no-store",
        },
    )


def _button(value: str, text: str, kind: str = "") -> str:
    return f'<button name="do" value="{value}" class="{kind}">{escape(text)}</button>'


def checkout_page(session: JSON, problem: str | None = None) -> HTMLResponse:
    """The session as a page."""
    currency = session["currency"]
    rows = []
    for item in session["_items"]:
        recurring = item["price"]["recurring"]
        every = f" / {recurring['interval']}" if recurring else ""
        each = f"{money(item['price']['unit_amount'], currency)}{every}"
        quantity = f"{item['quantity']} &times; {each}"
        limits = item["adjustable_quantity"]
        if limits and limits["enabled"]:
            quantity = (
                f'<form method="post"><input type="hidden" name="item" value="{escape(item["id"])}">'
                f'<input name="quantity" type="number" value="{item["quantity"]}" min="{limits["minimum"]}" '
                f'max="{limits["maximum"]}" aria-label="Quantity">'
                f"{_button('quantity', 'Update')}</form>{each}"
            )
        rows.append(
            f"<tr><td>{escape(item['description'])}<br><small>{quantity}</small></td>"
            f"<td>{money(item['amount_subtotal'], currency)}</td></tr>"
        )
    off = session["total_details"]["amount_discount"]
    if off:
        rows.append(f"<tr><td>Discount</td><td>{money(-off, currency)}</td></tr>")
    trial = session["_subscription_data"].get("trial_period_days")
    if trial:
        rows.append(f"<tr><td>{int(trial)} days free, then the price above</td><td></td></tr>")
    code = (
        '<form method="post"><input name="code" placeholder="Promotion code" aria-label="Promotion code">'
        f"{_button('code', 'Apply')}</form>"
        if session["allow_promotion_codes"] else ""
    )  # fmt: skip
    fixed = (session["customer_details"] or {}).get("email")
    address = (
        f"<p><small>{escape(fixed)}</small></p>" if fixed
        else '<form method="post" id="pay"><input name="email" type="email" placeholder="you@example.com" '
        'aria-label="E-mail"></form>'
    )  # fmt: skip
    pay = "Subscribe" if session["mode"] == "subscription" else "Pay"
    later = (
        f'<form method="post">{_button("later", "Pay by bank debit (result later)")}</form>'
        if session["mode"] == "payment" and checkout.DELAYED in session["payment_method_types"] else ""
    )  # fmt: skip
    form = "" if fixed else ' form="pay"'
    reasons = "".join(f'<option value="{name}">{escape(name)}</option>' for name in DECLINES)
    return _html(
        "Checkout",
        f"<h1>{pay}</h1><p class='total'>{money(session['amount_total'], currency)}</p>"
        + (f'<p class="bad" role="alert">{escape(problem)}</p>' if problem else "")
        + f"<table>{''.join(rows)}</table>{code}{address}"
        + f'<form method="post"><button name="do" value="pay" class="pay"{form}>{pay} '
        f"{money(session['amount_total'], currency)}</button></form>{later}"
        + f'<form method="post"><select name="reason" aria-label="Reason">{reasons}</select>'
        f"{_button('decline', 'Decline the card')}</form>"
        + (
            f'<form method="post">{_button("abandon", "Go back to the shop")}</form>'
            if session["cancel_url"]
            else ""
        ),
    )


def success_url(session: JSON) -> str:
    """Where the buyer goes, with the session's id in place."""
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", quote(session["id"], safe=""))


def _on_checkout(world: World, session: JSON, form: dict[str, str]) -> Response:
    match form.get("do"):
        case "pay" | "later":
            address = form.get("email", "").strip()
            if address and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", address):
                return checkout_page(session, "Your email is incomplete.")
            checkout.complete(
                world, session, delayed=form["do"] == "later", address=address or "buyer@example.com"
            )
            return RedirectResponse(success_url(session), 303)
        case "decline":
            reason = form.get("reason", "")
            reason = reason if reason in DECLINES else "generic_decline"
            checkout.decline(world, session, reason)
            return checkout_page(session, DECLINES[reason])
        case "code":
            problem = checkout.apply_code(world, session, form.get("code", "").strip())
        case "quantity":
            quantity = form.get("quantity", "")
            problem = (
                checkout.set_quantity(world, session, form.get("item", ""), int(quantity))
                if re.fullmatch(r"\d{1,6}", quantity) else "Choose a whole number."
            )  # fmt: skip
        case "abandon" if session["cancel_url"]:
            return RedirectResponse(session["cancel_url"], 303)
        case _:
            problem = "Choose one of the buttons."
    return checkout_page(session, problem)


def portal_page(world: World, portal: JSON, done: str | None = None) -> HTMLResponse:
    """The customer's subscriptions with buttons."""
    customer = world.get("customer", portal["customer"])
    parts = [f"<h1>Billing of {escape(customer['email'] or customer['id'])}</h1>"]
    if done:
        parts.append(f'<p class="bad" role="status">{escape(done)}</p>')
    running = world.store.find("subscription", customer=customer["id"], ended_at=None)
    prices = [
        price for price in world.store.find("price", active=True, type="recurring")
        if price["product"] and running
    ]  # fmt: skip
    for subscription in running:
        item = subscription["items"]["data"][0]
        price = item["price"]
        hidden = f'<input type="hidden" name="subscription" value="{escape(subscription["id"])}">'
        name = world.get("product", price["product"])["name"]
        state = "ends with the period" if subscription["cancel_at_period_end"] else subscription["status"]
        toggle = (
            ("keep", "Keep it")
            if subscription["cancel_at_period_end"]
            else ("cancel", "Cancel at period end")
        )
        same = [
            other for other in prices
            if other["currency"] == price["currency"] and other["id"] != price["id"]
            and other["recurring"] == price["recurring"]
        ]  # fmt: skip
        parts.append(
            f"<table><tr><td>{escape(name)}<br><small>{escape(state)}</small></td><td>"
            f"{money(price['unit_amount'] * item['quantity'], price['currency'])}"
            f" / {price['recurring']['interval']}"
            f'</td></tr></table><form method="post">{hidden}{_button(*toggle)}</form>'
        )
        if same:
            options = "".join(
                f'<option value="{escape(other["id"])}">'
                f"{escape(world.get('product', other['product'])['name'])}, "
                f"{money(other['unit_amount'], other['currency'])}</option>"
                for other in same
            )
            parts.append(
                f'<form method="post">{hidden}<select name="price" aria-label="Plan">{options}</select>'
                f"{_button('switch', 'Switch')}</form>"
            )
    if not running:
        parts.append("<p>No subscriptions.</p>")
    if portal["return_url"]:
        parts.append(f'<p><a href="{escape(portal["return_url"], quote=True)}">Return to the shop</a></p>')
    return _html("Billing", "".join(parts))


def _on_portal(world: World, portal: JSON, form: dict[str, str]) -> Response:
    subscription = world.get("subscription", form.get("subscription", ""))
    if subscription["customer"] != portal["customer"]:
        return _html("Not found", "<p>No such subscription.</p>", 404)
    item = subscription["items"]["data"][0]
    match form.get("do"):
        case "cancel" | "keep":
            change: JSON = {"cancel_at_period_end": form["do"] == "cancel"}
        case "switch":
            change = {"items": [{"id": item["id"], "price": form.get("price", "")}],
                      "proration_behavior": "always_invoice"}  # fmt: skip
        case _:
            return portal_page(world, portal, "Choose one of the buttons.")
    subscriptions.update(world, change, subscription["id"])
    return portal_page(world, portal, "Done.")


def page_routes(world: World, courier: Courier) -> list[Path]:
    """The pages."""

    async def form_of(request: Request) -> dict[str, str]:
        tree = forms.decode((await request.body()).decode("utf-8", "replace"))
        return {name: value for name, value in tree.items() if isinstance(value, str)}

    async def checkout_route(request: Request) -> Response:
        session = world.store.get(request.path_params["session"])
        if session is None or session["object"] != "checkout.session":
            return _html("Not found", "<p>There is no such checkout page.</p>", 404)
        if session["status"] != "open":
            return _html("Checkout", f"<p>This checkout page is {escape(session['status'])}.</p>")
        if request.method == "GET":
            return checkout_page(session)
        form = await form_of(request)
        try:
            with world.store.transaction():
                answer = _on_checkout(world, world.get("checkout.session", session["id"]), form)
        except ApiError as error:
            return checkout_page(session, str(error))
        courier.wake.set()
        return answer

    async def portal_route(request: Request) -> Response:
        found = world.store.find("billing_portal.session", _secret=request.path_params["secret"])
        if not found:
            return _html("Not found", "<p>There is no such page.</p>", 404)
        if request.method == "GET":
            return portal_page(world, found[0])
        form = await form_of(request)
        try:
            with world.store.transaction():
                answer = _on_portal(world, found[0], form)
        except ApiError as error:
            return portal_page(world, found[0], str(error))
        courier.wake.set()
        return answer

    return [
        Path("/c/pay/{session}", checkout_route, methods=["GET", "POST"]),
        Path("/p/session/{secret}", portal_route, methods=["GET", "POST"]),
    ]
