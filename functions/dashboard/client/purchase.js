/**
 * `<credits-purchase>`: what is sold, and the way to Stripe's page and back.
 * @module
 */
import { html, nothing } from "lit/html.js";
import { controls } from "./controls.js";
import { CreditsElement } from "./element.js";
import { CreditsError, fromFunction } from "./errors.js";
import { newKey } from "./new_key.js";
import { formatMoney, formatUnitPrice } from "./money.js";
import { css, define } from "./reactive.js";
import { purchase as texts } from "./strings/en.js";
import { base } from "./styles.js";

/** @typedef {import("./store.js").Snapshot} Snapshot */

/**
 * A row of `credit_packages` or `subscription_plans`.
 * @typedef {object} Offer
 * @property {string} slug
 * @property {string} name
 * @property {number} credits
 * @property {number} unit_amount
 * @property {string} currency
 * @property {boolean} [is_popular]
 * @property {string} [interval]
 * @property {number} [interval_count]
 * @property {number | null} [trial_days]
 */

const SESSION = "credits-session";
const PLAN = "credits-plan";
const CANCELLED = "credits-cancelled";
const ASK_AGAIN = 2_000;
const LONG = 60_000;

/**
 * A page that may be gone to for paying: https, or a server on this machine. Null for anything else.
 * @param {unknown} link
 * @returns {string | null}
 */
export function payableLink(link) {
  try {
    const { protocol, hostname, href, username } = new URL(String(link));
    const isLoopback = ["127.0.0.1", "[::1]", "localhost"].includes(hostname);
    return !username && (protocol === "https:" || (protocol === "http:" && isLoopback)) ? href : null;
  } catch {
    return null;
  }
}

/**
 * The shop, in a dialog that `show()` opens, or in the page with the attribute `inline`. After paying, where people come
 * back to, it says how the payment stands until the credits are there.
 *
 * @fires credits-checkout - about to go to the payment page: {url}; preventDefault() keeps the page here
 * @fires credits-purchased - the credits of a purchase have come: {credits}
 * @csspart dialog @csspart offer @csspart popular @csspart price @csspart buy @csspart status
 */
export class CreditsPurchase extends CreditsElement {
  static styles = [
    base,
    controls,
    css`
      dialog.card {
        inline-size: min(760px, calc(100vw - 32px));
        max-block-size: calc(100vh - 32px);
        max-block-size: calc(100dvh - 32px);
        margin: auto;
        padding: 0;
        overflow: auto;
        color: inherit;
        box-shadow: 0 24px 64px rgb(0 0 0 / 0.24);
        container-type: inline-size;
      }
      dialog::backdrop {
        background: rgb(8 10 14 / 0.5);
      }
      .shop {
        padding: clamp(16px, 5cqi, 28px);
      }
      .top {
        display: flex;
        align-items: center;
        justify-content: space-between;
        gap: 16px;
        margin-block-end: 16px;
      }
      .close {
        padding: 8px;
        inline-size: 40px;
        margin-inline-end: -8px;
        color: var(--_muted);
      }
      .tools {
        margin-block-end: 16px;
      }
      .tools label {
        display: flex;
        align-items: center;
        gap: 8px;
      }
      h3 {
        font-size: 0.875rem;
        font-weight: 500;
        color: var(--_muted);
        margin-block: 24px 8px;
      }
      .offers {
        display: grid;
        gap: 12px;
        grid-template-columns: repeat(auto-fill, minmax(min(100%, 210px), 1fr));
      }
      .offer {
        display: flex;
        flex-direction: column;
        gap: 2px;
        padding: 20px;
        border: 1px solid var(--_line);
        border-radius: var(--_radius);
        overflow-wrap: anywhere;
      }
      .popular {
        border-color: var(--_accent);
        box-shadow: inset 0 0 0 1px var(--_accent);
      }
      .tag {
        color: var(--_accent);
        font-weight: 550;
      }
      .name {
        display: flex;
        flex-wrap: wrap;
        justify-content: space-between;
        gap: 0 8px;
      }
      .credits {
        font-size: 1.375rem;
        line-height: 2rem;
        font-weight: 600;
        letter-spacing: -0.01em;
      }
      .price {
        font-weight: 550;
      }
      .save {
        color: var(--_good);
      }
      .offer button {
        margin-block-start: auto;
      }
      .gap {
        min-block-size: 16px;
        flex: 1;
      }
      .status {
        display: flex;
        align-items: center;
        gap: 12px;
        margin-block-end: 16px;
      }
      .dot {
        inline-size: 8px;
        block-size: 8px;
        flex: none;
        border-radius: 50%;
        background: var(--_accent);
      }
      .done {
        background: var(--_good);
      }
      .bad {
        background: var(--_bad);
      }
      @media (prefers-reduced-motion: no-preference) {
        .wait {
          animation: breathe 0.8s ease-in-out infinite alternate;
        }
      }
    `,
  ];
  static texts = texts;
  static properties = {
    ...CreditsElement.properties,
    inline: { type: Boolean },
    offers: { state: true },
    currency: { state: true },
    paying: { state: true },
    failed: { state: true },
    back: { state: true },
  };

