r"""A local Stripe for development and tests: the part of the API that this project calls, on loopback.

    STRIPE_SECRET_KEY=sk_test_x STRIPE_WEBHOOK_SECRET=whsec_x python -m scripts.local.stripe \\
        --port 12111 --database /tmp/stripe.db --webhook-url http://127.0.0.1:54321/functions/v1/stripe-webhook

    stripe.StripeClient(key, base_addresses={"api": "http://127.0.0.1:12111"}).v1.customers.create()

It speaks version 2026-08-26.dahlia, strictly: a parameter that it does not know is refused. A page at each
session's `url` lets a person pay, decline or abandon. Events are signed and posted to the webhook URL, and
posted again until a 2xx. State is one SQLite file, so a restart remembers. `scripts/stack start` runs it.

    app            keys, idempotency, errors, one transaction a request
    forms, params  Stripe's form encoding; what each request may say
    world, store   objects, events, the clock; SQLite below
    customers, catalog, checkout, payments, refunds, disputes, subscriptions, invoices, portal, events
                   the endpoints and the life cycles behind them
    expand         ids in answers become objects
    clock          what falls due: expiry, renewal, retries
    deliver        webhooks
    pages          the checkout page and the billing portal
    controls       POST /_control/VERB: what a test may do; control.py is the client and its reference

What it does not do: taxes, shipping, mode setup, one-time prices beside a subscription, changing a
subscription's interval, Connect, invoice.upcoming.
"""
