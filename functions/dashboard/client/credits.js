/**
 * What an app's own code uses: the balance as a store, and spending.
 * @module
 */
import { CreditsError } from "./errors.js";
import { newKey } from "./new_key.js";
import { storeOf } from "./store.js";

/** @typedef {import("./store.js").Client} Client */

/**
 * @typedef {object} SpendOptions
 * @property {number} [quantity] units of the operation; 1
 * @property {string} [idempotencyKey] one key for all tries; made when left out
 * @property {Record<string, unknown>} [metadata]
 * @property {(hold: Record<string, any>) => any} [run] with it the credits are held, and this is called with the hold:
 *   it asks the app's server for the work, which captures or releases the hold
 */

/**
 * @typedef {object} Quote
 * @property {string} operation
 * @property {number} quantity
 * @property {number} credits
 * @property {number} available
 * @property {boolean} affordable
 */

const TRIES = 5;
const PRICE_AGE = 60_000;
const LONGEST_WAIT = 60_000;
// Longer than the database may take, with what a request waits for a connection.
const NO_ANSWER = 25_000;

/** Tells of a spend that there were not enough credits for; `detail` has the figures. */
export class InsufficientEvent extends Event {
  /** @param {{ operation: string, required: number, available: number, shortfall: number }} detail */
  constructor(detail) {
    super("credits-insufficient");
    this.detail = detail;
  }
}

/** The signed-in user's credits. An event `credits-insufficient` tells of a spend that was refused for want of them. */
export class Credits extends EventTarget {
  /** @param {Client} client */
  constructor(client) {
    super();
    const store = storeOf(client);
    this.store = store;
    /** What there is to show now: a new object whenever something changes. */
    this.getSnapshot = store.getSnapshot;
    /** Be told of every new snapshot; returns what ends it. Nothing runs while nobody is. */
    this.subscribe = store.subscribe;
    /** @type {Map<string, { credits: number, at: number }>} */
    this.prices = new Map();
  }

  /** Read the balance now. */
  refresh() {
    return this.store.refresh();
  }

  /**
   * What the operation costs now, by the database's word.
   * @param {string} operation
   * @param {number} [quantity]
   * @returns {Promise<Quote>}
   */
  async quote(operation, quantity = 1) {
    const { data, error } = await this.store.read((client) => client.rpc("quote_credits", { operation, quantity }));
    if (error) throw error;
    this.prices.set(`${quantity} ${operation}`, { credits: data.credits, at: performance.now() });
    return data;
  }

  /**
   * Spend credits. Charged once, however often it has to be tried: without an answer, after 5xx and 429.
   * Throws CreditsError: 402 when there are too few (event `credits-insufficient`), 403 while the account is frozen.
   * @param {string} operation
   * @param {SpendOptions} [options]
   * @returns {Promise<any>} the ledger row; with `run` {hold, result}
   */
  async spend(operation, { quantity = 1, idempotencyKey = newKey(), metadata, run } = {}) {
    const { store } = this;
    const { turn } = store;
    const spend = {};
    let isOver = false;
    const claim = (/** @type {number} */ credits) => {
      if (!isOver && turn === store.turn) store.claim(spend, credits);
    };
    const price = this.prices.get(`${quantity} ${operation}`);
    if (price && performance.now() - price.at < PRICE_AGE) claim(price.credits);
    // For show only: the answer to the spend counts, and does not wait for this.
    else if (store.getSnapshot().credits)
      this.quote(operation, quantity).then(
        (quote) => claim(quote.credits),
        () => {},
      );

    const request = { operation, quantity, idempotency_key: idempotencyKey, ...(metadata && { metadata }) };
    try {
      const row = await this.insist(run ? "hold_credits" : "consume_credits", request);
      isOver = true;
      if (turn === store.turn) store.answered(spend, row);
      if (!run) return row;
      return { hold: row, result: await run(row) };
    } catch (error) {
      isOver = true;
      if (turn === store.turn) store.claim(spend, null);
      if (error instanceof CreditsError && error.status === 402) {
        this.dispatchEvent(new InsufficientEvent({ operation, .../** @type {any} */ (error.details) }));
      }
      throw error;
    } finally {
      store.signal();
    }
  }

  /**
   * Call until there is an answer that counts.
   * @private
   * @param {string} name
   * @param {Record<string, unknown>} request
   */
  async insist(name, request) {
    const user = await this.user();
    for (let attempt = 1; ; attempt++) {
      /** @type {string | null} */
      let after = null;
      const { data, error } = await this.store.read(async (client) => {
        // What one user has asked for is not charged to the next, who may have come between two tries.
        if (user !== (await this.user())) throw new CreditsError("You have signed out meanwhile.", { status: 401 });
        /** @type {any} */
        const builder = client.rpc(name, request);
        // postgrest-js does not hand out headers.
        const inner = builder.fetch;
        if (typeof inner === "function") {
          builder.fetch = async (/** @type {any[]} */ ...call) => {
            const response = await inner(...call);
            after = response.headers?.get("Retry-After") ?? null;
            return response;
          };
        }
        // On a bad network an answer may be lost without a word: the same key makes it safe to ask again.
        const giveUp = new AbortController();
        const timer = setTimeout(() => giveUp.abort(), NO_ANSWER);
        try {
          return await (builder.abortSignal?.(giveUp.signal) ?? builder);
        } finally {
          clearTimeout(timer);
        }
      });
      if (!error) return data;
      if (!error.isPassing || attempt === TRIES) throw error;
      const told = Number(after ?? /** @type {any} */ (error.details)?.retry_after);
      const wait = told > 0 ? told * 1000 : 250 * 2 ** attempt * (0.75 + Math.random() / 2);
      if (wait > LONGEST_WAIT) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** Whose token the next request goes with; null where the client does not say. @private */
  async user() {
    try {
      return (await this.store.client.auth.getSession()).data.session?.user.id ?? null;
    } catch {
      return null;
    }
  }
}

/** @type {WeakMap<object, Credits>} */
const made = new WeakMap();

/**
 * The credits of a supabase-js client's user; the same object for the same client. Throws when it has a secret key.
 * @param {Client} client
 * @returns {Credits}
 */
export function createCredits(client) {
  let credits = made.get(client);
  if (!credits) {
    credits = new Credits(client);
    made.set(client, credits);
  }
  return credits;
}