  constructor() {
    super();
    /** whether the shop stands in the page, without a dialog */
    this.inline = false;
    /** @type {{ packages: Offer[], plans: Offer[] } | null} */
    this.offers = null;
    /** @type {string} */
    this.currency = "";
    /** @type {string | null} what is being bought */
    this.paying = null;
    /** @type {CreditsError | null} */
    this.failed = null;
    /** @type {{ state: string, credits?: number } | null} how the payment stands that the page came back from */
    this.back = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.asking = undefined;
    /** @type {string | null} */
    this.readFor = null;
    /** @type {Map<string, string>} one key for all tries to buy the same */
    this.keys = new Map();
    this.reset = () => {
      // The page was left for Stripe's, and the browser has brought it back as it was.
      this.paying = null;
      this.keys.clear();
    };
  }

  join() {
    super.join();
    addEventListener("pageshow", this.reset);
  }

  leave() {
    super.leave();
    removeEventListener("pageshow", this.reset);
    clearTimeout(this.asking);
    this.asking = undefined;
    this.readFor = null;
  }

  /** @param {Snapshot} snapshot */
  take(snapshot) {
    super.take(snapshot);
    const { user, credits } = snapshot;
    if (!credits) {
      this.offers = this.readFor = this.back = this.paying = null;
      this.keys.clear();
      clearTimeout(this.asking);
      return;
    }
    const wanted = `${user} ${credits.account_id}`;
    if (wanted === this.readFor) return;
    this.readFor = wanted;
    void this.load();
    this.comeBack();
  }

  /** Open the dialog. */
  show() {
    const dialog = this.dialog();
    if (dialog && !dialog.open) dialog.showModal();
  }

  /** Close it. The focus goes back to where it was. */
  close() {
    this.dialog()?.close();
  }

  /** @private */
  dialog() {
    return /** @type {HTMLDialogElement | null} */ (this.renderRoot?.querySelector("dialog") ?? null);
  }

  /** @private */
  async load() {
    const { store, readFor } = this;
    if (!store) return;
    this.failed = null;
    const [packages, plans] = await Promise.all([
      store.read((client) => client.from("credit_packages").select("*").order("credits")),
      store.read((client) => client.from("subscription_plans").select("*").order("credits")),
    ]);
    if (readFor !== this.readFor) return;
    this.failed = packages.error && plans.error;
    if (this.failed) return;
    this.offers = { packages: /** @type {any} */ (packages.data ?? []), plans: /** @type {any} */ (plans.data ?? []) };
    const found = this.currencies();
    if (!found.includes(this.currency)) this.currency = found[0] ?? "";
  }

  /** The currencies that something is sold in, the commonest first. @private */
  currencies() {
    const all = [...(this.offers?.packages ?? []), ...(this.offers?.plans ?? [])].map(({ currency }) => currency);
    const count = (/** @type {string} */ currency) => all.filter((other) => other === currency).length;
    return [...new Set(all)].sort((one, other) => count(other) - count(one) || (one < other ? -1 : 1));
  }

