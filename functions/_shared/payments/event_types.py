"""The list of Stripe events that are handled, and by which function of the database.

The endpoint in Stripe has to be subscribed to these, and reconciliation reads these. What the database does
with an event goes by the object in it: sql/payments/events/apply_stripe_object.sql.
"""

EVENT_TYPES = (
    # sql/payments/events/apply_checkout_session.sql
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    # sql/payments/events/apply_invoice.sql
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.voided",
    "invoice.marked_uncollectible",
    # sql/payments/events/apply_invoice_payment.sql
    "invoice_payment.paid",
    # sql/payments/events/apply_subscription.sql
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    # sql/payments/events/apply_refund.sql
    "refund.created",
    "refund.updated",
    "refund.failed",
    # sql/payments/events/apply_charge.sql
    "charge.succeeded",
    "charge.updated",
    "charge.refunded",
    # sql/payments/events/apply_dispute.sql
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
    # sql/payments/events/apply_fraud_warning.sql
    "radar.early_fraud_warning.created",
    # sql/payments/events/apply_customer.sql
    "customer.deleted",
)
