"""Products, prices, coupons, promotion codes, and what a discount takes off."""

from typing import Any

from .errors import JSON, ApiError
from .params import (
    MAX_AMOUNT,
    PAGE,
    Fields,
    Required,
    boolean,
    currency,
    decimal,
    integer,
    list_of,
    metadata,
    one_of,
    record,
    text,
    url,
)
from .routes import route
from .world import World, merged, new_id, refuse

AMOUNT = integer(0, MAX_AMOUNT)
PRODUCT_DATA: Fields = {
    "name": Required(text(250)), "description": text(40000), "metadata": metadata, "images": list_of(url, 8),
    "unit_label": text(12),
}  # fmt: skip
RECURRING: Fields = {
    "interval": Required(one_of("day", "week", "month", "year")), "interval_count": integer(1, 1095),
}  # fmt: skip


# -- products --------------------------------------------------------------------------------------


def create_product(world: World, p: JSON, active: bool = True) -> JSON:
    """A new product."""
    return world.create(
        {
            "id": p.get("id") or new_id("prod_", 14),
            "object": "product",
            "active": p.get("active", active),
            "created": world.now(),
            "default_price": None,
            "description": p.get("description"),
            "images": p.get("images", []),
            "livemode": False,
            "marketing_features": [],
            "metadata": p.get("metadata", {}),
            "name": p["name"],
            "package_dimensions": None,
            "shippable": None,
            "statement_descriptor": None,
            "tax_code": None,
            "unit_label": p.get("unit_label"),
            "updated": world.now(),
            "url": None,
        },
        "product.created",
    )


@route("POST", "/v1/products", {**PRODUCT_DATA, "id": text(), "active": boolean})
def product_create(world: World, p: JSON) -> JSON:
    """Create."""
    if p.get("id") and world.store.get(p["id"]):
        raise refuse("Product already exists.", "resource_already_exists", "id")
    return create_product(world, p)


@route("GET", "/v1/products/{product}")
def product_retrieve(world: World, p: JSON, product: str) -> JSON:
    """Retrieve."""
    return world.get("product", product)


@route("GET", "/v1/products", {**PAGE, "active": boolean})
def product_list(world: World, p: JSON) -> JSON:
    """List."""
    return world.listing("product", "/v1/products", p, ["active"])


@route("POST", "/v1/products/{product}",
       {"name": text(250), "description": text(40000), "active": boolean, "metadata": metadata})  # fmt: skip
def product_update(world: World, p: JSON, product: str) -> JSON:
    """Update."""
    found = world.get("product", product)
    changes = {name: p[name] for name in ("name", "description", "active") if name in p}
    return world.change(
        found, "product.updated", **changes, metadata=merged(found["metadata"], p.get("metadata"))
    )


# -- prices ----------------------------------------------------------------------------------------


def create_price(world: World, p: JSON, inline: bool = False) -> JSON:
    """A new price. One made inline, by price_data, is not active, as Stripe's."""
    recurring: Any = p.get("recurring")
    if recurring:
        recurring = {
            "interval": recurring["interval"],
            "interval_count": recurring.get("interval_count", 1),
            "meter": None,
            "usage_type": "licensed",
        }
    return world.create(
        {
            "id": new_id("price_"),
            "object": "price",
            "active": p.get("active", not inline),
            "billing_scheme": "per_unit",
            "created": world.now(),
            "currency": p["currency"],
            "custom_unit_amount": None,
            "livemode": False,
            "lookup_key": p.get("lookup_key"),
            "metadata": p.get("metadata", {}),
            "nickname": p.get("nickname"),
            "product": p["product"],
            "recurring": recurring,
            "tax_behavior": p.get("tax_behavior", "unspecified"),
            "tiers_mode": None,
            "transform_quantity": None,
            "type": "recurring" if recurring else "one_time",
            "unit_amount": p["unit_amount"],
            "unit_amount_decimal": str(p["unit_amount"]),
        },
        None if inline else "price.created",
    )


@route("POST", "/v1/prices", {
    "currency": Required(currency), "unit_amount": Required(AMOUNT), "product": text(),
    "product_data": record({name: PRODUCT_DATA[name] for name in ("name", "metadata", "unit_label")}),
    "recurring": record(RECURRING), "metadata": metadata, "nickname": text(), "lookup_key": text(200),
    "active": boolean, "tax_behavior": one_of("exclusive", "inclusive", "unspecified"),
})  # fmt: skip
def price_create(world: World, p: JSON) -> JSON:
    """Create, for a product that is there or one made with it."""
    return create_price(world, {**p, "product": _product(world, p, "")})


