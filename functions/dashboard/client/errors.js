/**
 * What PostgREST, Auth and the functions say when something went wrong, in one form.
 * @module
 */

/** An answer that is not what was asked for. `status` is 0 when there was no answer at all. */
export class CreditsError extends Error {
  /**
   * @param {string} message
   * @param {{ status?: number, code?: string, details?: unknown, hint?: string }} [more]
   */
  constructor(message, { status = 0, code = "", details = null, hint = "" } = {}) {
    super(message);
    this.name = "CreditsError";
    this.status = status;
    this.code = code;
    this.details = details;
    this.hint = hint;
  }

  /** Whether the same call may go well a little later. */
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  /** Whether the user has to sign in. */
  get isSignedOut() {
    return this.status === 401;
  }

  /** Whether the database, or the functions, have no such call, table or column: an older release, or not deployed. */
  get isMissing() {
    return ["PGRST202", "PGRST205", "42883", "42P01", "42703", "NOT_FOUND"].includes(this.code);
  }
}

/**
 * The figures that PostgREST passes on as JSON text.
 * @param {unknown} text
 * @returns {unknown}
 */
function figures(text) {
  if (typeof text !== "string") return text ?? null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * @param {{ message?: string, code?: string, details?: unknown, hint?: string | null }} error
 * @param {number | undefined} status
 * @returns {CreditsError}
 */
export function fromPostgrest(error, status) {
  const code = error.code ?? "";
  const details = figures(error.details);
  // 42501 without a session is 401: the caller is nobody. With one it is 403.
  return new CreditsError(error.message || "The request failed.", {
    status: status || 0,
    code,
    details,
    hint: error.hint ?? "",
  });
}

/**
 * An error of `client.functions.invoke`, whose answer has the sentence.
 * @param {any} error
 * @returns {Promise<CreditsError>}
 */
export async function fromFunction(error) {
  const answer = error?.context;
  if (typeof answer?.status !== "number") return new CreditsError(error?.message ?? "The request failed.");
  /** @type {any} */
  const body = await answer.json().catch(() => ({}));
  return new CreditsError(body.message || body.error || "The request failed.", {
    status: answer.status,
    code: typeof body.code === "string" ? body.code : "",
    details: figures(body.details),
    hint: body.hint ?? "",
  });
}