  /** @private @param {"package" | "plan"} kind @param {Offer} offer */
  async buy(kind, offer) {
    const { client, store } = this;
    if (!client || !store || this.paying) return;
    const { turn } = store;
    const wanted = `${kind} ${offer.slug} ${offer.currency}`;
    this.paying = wanted;
    this.failed = null;
    const key = this.keys.get(wanted) ?? newKey();
    this.keys.set(wanted, key);
    // By hand: URLSearchParams would escape the braces, which Stripe looks for.
    const here = new URL(location.href);
    for (const name of [SESSION, PLAN, CANCELLED]) here.searchParams.delete(name);
    here.hash = "";
    const page = here.href + (here.search ? "&" : "?");
    const plan = kind === "plan" ? `${PLAN}=${encodeURIComponent(offer.slug)}&` : "";
    const body = {
      [kind]: offer.slug,
      currency: offer.currency,
      success_url: `${page}${plan}${SESSION}={CHECKOUT_SESSION_ID}`,
      cancel_url: `${page}${CANCELLED}=1`,
    };
    /** @type {any} */
    let answer;
    try {
      answer = await client.functions.invoke("checkout", { body, headers: { "Idempotency-Key": key } });
    } catch (error) {
      answer = { error };
    }
    // Another user has come. An account that was opened meanwhile, as a first purchase does, is no other user.
    if (client !== this.client || turn !== store.turn) return;
    const url = payableLink(answer.data?.url);
    if (answer.error || !url) {
      this.failed = answer.error
        ? await fromFunction(answer.error)
        : new CreditsError(this.t("badLink"), { status: 400 });
      // What failed for good is tried with a new key: this one may be used up.
      if (!this.failed.isPassing) this.keys.delete(wanted);
      this.paying = null;
    } else if (this.emit("credits-checkout", { url })) location.assign(url);
    else this.paying = null;
  }

  /** Say how the payment stands that the page came back from. @private */
  comeBack() {
    const { searchParams } = new URL(location.href);
    if (searchParams.get(CANCELLED)) this.clearAddress();
    const session = searchParams.get(SESSION) ?? "";
    if (!/^cs_[A-Za-z0-9_]{1,200}$/.test(session)) return;
    this.back = { state: "processing" };
    void this.ask(session, searchParams.get(PLAN), Date.now());
  }

  /** @private @param {string} session @param {string | null} plan @param {number} since */
  async ask(session, plan, since) {
    const { store, readFor } = this;
    if (!store) return;
    const { data } = await store.read((client) =>
      plan
        ? client.from("subscriptions").select("status").eq("plan", plan).in("status", ["active", "trialing"]).limit(1)
        : client.from("purchases").select("status,credits_granted").eq("checkout_session_id", session).limit(1),
    );
    if (readFor !== this.readFor || !this.back) return;
    /** @type {any} */
    const row = data?.[0];
    const state = plan ? row && "subscribed" : row?.status;
    if (state && state !== "pending") {
      this.back = { state, credits: row.credits_granted };
      this.clearAddress();
      store.signal();
      if (state === "paid") this.emit("credits-purchased", { credits: row.credits_granted });
      return;
    }
    this.back = { state: Date.now() - since > LONG ? "slow" : "processing" };
    this.asking = setTimeout(
      () => void this.ask(session, plan, since),
      this.back.state === "slow" ? 10_000 : ASK_AGAIN,
    );
  }

  /** Take what Stripe's page has brought out of the address: a reload shall not tell it again. @private */
  clearAddress() {
    const address = new URL(location.href);
    for (const name of [SESSION, PLAN, CANCELLED]) address.searchParams.delete(name);
    history.replaceState(history.state, "", address);
  }

  skeleton() {
    return this.inline
      ? html`<section class="card" aria-busy="true"><p role="status">${this.t("loading")}</p></section>`
      : nothing;
  }

  content() {
    const status = this.payment();
    if (this.inline)
      return html`<section class="card" part="card" aria-label=${this.t("shop")}>${status}${this.shop()}</section>`;
    return html`${status}
      <dialog class="card" part="dialog" aria-labelledby="title" @click=${this.outside}>
        <div class="shop">
          <div class="top">
            <h2 id="title">${this.t("shop")}</h2>
            <button class="quiet close" part="close" aria-label=${this.t("close")} @click=${this.close}>
              <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" stroke="currentColor" stroke-width="1.6" stroke-linecap="round"><path d="m3.5 3.5 9 9m0-9-9 9" /></svg>
            </button>
          </div>
          ${this.shop()}
        </div>
      </dialog>`;
  }

