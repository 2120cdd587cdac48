"""Payments: what talks with Stripe, and what Stripe tells."""
