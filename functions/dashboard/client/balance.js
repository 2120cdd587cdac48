/**
 * `<credits-balance>`: what there is to spend, and what happens to it next.
 * @module
 */
import { html, nothing, svg } from "lit/html.js";
import { CreditsElement } from "./element.js";
import { css, define } from "./reactive.js";
import { balance as texts } from "./strings/en.js";
import { base } from "./styles.js";

/** @typedef {import("./store.js").Snapshot} Snapshot */
/** @typedef {import("./store.js").Credits} Credits */

const icons = {
  low: svg`<path d="M8 2.5 14 13H2Z"/><path d="M8 6.5v3M8 11.2v.1"/>`,
  empty: svg`<circle cx="8" cy="8" r="5.5"/><path d="M5.5 8h5"/>`,
  frozen: svg`<circle cx="8" cy="8" r="5.5"/><path d="M6.5 6v4M9.5 6v4"/>`,
};

/**
 * What is the matter with an account, by the server's word: `status` of user_credits (sql/accounts/my_position.sql).
 * @param {Credits} credits
 */
export function conditionOf(credits) {
  if (credits.frozen_at) return "frozen";
  if (credits.available <= 0) return "empty";
  return credits.status === "low" ? "low" : null;
}

/**
 * Available credits, live; what is held, what expires next, and whether they run low or are paused.
 *
 * @fires credits-buy - "Buy credits" was chosen. The app opens its shop, or `<credits-purchase>`.
 * @slot actions - in place of the button
 * @csspart card @csspart number @csspart condition @csspart details @csspart buy
 */
export class CreditsBalance extends CreditsElement {
  static styles = [
    base,
    css`
      .head,
      .main,
      .details {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        gap: 0 16px;
        min-block-size: 1.25rem;
      }
      .main {
        justify-content: space-between;
        margin-block: 4px;
      }
      h2 {
        font-size: 0.9375rem;
        font-weight: 500;
        color: var(--_muted);
      }
      .number {
        font-size: 2.75rem;
        line-height: 3.25rem;
        font-weight: 650;
        letter-spacing: -0.03em;
      }
      .long {
        font-size: clamp(1.25rem, 7cqi, 2.75rem);
      }
      .condition {
        display: flex;
        align-items: center;
        gap: 6px;
        font-size: 0.875rem;
        font-weight: 550;
        color: var(--_warn);
      }
      .frozen {
        color: var(--_bad);
      }
      .why {
        margin-block-start: 12px;
      }
      @media (prefers-reduced-motion: no-preference) {
        .changed {
          animation: tint 0.9s ease-out;
        }
      }
      @keyframes tint {
        from {
          color: var(--_accent);
        }
      }
    `,
  ];
  static texts = texts;
  static properties = {
    ...CreditsElement.properties,
    sold: { state: true },
    spoken: { state: true },
    why: { state: true },
  };

  constructor() {
    super();
    /** @type {boolean | null} whether something is sold; null until known */
    this.sold = null;
    /** @type {string} */
    this.spoken = "";
    /** @type {string | null} */
    this.why = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.speaking = undefined;
    /** @type {string | null} the account that was asked for */
    this.asked = null;
  }

  leave() {
    super.leave();
    clearTimeout(this.speaking);
    this.speaking = undefined;
    this.asked = null;
  }

  /** @param {Snapshot} snapshot */
  take(snapshot) {
    super.take(snapshot);
    const { credits } = snapshot;
    if (!credits) {
      this.sold = this.why = this.asked = null;
      return;
    }
    const asked = `${snapshot.user} ${credits.account_id} ${credits.frozen_at}`;
    if (asked !== this.asked) {
      this.asked = asked;
      void this.ask(asked, credits);
    }
    // Who listens hears of the last of many changes, and of no more than one a second.
    this.speaking ??= setTimeout(() => {
      this.speaking = undefined;
      const now = this.snapshot?.credits;
      if (!now) return;
      const condition = conditionOf(now);
      this.spoken = [this.t("available", { count: now.available }), condition && this.t(condition)]
        .filter(Boolean)
        .join(". ");
    }, 1000);
  }

