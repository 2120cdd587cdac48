/**
 * A key that makes a retry safe.
 * @module
 */

/** @returns {string} */
export function newKey() {
  // randomUUID is there in secure contexts only.
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