def _product(world: World, p: JSON, path: str) -> str:
    param = f"{path}[product]" if path else "product"
    if ("product" in p) == ("product_data" in p):
        raise ApiError(
            f"You must specify exactly one of `{param}` and `{param}_data`.", param=param, validation=True
        )
    if "product" in p:
        return str(world.get("product", p["product"], param)["id"])
    return str(create_product(world, p["product_data"])["id"])


@route("GET", "/v1/prices/{price}")
def price_retrieve(world: World, p: JSON, price: str) -> JSON:
    """Retrieve."""
    return world.get("price", price)


@route("GET", "/v1/prices", {
    **PAGE, "active": boolean, "product": text(), "type": one_of("one_time", "recurring"),
    "currency": currency,
})  # fmt: skip
def price_list(world: World, p: JSON) -> JSON:
    """List."""
    return world.listing("price", "/v1/prices", p, ["active", "product", "type", "currency"])


@route("POST", "/v1/prices/{price}",
       {"active": boolean, "metadata": metadata, "nickname": text(), "lookup_key": text(200)})  # fmt: skip
def price_update(world: World, p: JSON, price: str) -> JSON:
    """Update; amount and currency of a price never change."""
    found = world.get("price", price)
    changes = {name: p[name] for name in ("active", "nickname", "lookup_key") if name in p}
    return world.change(
        found, "price.updated", **changes, metadata=merged(found["metadata"], p.get("metadata"))
    )


PRICE_DATA: Fields = {
    "currency": Required(currency), "unit_amount": Required(AMOUNT), "product": text(),
    "product_data": record(PRODUCT_DATA), "recurring": record(RECURRING),
    "tax_behavior": one_of("exclusive", "inclusive", "unspecified"),
}  # fmt: skip


def price_of(world: World, p: JSON, path: str) -> JSON:
    """The price that `price` or `price_data` of a parameter means."""
    if ("price" in p) == ("price_data" in p):
        raise ApiError(
            f"You must specify exactly one of `{path}[price]` and `{path}[price_data]`.",
            param=path, validation=True,
        )  # fmt: skip
    if "price" in p:
        price = world.get("price", p["price"], f"{path}[price]")
        if not price["active"]:
            raise refuse(
                f"The price specified is inactive. This field only accepts active prices: {price['id']}",
                param=f"{path}[price]",
            )
        return price
    data = p["price_data"]
    product = _product(world, data, f"{path}[price_data]")
    return create_price(world, {**data, "product": product}, inline=True)


# -- coupons and promotion codes -------------------------------------------------------------------


@route("POST", "/v1/coupons", {
    "id": text(), "percent_off": decimal, "amount_off": integer(1, MAX_AMOUNT), "currency": currency,
    "duration": one_of("forever", "once", "repeating"), "duration_in_months": integer(1),
    "max_redemptions": integer(1), "redeem_by": integer(0), "name": text(40), "metadata": metadata,
})  # fmt: skip
def coupon_create(world: World, p: JSON) -> JSON:
    """Create."""
    if ("percent_off" in p) == ("amount_off" in p):
        raise ApiError("You must pass exactly one of percent_off and amount_off.", param="percent_off")
    if "amount_off" in p and "currency" not in p:
        raise ApiError("You must pass currency when passing amount_off.", param="currency")
    duration = p.get("duration", "once")
    if (duration == "repeating") != ("duration_in_months" in p):
        raise ApiError(
            "duration_in_months is required with duration repeating, and only then.",
            param="duration_in_months",
        )
    if p.get("id") and world.store.get(p["id"]):
        raise refuse("Coupon already exists.", "resource_already_exists", "id")
    return world.create(
        {
            "id": p.get("id") or new_id("", 8),
            "object": "coupon",
            "amount_off": p.get("amount_off"),
            "created": world.now(),
            "currency": p.get("currency"),
            "duration": duration,
            "duration_in_months": p.get("duration_in_months"),
            "livemode": False,
            "max_redemptions": p.get("max_redemptions"),
            "metadata": p.get("metadata", {}),
            "name": p.get("name"),
            "percent_off": p.get("percent_off"),
            "redeem_by": p.get("redeem_by"),
            "times_redeemed": 0,
            "valid": True,
        },
        "coupon.created",
    )


@route("GET", "/v1/coupons/{coupon}")
def coupon_retrieve(world: World, p: JSON, coupon: str) -> JSON:
    """Retrieve."""
    return world.get("coupon", coupon)


