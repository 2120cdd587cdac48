/**
 * Money: whole minor units of a currency, as Stripe and the tables have them.
 * @module
 */
import { formatNumber } from "./language.js";

// Where Stripe counts in other minor units than ISO 4217, by which `Intl` goes.
/** @type {Record<string, number>} */
const STRIPE_DIGITS = { ISK: 2, UGX: 2, MGA: 0 };

/**
 * How many digits of a figure of Stripe's stand behind the point.
 * @param {string} currency
 */
function digitsOf(currency) {
  const code = currency.toUpperCase();
  return (
    STRIPE_DIGITS[code] ??
    new Intl.NumberFormat("en", { style: "currency", currency: code }).resolvedOptions().maximumFractionDigits ??
    2
  );
}

/**
 * $4.99 for 499 and usd; ¥750 for 750 and jpy.
 * @param {string} tag
 * @param {number} amount
 * @param {string} currency
 */
export function formatMoney(tag, amount, currency) {
  const code = currency.toUpperCase();
  return formatNumber(tag, amount / 10 ** digitsOf(code), { style: "currency", currency: code });
}

/**
 * The price of one of many, with two digits more, which tell prices apart.
 * @param {string} tag
 * @param {number} amount
 * @param {string} currency
 */
export function formatUnitPrice(tag, amount, currency) {
  const digits = digitsOf(currency);
  return formatNumber(tag, amount / 10 ** digits, {
    style: "currency",
    currency: currency.toUpperCase(),
    minimumFractionDigits: digits + 2,
    maximumFractionDigits: digits + 2,
  });
}