  /**
   * @private
   * @param {string} asked
   * @param {Credits} credits
   */
  async ask(asked, credits) {
    const store = this.store;
    if (!store) return;
    const first = (/** @type {string} */ table) => store.read((client) => client.from(table).select("slug").limit(1));
    const [packages, plans, account] = await Promise.all([
      first("credit_packages"),
      first("subscription_plans"),
      credits.frozen_at
        ? store.read((client) => client.from("credit_accounts").select("frozen_by,frozen_reason").maybeSingle())
        : null,
    ]);
    if (asked !== this.asked) return;
    this.sold = [packages, plans].some(({ data }) => /** @type {any} */ (data)?.length);
    /** @type {any} */
    const frozen = account?.data;
    this.why = frozen?.frozen_by === "dispute" ? "" : (frozen?.frozen_reason ?? null);
  }

  skeleton() {
    return html`<div class="card" part="card" aria-busy="true">
      <div class="head"><h2 part="title">${this.t("title")}</h2></div>
      <div class="main"><p class="number"><span class="bone" data-like="0,000"></span></p></div>
      <p class="details small"></p>
      <p class="spoken" role="status">${this.t("loading")}</p>
    </div>`;
  }

  /** @param {Snapshot} snapshot */
  content(snapshot) {
    const credits = /** @type {Credits} */ (snapshot.credits);
    const condition = conditionOf(credits);
    const number = this.number(credits.available);
    return html`<div class="card" part="card">
      <div class="head">
        <h2 part="title">${this.t("title")}</h2>
        ${condition && html`<span class="condition ${condition}" part="condition">${icon(icons[condition])}${this.t(condition)}</span>`}
      </div>
      <div class="main">
        <p class="number ${number.length > 9 ? "long" : ""}" part="number" @animationend=${unmark}>${number}</p>
        <slot name="actions">${this.sold && condition !== "frozen" ? this.buy() : nothing}</slot>
      </div>
        <p class="details small muted" part="details">
          ${credits.held > 0 ? html`<span>${this.t("held", { count: credits.held })}</span>` : nothing}
          ${
            credits.expires_next && credits.expires_next_at
              ? html`<span>${this.t("expires", {
                  count: credits.expires_next,
                  date: this.date(credits.expires_next_at, { day: "numeric", month: "short" }),
                })}</span>`
              : nothing
          }
          ${credits.balance < 0 ? html`<span>${this.t("debt", { count: -credits.balance })}</span>` : nothing}
          ${snapshot.error ? html`<span>${this.t("stale")}</span>` : nothing}
        </p>
      ${
        condition === "frozen"
          ? html`<p class="why small" part="reason">${this.t("frozenWhy", {
              reason: this.why === "" ? this.t("frozenDispute") : (this.why ?? ""),
            })}</p>`
          : nothing
      }
      <p class="spoken" role="status">${this.spoken}</p>
    </div>`;
  }

  /** @private */
  buy() {
    return html`<button class="primary" part="buy" @click=${() => this.emit("credits-buy")}>${this.t("buy")}</button>`;
  }

  /** @param {Map<PropertyKey, unknown>} changed */
  updated(changed) {
    const before = /** @type {Snapshot | null | undefined} */ (changed.get("snapshot"))?.credits;
    const now = this.snapshot?.credits;
    if (before && now && before.available !== now.available) {
      this.renderRoot.querySelector(".number")?.classList.add("changed");
    }
  }
}

/** @param {Event} event */
function unmark(event) {
  /** @type {Element} */ (event.currentTarget).classList.remove("changed");
}

/** @param {unknown} shape */
function icon(shape) {
  return html`<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round">${shape}</svg>`;
}

define("credits-balance", CreditsBalance);