@route("POST", "/v1/promotion_codes", {
    "promotion": Required(record({"type": Required(one_of("coupon")), "coupon": Required(text())})),
    "code": text(500, r"[A-Za-z0-9_-]+"), "active": boolean, "customer": text(), "expires_at": integer(0),
    "max_redemptions": integer(1), "metadata": metadata,
    "restrictions": record({
        "first_time_transaction": boolean, "minimum_amount": integer(1), "minimum_amount_currency": currency,
    }),
})  # fmt: skip
def promotion_code_create(world: World, p: JSON) -> JSON:
    """Create."""
    coupon = world.get("coupon", p["promotion"]["coupon"], "promotion[coupon]")
    code = p.get("code") or new_id("", 8).upper()
    if find_promotion_code(world, code):
        raise refuse(f"An active promotion code with `code: {code}` already exists.", param="code")
    restrictions = p.get("restrictions", {})
    return world.create(
        {
            "id": new_id("promo_"),
            "object": "promotion_code",
            "active": p.get("active", True),
            "code": code,
            "created": world.now(),
            "customer": p.get("customer"),
            "expires_at": p.get("expires_at"),
            "livemode": False,
            "max_redemptions": p.get("max_redemptions"),
            "metadata": p.get("metadata", {}),
            "promotion": {"type": "coupon", "coupon": coupon["id"]},
            "restrictions": {
                "first_time_transaction": restrictions.get("first_time_transaction", False),
                "minimum_amount": restrictions.get("minimum_amount"),
                "minimum_amount_currency": restrictions.get("minimum_amount_currency"),
            },
            "times_redeemed": 0,
        },
        "promotion_code.created",
    )


@route("GET", "/v1/promotion_codes/{promotion_code}")
def promotion_code_retrieve(world: World, p: JSON, promotion_code: str) -> JSON:
    """Retrieve."""
    return world.get("promotion_code", promotion_code)


@route("GET", "/v1/promotion_codes", {**PAGE, "code": text(), "active": boolean, "coupon": text()})
def promotion_code_list(world: World, p: JSON) -> JSON:
    """List."""
    where = {"promotion__coupon": p["coupon"]} if p.get("coupon") else {}
    return world.listing("promotion_code", "/v1/promotion_codes", p, ["code", "active"], **where)


def find_promotion_code(world: World, code: str) -> JSON | None:
    """The active promotion code with this text; case does not matter."""
    for found in world.store.find("promotion_code", active=True):
        if found["code"].lower() == code.lower():
            return found
    return None


def usable(world: World, coupon: JSON, promotion_code: JSON | None, subtotal: int, money: str) -> str | None:
    """Why a discount cannot be used now, in one sentence; None when it can."""
    for thing in (coupon, promotion_code):
        if thing and thing["max_redemptions"] and thing["times_redeemed"] >= thing["max_redemptions"]:
            return "This code has been used as often as it may be."
    ends = coupon["redeem_by"], promotion_code and promotion_code["expires_at"]
    if any(end and end <= world.now() for end in ends):
        return "This code has expired."
    if coupon["amount_off"] and coupon["currency"] != money:
        return "This code is for another currency."
    least = promotion_code and promotion_code["restrictions"]["minimum_amount"]
    if least and subtotal < least:
        return "This code needs a larger order."
    return None


def redeem(world: World, coupon_id: str, promotion_code_id: str | None) -> None:
    """Count a use."""
    coupon = world.get("coupon", coupon_id)
    used = coupon["times_redeemed"] + 1
    most = coupon["max_redemptions"]
    world.change(coupon, "coupon.updated", times_redeemed=used, valid=not (most and used >= most))
    if promotion_code_id:
        code = world.get("promotion_code", promotion_code_id)
        used, most = code["times_redeemed"] + 1, code["max_redemptions"]
        world.change(
            code, "promotion_code.updated",
            times_redeemed=used, active=code["active"] and not (most and used >= most),
        )  # fmt: skip


def discounted(amounts: list[int], coupon: JSON | None) -> list[int]:
    """What a coupon takes off each of these amounts (minor units), never more than it."""
    if not coupon:
        return [0] * len(amounts)
    if coupon["percent_off"]:
        return [round(amount * coupon["percent_off"] / 100) for amount in amounts]
    left, off = coupon["amount_off"], []
    for amount in amounts:
        off.append(min(left, amount))
        left -= off[-1]
    return off
