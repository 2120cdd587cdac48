/**
 * Days of a time zone. The database counts in the account's; these are for what is shown.
 * @module
 */
import { dateFormat } from "./language.js";

/** The browser's zone. */
export function ownZone() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

/**
 * The options of a format in a zone, without it where the browser does not know it.
 * @param {string | undefined} zone
 * @returns {{ timeZone?: string }}
 */
export function inZone(zone) {
  try {
    if (zone) new Intl.DateTimeFormat("en", { timeZone: zone });
    return zone ? { timeZone: zone } : {};
  } catch {
    return {};
  }
}

/**
 * A date such as 2026-11-24 as people write it. A date has no zone.
 * @param {string} tag
 * @param {string} date
 * @param {Intl.DateTimeFormatOptions} options
 */
export function formatDay(tag, date, options) {
  return dateFormat(tag, { ...options, timeZone: "UTC" }).format(new Date(`${date}T00:00:00Z`));
}

/**
 * So many days later, or earlier.
 * @param {string} date such as 2026-11-24
 * @param {number} days
 */
export function addDays(date, days) {
  const moment = new Date(`${date}T00:00:00Z`);
  moment.setUTCDate(moment.getUTCDate() + days);
  return moment.toISOString().slice(0, 10);
}

/** Whether this is a date as the database and `<input type="date">` write it. @param {string} text */
export function isDate(text) {
  return /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(`${text}T00:00:00Z`));
}
