/**
 * The store: one user's credits, kept current. No DOM and no framework; works in Node, too.
 * @module
 */
import { CreditsError, fromPostgrest } from "./errors.js";
import { refuseSecrets } from "./keys.js";

/**
 * A row of the view `user_credits`, in whole credits.
 * @typedef {object} Credits
 * @property {string} account_id
 * @property {number} balance
 * @property {number} available
 * @property {number} held
 * @property {number} lifetime_granted
 * @property {number} lifetime_spent
 * @property {string | null} frozen_at
 * @property {"frozen" | "debt" | "empty" | "low" | "ok"} [status]
 * @property {number | null} [expires_next]
 * @property {string | null} [expires_next_at]
 * @property {number} [last_entry]
 */

/**
 * What there is to show. A new object whenever something changes, so that it can be compared by identity.
 * @typedef {object} Snapshot
 * @property {"loading" | "signed-out" | "error" | "ready"} status
 * @property {Credits | null} credits null until they were read
 * @property {string | null} user whose they are, by Auth; empty where the client does not say
 * @property {number} pending credits of spends that were not answered yet, already taken off `credits.available`
 * @property {CreditsError | null} error why the last reading failed; `credits` is then what was read before
 * @property {boolean} live whether changes are told at once; they are asked for now and then otherwise
 * @property {number} revision counts the changes of the balance: what depends on it is read again
 */

/**
 * The part of supabase-js that is used.
 * @typedef {import("@supabase/supabase-js").SupabaseClient<any, any, any>} Client
 */

const READ_APART = 1_000;
const POLL_LIVE = 60_000;
const POLL = 10_000;

/** @type {WeakMap<object, CreditsStore>} */
const stores = new WeakMap();

/**
 * The user's credits of one supabase-js client. Nothing runs until somebody subscribes, nor after the last has left.
 */
export class CreditsStore {
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {Snapshot} */
  #snapshot = { status: "loading", credits: null, user: null, pending: 0, error: null, live: false, revision: 0 };
  /** @type {Credits | null} as the server said last */
  #told = null;
  /** @type {string | null | undefined} undefined until Auth has told */
  #user = undefined;
  /** @type {string | null | undefined} the user whose credits are in the snapshot */
  #lastUser = undefined;
  /** @type {Map<object, number>} credits that spends under way will take */
  #claims = new Map();
  /** How many readings were begun, and which of them was answered last. */
  #begun = 0;
  #latest = 0;
  /** How many spends were answered. */
  #answers = 0;
  /** @type {Array<() => void>} what #stop() undoes */
  #undo = [];
  /** @type {any} */
  #channel = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer = undefined;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #soon = undefined;
  #began = -READ_APART;

  /** @param {Client} client */
  constructor(client) {
    refuseSecrets(/** @type {any} */ (client).supabaseKey);
    this.client = client;
    /** Counts the users: an answer for one before is thrown away. */
    this.turn = 0;
    this.subscribe = this.subscribe.bind(this);
    this.getSnapshot = this.getSnapshot.bind(this);
  }

  /** What there is to show now. */
  getSnapshot() {
    return this.#snapshot;
  }