  /** @private @param {Event} event */
  outside(event) {
    if (event.target === event.currentTarget) this.close();
  }

  /** @private */
  payment() {
    const { state, credits = 0 } = this.back ?? { state: "" };
    const words =
      { processing: "processing", slow: "slow", paid: "paid", subscribed: "subscribed" }[state] ?? `payment_${state}`;
    const dot = { processing: "wait", slow: "wait", paid: "done", subscribed: "done" }[state] ?? "bad";
    // The region stays: what comes with a new one is not read out.
    return html`<div role="status">${
      state
        ? html`<p class="status card" part="status"><span class="dot ${dot}"></span>${this.t(words, { count: credits })}</p>`
        : nothing
    }</div>`;
  }

  /** @private */
  shop() {
    const { offers, failed } = this;
    const error = failed ? this.failure(failed, () => (offers ? this.retry() : this.load())) : nothing;
    if (!offers) return failed ? error : html`<p role="status" class="muted">${this.t("loading")}</p>`;
    const mine = (/** @type {Offer[]} */ all) => all.filter(({ currency }) => currency === this.currency);
    const packages = mine(offers.packages);
    const plans = mine(offers.plans);
    const currencies = this.currencies();
    if (!packages.length && !plans.length) return html`<p class="muted">${this.t("nothingSold")}</p>`;
    return html`${error}
      ${
        currencies.length > 1
          ? html`<div class="tools small"><label><span class="muted">${this.t("currency")}</span><select @change=${this.exchange}>${currencies.map(
              (currency) =>
                html`<option value=${currency} ?selected=${currency === this.currency}>${currency.toUpperCase()}</option>`,
            )}</select></label></div>`
          : nothing
      }
      ${packages.length && plans.length ? html`<h3>${this.t("packages")}</h3>` : nothing}
      <ul class="offers">${packages.map((offer) => this.offer("package", offer, packages[0]))}</ul>
      ${plans.length ? html`<h3>${this.t("plans")}</h3><ul class="offers">${plans.map((offer) => this.offer("plan", offer, null))}</ul>` : nothing}
      <p class="spoken" role="status">${this.paying ? this.t("opening") : ""}</p>`;
  }

  /** @private */
  retry() {
    this.failed = null;
  }

  /** @private @param {Event} event */
  exchange(event) {
    this.currency = /** @type {HTMLSelectElement} */ (event.target).value;
  }

  /** @private @param {"package" | "plan"} kind @param {Offer} offer @param {Offer | null} smallest */
  offer(kind, offer, smallest) {
    const each = offer.unit_amount / offer.credits;
    const dearest = smallest ? smallest.unit_amount / smallest.credits : each;
    const saving = Math.floor((1 - each / dearest) * 100);
    const isPopular = offer.is_popular === true;
    const money = formatMoney(this.tag, offer.unit_amount, offer.currency);
    const period = offer.interval ? this.t(`every_${offer.interval}`, { count: offer.interval_count ?? 1 }) : "";
    const isThis = this.paying === `${kind} ${offer.slug} ${offer.currency}`;
    return html`<li class="offer ${isPopular ? "popular" : ""}" part="offer">
      <p class="name small"><span class="muted">${offer.name}</span>${isPopular ? html`<span class="tag" part="popular">${this.t("popular")}</span>` : nothing}</p>
      <p class="credits">${this.t("credits", { count: offer.credits })}</p>
      <p class="price" part="price">${money} ${period}</p>
      <p class="small muted">${this.t("each", { price: formatUnitPrice(this.tag, each, offer.currency) })}</p>
      ${saving > 0 ? html`<p class="small save">${this.t("saving_percent", { percent: this.number(saving / 100, { style: "percent" }) })}</p>` : nothing}
      ${offer.trial_days ? html`<p class="small save">${this.t("trial", { count: offer.trial_days })}</p>` : nothing}
      <div class="gap"></div>
      <button
        class=${isPopular ? "primary" : ""}
        part="buy"
        aria-disabled=${this.paying !== null}
        aria-label=${this.t(`${kind}_choose_this`, { name: offer.name })}
        @click=${() => this.buy(kind, offer)}
      >${isThis ? this.t("opening") : this.t(`${kind}_choose`)}</button>
    </li>`;
  }
}

define("credits-purchase", CreditsPurchase);
