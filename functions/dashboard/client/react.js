/**
 * For React 18 and 19: the elements as components, and the balance as a hook.
 * @module
 */
import { createComponent } from "@lit/react";
import * as React from "react";
import { createCredits } from "./credits.js";
import * as elements from "./index.js";

/**
 * The user's credits, kept current while the component is shown.
 * @param {import("./store.js").Client} client the app's supabase-js client
 * @returns {import("./store.js").Snapshot & { spend: import("./credits.js").Credits["spend"] }}
 */
export function useCredits(client) {
  const credits = createCredits(client);
  const snapshot = React.useSyncExternalStore(credits.subscribe, credits.getSnapshot, credits.getSnapshot);
  return React.useMemo(() => ({ ...snapshot, spend: credits.spend.bind(credits) }), [snapshot, credits]);
}

export const CreditsBalance = createComponent({
  react: React,
  tagName: "credits-balance",
  elementClass: elements.CreditsBalance,
  events: { onCreditsBuy: "credits-buy" },
});
export const CreditsDashboard = createComponent({
  react: React,
  tagName: "credits-dashboard",
  elementClass: elements.CreditsDashboard,
  events: {
    onCreditsBuy: "credits-buy",
    onCreditsCheckout: "credits-checkout",
    onCreditsPurchased: "credits-purchased",
  },
});
export const CreditsGrants = createComponent({
  react: React,
  tagName: "credits-grants",
  elementClass: elements.CreditsGrants,
});
export const CreditsHistory = createComponent({
  react: React,
  tagName: "credits-history",
  elementClass: elements.CreditsHistory,
});
export const CreditsPurchase = createComponent({
  react: React,
  tagName: "credits-purchase",
  elementClass: elements.CreditsPurchase,
  events: { onCreditsCheckout: "credits-checkout", onCreditsPurchased: "credits-purchased" },
});
export const CreditsUsage = createComponent({
  react: React,
  tagName: "credits-usage",
  elementClass: elements.CreditsUsage,
});
