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
  debt: {
    one: "{count} credit is owed and comes off the next ones.",
    other: "{count} credits are owed and come off the next ones.",
  },
  held: "{count} on hold",
  expires: { one: "{count} expires on {date}", other: "{count} expire on {date}" },
};

/** @param {import("../language.js").Texts} texts */
const withSources = (texts) => ({ ...sources, ...texts });

const sources = {
  source_purchase: "Purchase",
  source_subscription: "Subscription",
  source_bonus: "Bonus",
  source_referral: "Referral",
  source_promo: "Promotion",
  source_refund: "Refund",
};

// A call that is marked so is left out of what does not use it; an object with ... in it is not.
export const history = /* @__PURE__ */ withSources({
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
});

export const purchase = {
  shop: "Buy credits",
  close: "Close",
  packages: "Packages",
  plans: "Plans",
  currency: "Currency",
  popular: "Most popular",
  credits: { one: "{count} credit", other: "{count} credits" },
  each: "{price} a credit",
  saving_percent: "Saves {percent}",
  every_day: { one: "every day", other: "every {count} days" },
  every_week: { one: "a week", other: "every {count} weeks" },
  every_month: { one: "a month", other: "every {count} months" },
  every_year: { one: "a year", other: "every {count} years" },
  trial: { one: "{count} day free", other: "{count} days free" },
  package_choose: "Buy",
  package_choose_this: "Buy {name}",
  plan_choose: "Subscribe",
  plan_choose_this: "Subscribe to {name}",
  opening: "Opening the payment page …",
  nothingSold: "Nothing is sold at the moment.",
  badLink: "The payment page has an address that cannot be opened.",
  processing: "Your payment is being processed. Credits come as soon as it is confirmed.",
  slow: "This takes longer than usual. You need not wait: credits come by themselves.",
  paid: { one: "{count} credit was added.", other: "{count} credits were added." },
  subscribed: "You are subscribed.",
  payment_failed: "The payment failed. Nothing was charged.",
  payment_expired: "The payment was not finished. Nothing was charged.",
};

export const grants = /* @__PURE__ */ withSources({
  grants: "Where your credits come from",
  noGrants: "No credits yet.",
  left: "{remaining} of {amount} left",
  state_active: "In use",
  state_lapsed: "Expired, on hold",
  state_used: "Used up",
  state_expired: "Expired",
  expiresOn: "Expires on {date}",
  expiredOn: "Expired on {date}",
  never: "Does not expire",
  next: "Spent next",
  ended: "Earlier",
  moreEnded: "Show earlier ones",
});

export const usage = {
  usage: "Usage",
  range_7: "7 days",
  range_30: "30 days",
  range_90: "90 days",
  range: "Range",
  by: "By",
  by_operation: "Operation",
  by_provider: "Provider",
  spent: { one: "{count} credit spent", other: "{count} credits spent" },
  less: "{percent} less than in the {days} days before",
  same: "As much as in the {days} days before",
  morethan: "{percent} more than in the {days} days before",
  bar: "{date}: {credits}",
  others: "Others",
  total: "Total",
  day: "Day",
  noUsage: "Nothing was spent in these days.",
  daysOf: "Days of {zone}",
  useZone: "Use {zone}",
  chart: "Credits spent by day. Arrow keys go from day to day.",
};

export const page = {
  signIn: "Sign in",
  email: "E-mail",
  password: "Password",
  withCode: "E-mail me a code instead",
  withPassword: "Use a password instead",
  sendCode: "Send code",
  code: "Code from the e-mail",
  codeSent: "If there is an account with this address, a code is on its way.",
  signOut: "Sign out",
  wrong: "That did not work. {reason}",
  noKey: "This page was given no address or key of a project.",
};
