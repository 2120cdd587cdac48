"""What tests of several folders use: the ledger called directly, callers of the API, messages of Stripe."""
