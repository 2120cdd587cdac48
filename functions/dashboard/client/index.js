/**
 * Everything: importing it defines the elements.
 * @module
 */
export { CreditsBalance } from "./balance.js";
export { createCredits, InsufficientEvent } from "./credits.js";
export { CreditsDashboard } from "./dashboard.js";
export { CreditsError } from "./errors.js";
export { CreditsGrants } from "./grants.js";
export { CreditsHistory, csvCell } from "./history.js";
export { defineStrings } from "./language.js";
export { CreditsPurchase } from "./purchase.js";
export { CreditsUsage } from "./usage.js";
