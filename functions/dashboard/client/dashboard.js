/**
 * `<credits-dashboard>`: everything on one page.
 * @module
 */
import { html } from "lit/html.js";
import { CreditsElement } from "./element.js";
import { css, define } from "./reactive.js";
import { common } from "./strings/en.js";
import { base } from "./styles.js";
import "./balance.js";
import "./grants.js";
import "./history.js";
import "./purchase.js";
import "./usage.js";

/** The balance with the shop behind it, usage, lots and history. What an older database has not is left out. */
export class CreditsDashboard extends CreditsElement {
  static styles = [
    base,
    css`
      .all {
        display: grid;
        gap: clamp(12px, 3cqi, 24px);
      }
      /* It has no height while there is nothing to say of a payment. */
      credits-purchase {
        margin-block-end: calc(-1 * clamp(12px, 3cqi, 24px));
      }
    `,
  ];
  static texts = common;
  static properties = { ...CreditsElement.properties, url: {} };

  constructor() {
    super();
    /** @type {string} "off" keeps the filters out of the page's address */
    this.url = "";
  }

  /** Without a client there is nothing to be told here: each part says it. */
  render() {
    const { client, strings, lang } = this;
    if (this.refused || this.snapshot?.status === "signed-out") return super.render();
    return html`<div class="all">
      <credits-purchase .client=${client} .strings=${strings} .lang=${lang}></credits-purchase>
      <credits-balance .client=${client} .strings=${strings} .lang=${lang} @credits-buy=${this.shop}></credits-balance>
      <credits-usage .client=${client} .strings=${strings} .lang=${lang}></credits-usage>
      <credits-grants .client=${client} .strings=${strings} .lang=${lang}></credits-grants>
      <credits-history .client=${client} .strings=${strings} .lang=${lang} .url=${this.url}></credits-history>
    </div>`;
  }

  /** @private @param {Event} event */
  shop(event) {
    const { target } = event;
    // After the app's own listeners: one that has said preventDefault() has a shop of its own.
    queueMicrotask(() => {
      if (event.defaultPrevented || !(target instanceof Node)) return;
      /** @type {import("./purchase.js").CreditsPurchase | null} */ (
        this.renderRoot.querySelector("credits-purchase")
      )?.show();
    });
  }
}

define("credits-dashboard", CreditsDashboard);
