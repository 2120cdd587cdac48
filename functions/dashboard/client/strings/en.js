/**
 * The words in English, which stand for every other language until somebody gives them. One group for each element,
 * so that a page loads what it shows.
 * @module
 */

export const common = {
  loading: "Loading",
  failed: "This could not be loaded.",
  retry: "Try again",
  signedOut: "Sign in to see your credits.",
  stale: "Not up to date",
};

export const balance = {
  title: "Credits",
  available: { one: "{count} credit available", other: "{count} credits available" },
  buy: "Buy credits",
  low: "Running low",
  empty: "None left",
  frozen: "Paused",
  frozenWhy: "Your credits are paused and cannot be spent. {reason}",
  frozenDispute: "A payment is disputed.",
  debt: { one: "{count} credit is owed and comes off the next ones.", other: "{count} credits are owed and come off the next ones." },
  held: "{count} on hold",
  expires: { one: "{count} expires on {date}", other: "{count} expire on {date}" },
};

const sources = {
  source_purchase: "Purchase",
  source_subscription: "Subscription",
  source_bonus: "Bonus",
  source_referral: "Referral",
  source_promo: "Promotion",
  source_refund: "Refund",
};

export const history = {
  ...sources,
  history: "History",
  entry: "Entry",
  amount: "Credits",
  balanceAfter: "Balance",
  kind: "Kind",
  operation: "Operation",
  from: "From",
  to: "To",
  all: "All",
  kind_grant: "Credits added",
  kind_spend: "Spent",
  kind_capture: "Used after a hold",
  kind_refund: "Given back",
  kind_clawback: "Taken back",
  kind_expiry: "Expired",
  csv: "Download CSV",
  saving: "Preparing …",
  more: "Show more",
  none: "Nothing has happened yet. What you buy and spend will stand here.",
  noneFiltered: "Nothing matches these filters.",
  zone: "Times and days of {zone}",
};
