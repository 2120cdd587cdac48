/**
 * What must never be in a browser: the project's secret keys.
 * @module
 */

/**
 * The role that a JSON Web Token names, without verifying it; null for anything else.
 * @param {string} token
 * @returns {string | null}
 */
function roleOf(token) {
  try {
    const part = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const role = JSON.parse(atob(part)).role;
    return typeof role === "string" ? role : null;
  } catch {
    return null;
  }
}

/**
 * Whether a key or token opens more than a user's own rows.
 * @param {unknown} key
 * @returns {boolean}
 */
export function isSecret(key) {
  if (typeof key !== "string") return false;
  if (/^\s*sb_secret_/.test(key)) return true;
  const role = roleOf(key);
  return role !== null && role !== "anon" && role !== "authenticated";
}

/**
 * Throw when a key is one that a page may not have.
 * @param {...unknown} keys
 */
export function refuseSecrets(...keys) {
  if (keys.some(isSecret)) {
    throw new Error(
      "This is a secret key or a token of the service role, which must never reach a browser. Replace it in the " +
        "Supabase dashboard, and use the publishable key here.",
    );
  }
}