  /**
   * Be told of every new snapshot. The first who subscribes starts the store, and the last who leaves stops it.
   * @param {() => void} listener
   * @returns {() => void} ends it
   */
  subscribe(listener) {
    const own = () => listener();
    this.#listeners.add(own);
    if (this.#listeners.size === 1) this.#start();
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) this.#stop();
    };
  }

  /** @param {Partial<Snapshot>} change */
  #set(change) {
    this.#snapshot = Object.freeze({ ...this.#snapshot, ...change });
    for (const listener of [...this.#listeners]) listener();
  }

  #start() {
    const signal = () => this.signal();
    if (typeof document !== "undefined") {
      const shown = () => document.visibilityState === "visible" && this.signal();
      document.addEventListener("visibilitychange", shown);
      addEventListener("online", signal);
      this.#undo.push(() => {
        document.removeEventListener("visibilitychange", shown);
        removeEventListener("online", signal);
      });
    }
    let auth;
    try {
      auth = this.client.auth;
      const { data } = auth.onAuthStateChange((event, session) => {
        // supabase-js holds a lock while it calls this: nothing here may wait for it.
        this.#signedIn(session?.user?.id ?? null, session?.access_token);
        if (event === "TOKEN_REFRESHED") this.signal();
      });
      this.#undo.push(() => data.subscription.unsubscribe());
    } catch {
      // The client has tokens from elsewhere (the option accessToken), and its user is whoever they name.
      this.#user = "";
      this.signal();
    }
  }

  #stop() {
    for (const undo of this.#undo.splice(0)) undo();
    this.#leave();
    clearTimeout(this.#timer);
    clearTimeout(this.#soon);
    this.#timer = this.#soon = undefined;
    // Whoever comes back sees what there was, while it is read anew. A reading under way is for nobody.
    this.turn += 1;
    this.#user = undefined;
    this.#snapshot = Object.freeze({ ...this.#snapshot, live: false });
  }

  /**
   * @param {string | null} user
   * @param {string | undefined} token
   */
  #signedIn(user, token) {
    try {
      refuseSecrets(token);
    } catch (error) {
      this.#forget();
      this.#user = null;
      this.#set({
        status: "error",
        error: new CreditsError(/** @type {Error} */ (error).message, { status: 400 }),
      });
      return;
    }
    if (user === this.#user) return;
    const before = this.#lastUser;
    this.#user = user;
    this.#lastUser = user;
    if (user === null || (before !== undefined && before !== user)) this.#forget();
    if (user === null) this.#set({ status: "signed-out", user });
    else {
      if (this.#snapshot.status !== "ready" || this.#snapshot.user !== user) this.#set({ status: "loading", user });
      this.#began = -READ_APART;
      this.signal();
    }
  }

  /** Throw away all that is known of a user. */
  #forget() {
    this.turn += 1;
    this.#leave();
    clearTimeout(this.#timer);
    clearTimeout(this.#soon);
    this.#timer = this.#soon = undefined;
    this.#told = null;
    this.#claims.clear();
    const revision = this.#snapshot.revision + 1;
    this.#set({ status: "loading", credits: null, user: null, pending: 0, error: null, live: false, revision });
  }

  /** Something may have changed: read, at most once a second. */
  signal() {
    if (!this.#listeners.size || this.#soon !== undefined || this.#user === null || this.#user === undefined) return;
    const wait = Math.max(0, this.#began + READ_APART - performance.now());
    this.#soon = setTimeout(() => {
      this.#soon = undefined;
      void this.refresh();
    }, wait);
  }

  /** Something is shown otherwise from now on, such as days: whatever depends on the balance is read again. */
  changed() {
    this.#set({ revision: this.#snapshot.revision + 1 });
  }

  /** Read now. */
  async refresh() {
    const turn = this.turn;
    const answers = this.#answers;
    const number = ++this.#begun;
    this.#began = performance.now();
    // Not only once there is an answer: on a bad network there may be none for ever.
    this.#poll();
    const { data, error } = await this.read((client) => client.from("user_credits").select("*").maybeSingle());
    if (turn !== this.turn || number < this.#latest) return;
    this.#latest = number;
    if (error?.isSignedOut) {
      this.#forget();
      this.#user = this.#lastUser = null;
      this.#set({ status: "signed-out", error });
      return;
    }
    if (error) this.#set({ status: this.#told ? "ready" : "error", error });
    // A spend was answered while this was under way: which is newer is told by the number of the last entry.
    else if (answers !== this.#answers && (data?.last_entry ?? -1) < (this.#told?.last_entry ?? 0)) this.signal();
    else {
      this.#tell(data ?? nothing);
      this.#join();
    }
    this.#poll();
  }

  /** Ask again later whatever happens: subscriptions may die without a word. */
  #poll() {
    clearTimeout(this.#timer);
    if (!this.#listeners.size || this.#user === null) return;
    this.#timer = setTimeout(
      () => {
        // A page that nobody sees asks when it is shown.
        if (typeof document === "undefined" || document.visibilityState === "visible") this.signal();
        else this.#poll();
      },
      this.#snapshot.live ? POLL_LIVE : POLL,
    );
  }

  /**
   * Show what the server has said, less what is under way.
   * @param {Credits} told
   */
  #tell(told) {
    const before = this.#told;
    this.#told = told;
    const changed =
      !before || before.balance !== told.balance || before.held !== told.held || before.last_entry !== told.last_entry;
    this.#set({
      status: "ready",
      error: null,
      revision: this.#snapshot.revision + (changed ? 1 : 0),
      ...this.#shown(),
    });
  }

  #shown() {
    const pending = [...this.#claims.values()].reduce((sum, credits) => sum + credits, 0);
    const credits =
      this.#told && Object.freeze({ ...this.#told, available: Math.max(0, this.#told.available - pending) });
    return { credits, pending };
  }

  /**
   * Make a request of the user's. Refused for the token, it is made once more with a new one.
   * @template T
   * @param {(client: Client) => PromiseLike<{ data: T, error: any, status?: number }>} request
   * @returns {Promise<{ data: T | null, error: CreditsError | null }>}
   */
  async read(request) {
    for (let attempt = 0; ; attempt++) {
      const { data, error, status } = await request(this.client);
      if (!error) return { data, error: null };
      const failure = fromPostgrest(error, status);
      if (!failure.isSignedOut || attempt > 0 || !(await this.#renew())) return { data: null, error: failure };
    }
  }

  /** A new token; false when there is none to be had. */
  async #renew() {
    try {
      return Boolean((await this.client.auth.refreshSession()).data.session);
    } catch {
      return false;
    }
  }

  /** Listen to changes of the account's row. A signal only: what it says is read. */
  #join() {
    const account = this.#told?.account_id;
    if (!account || this.#channel || !this.#listeners.size) return;
    try {
      const channel = this.client.channel(`credits-${account}-${this.turn}`);
      this.#channel = channel;
      channel
        .on(
          "postgres_changes",
          { event: "*", schema: "public", table: "credit_accounts", filter: `id=eq.${account}` },
          () => this.signal(),
        )
        .subscribe((state) => {
          if (this.#channel !== channel) return;
          // The server has ended it, and supabase-js does not join it again: the next reading does.
          if (state === "CLOSED") this.#channel = null;
          const live = state === "SUBSCRIBED";
          if (live !== this.#snapshot.live) this.#set({ live });
          if (live) this.signal();
          else this.#poll();
        });
    } catch {
      // There is no Realtime, or no WebSocket: the balance is asked for.
      this.#channel = null;
    }
  }

  #leave() {
    const { client } = this;
    const channel = this.#channel;
    this.#channel = null;
    if (!channel) return;
    Promise.resolve(client.removeChannel(channel))
      // supabase-js would keep the socket for a while; where nobody needs it, it goes.
      .then(() => {
        if (!client.getChannels().length) void client.realtime.disconnect();
      })
      .catch(() => {});
  }

  /**
   * Take credits off what is shown until a spend is answered, or with null no more.
   * @param {object} spend
   * @param {number | null} credits
   */
  claim(spend, credits) {
    if (credits === null ? this.#claims.delete(spend) : this.#claims.set(spend, credits)) this.#set(this.#shown());
  }

  /**
   * What the answer to a spend says of the balance, unless something newer is known.
   * @param {object} spend
   * @param {any} row the ledger row, or the hold
   */
  answered(spend, row) {
    this.#answers += 1;
    this.#claims.delete(spend);
    const told = this.#told;
    if (told && row.expires_at) {
      this.#tell({ ...told, held: told.held + row.amount, available: Math.max(0, told.available - row.amount) });
    } else if (told && row.id > (told.last_entry ?? 0)) {
      const available = Math.max(0, row.balance_after - told.held);
      this.#tell({ ...told, balance: row.balance_after, available, last_entry: row.id });
    } else this.#set(this.#shown());
    this.signal();
  }
}

/** A user without an account: it opens with the first grant. @type {any} */
const nothing = Object.freeze({
  account_id: "",
  balance: 0,
  available: 0,
  held: 0,
  lifetime_granted: 0,
  lifetime_spent: 0,
  frozen_at: null,
  status: "empty",
});

/**
 * The store of a client; the same for the same client. Throws when the client has a secret key.
 * @param {Client} client
 * @returns {CreditsStore}
 */
export function storeOf(client) {
  let store = stores.get(client);
  if (!store) {
    store = new CreditsStore(client);
    stores.set(client, store);
  }
  return store;
}
