/**
 * `<credits-grants>`: the lots of credits, in the order in which they are spent.
 * @module
 */
import { html, nothing, svg } from "lit/html.js";
import { controls } from "./controls.js";
import { css, define } from "./reactive.js";
import { ReadingElement } from "./reading.js";
import { grants as texts } from "./strings/en.js";
import { base } from "./styles.js";
import { inZone } from "./zone.js";

/**
 * A lot as the RPC `credit_lots` gives it.
 * @typedef {object} Lot
 * @property {number} id
 * @property {string} source
 * @property {"active" | "lapsed" | "used" | "expired"} state
 * @property {number} amount
 * @property {number} remaining
 * @property {string | null} expires_at
 * @property {string} granted_at
 */

/**
 * The lots: where they came from, how much is left of each, until when. The first is spent next.
 * @csspart card @csspart lot @csspart more
 */
export class CreditsGrants extends ReadingElement {
  static styles = [
    base,
    controls,
    css`
      h3 {
        margin-block: 24px 0;
        font-size: 0.875rem;
        font-weight: 500;
        color: var(--_muted);
      }
      ol {
        margin-block-start: 8px;
      }
      li {
        display: grid;
        grid-template-columns: minmax(0, 1fr) auto;
        gap: 2px 16px;
        padding-block: 14px;
        border-block-start: 1px solid var(--_line);
      }
      li:first-child {
        border-block-start: 0;
      }
      .name {
        font-weight: 550;
      }
      .end {
        text-align: end;
      }
      .tag {
        color: var(--_accent);
        font-weight: 550;
      }
      .bar {
        grid-column: 1 / -1;
        inline-size: 100%;
        block-size: 4px;
        margin-block: 6px 4px;
        border-radius: 2px;
        fill: var(--_accent);
        background: var(--_soft);
      }
      :host(:dir(rtl)) .bar {
        transform: scaleX(-1);
      }
      .ended .bar {
        display: none;
      }
      @media (forced-colors: active) {
        .bar {
          fill: Highlight;
          border: 1px solid;
        }
      }
    `,
  ];
  static texts = texts;
  static properties = {
    ...ReadingElement.properties,
    open: { state: true },
    ended: { state: true },
    next: { state: true },
    busy: { state: true },
  };

  constructor() {
    super();
    /** @type {Lot[] | null} */
    this.open = null;
    /** @type {Lot[]} */
    this.ended = [];
    /** @type {number | null} */
    this.next = null;
    this.busy = false;
    this.zone = "";
  }

  forget() {
    this.open = null;
    this.ended = [];
  }

  readAgain() {
    void this.load(null);
  }

  /** @private @param {number | null} before */
  async load(before) {
    const reading = ++this.reading;
    const store = this.store;
    if (!store) return;
    this.busy = true;
    const { data, error } = await store.read((client) => client.rpc("credit_lots", before === null ? {} : { before }));
    if (reading !== this.reading) return;
    this.busy = false;
    this.heard(error);
    if (!data) return;
    this.zone = data.zone;
    this.open = data.open;
    this.ended = before === null ? data.ended : [...this.ended, ...data.ended];
    this.next = data.next;
  }

  skeleton() {
    return html`<section class="card" part="card" aria-busy="true">
      <h2>${this.t("grants")}</h2>
      <p class="spoken" role="status">${this.t("loading")}</p>
      <ol aria-hidden="true">${bones()}</ol>
    </section>`;
  }

  content() {
    if (this.missing) return nothing;
    const { open } = this;
    return html`<section class="card" part="card" aria-labelledby="title" aria-busy=${this.busy}>
      <h2 id="title">${this.t("grants")}</h2>
      ${this.failed ? this.failure(this.failed, () => this.load(null)) : nothing}
      ${open && !open.length && !this.failed ? html`<p class="message muted" part="empty">${this.t("noGrants")}</p>` : nothing}
      ${!this.failed || open ? html`<ol>${open ? open.map((lot, index) => this.lot(lot, index === 0)) : bones()}</ol>` : nothing}
      ${
        open && this.ended.length
          ? html`<h3>${this.t("ended")}</h3>
              <ol class="ended">${this.ended.map((lot) => this.lot(lot, false))}</ol>`
          : nothing
      }
      ${
        open && this.next !== null
          ? html`<button part="more" aria-disabled=${this.busy} @click=${() => !this.busy && this.load(this.next)}>${this.t("moreEnded")}</button>`
          : nothing
      }
    </section>`;
  }

  /** @private @param {Lot} lot @param {boolean} isNext */
  lot(lot, isNext) {
    const day = (/** @type {string} */ moment) => this.date(moment, { dateStyle: "medium", ...inZone(this.zone) });
    const isOver = lot.expires_at !== null && (lot.state === "expired" || lot.state === "lapsed");
    const key = `source_${lot.source}`;
    const source = this.t(key);
    const width = Math.max(lot.remaining > 0 ? 1 : 0, (lot.remaining / lot.amount) * 100);
    return html`<li part="lot">
      <p class="name">${source === key ? lot.source : source}</p>
      <p class="end">${this.t("left", { remaining: lot.remaining, amount: lot.amount })}</p>
      <svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">${svg`<rect width=${width} height="1"/>`}</svg>
      <p class="small muted">${
        lot.expires_at ? this.t(isOver ? "expiredOn" : "expiresOn", { date: day(lot.expires_at) }) : this.t("never")
      }</p>
      <p class="small end ${isNext ? "tag" : "muted"}">${this.t(isNext && lot.state === "active" ? "next" : `state_${lot.state}`)}</p>
    </li>`;
  }
}

function bones() {
  return [1, 2].map(
    () => html`<li>
      <p><span class="bone" data-like="Purchase"></span></p>
      <p><span class="bone" data-like="10 of 100 left"></span></p>
      <svg class="bar" viewBox="0 0 100 1" aria-hidden="true"></svg>
      <p class="small"><span class="bone" data-like="Does not expire"></span></p>
      <p class="small"><span class="bone" data-like="In use"></span></p>
    </li>`,
  );
}

define("credits-grants", CreditsGrants);
