/**
 * What all elements have in common: the client, the store, the language, and what is shown while there is nothing yet.
 * @module
 */
import { html, nothing } from "lit/html.js";
import { CreditsError } from "./errors.js";
import { dateFormat, fill, formatNumber, languageTag, onStrings, stringsOf } from "./language.js";
import { ReactiveElement } from "./reactive.js";
import { storeOf } from "./store.js";
import { common } from "./strings/en.js";

/** @typedef {import("./store.js").Snapshot} Snapshot */
/** @typedef {import("./language.js").Texts} Texts */

/** One element of the user's credits. Give it the app's supabase-js client as `client`. */
export class CreditsElement extends ReactiveElement {
  /** @type {Texts} the words of this element in English */
  static texts = common;
  static properties = {
    client: { attribute: false },
    strings: { attribute: false },
    lang: {},
    snapshot: { state: true },
  };

  constructor() {
    super();
    /** @type {import("./store.js").Client | null} the app's supabase-js client */
    this.client = null;
    /** @type {Texts} words of this element's own, before those of the language */
    this.strings = {};
    /** @type {import("./store.js").CreditsStore | null} */
    this.store = null;
    /** @type {import("./store.js").Client | null | undefined} whose store this listens to */
    this.joined = undefined;
    /** @type {Snapshot | null} */
    this.snapshot = null;
    /** @type {CreditsError | null} why there is no store */
    this.refused = null;
    /** @type {Array<() => void>} */
    this.undo = [];
    /** @type {string} */
    this.tag = "en";
    /** @type {Texts[]} */
    this.words = [];
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.leave();
    this.joined = undefined;
  }

  willUpdate() {
    if (this.isConnected && this.joined !== this.client) this.join();
    this.tag = languageTag(this.language());
    this.words = stringsOf(this.tag).texts;
  }

  /** Listen to the store of the client. */
  join() {
    this.leave();
    this.undo.push(onStrings(() => this.requestUpdate()));
    this.joined = this.client;
    this.store = this.snapshot = this.refused = null;
    if (!this.client) return;
    try {
      const store = storeOf(this.client);
      this.store = store;
      this.undo.push(store.subscribe(() => this.take(store.getSnapshot())));
      this.take(store.getSnapshot());
    } catch (error) {
      this.refused = new CreditsError(/** @type {Error} */ (error).message, { status: 400 });
    }
  }

  /** End all that goes on. */
  leave() {
    for (const undo of this.undo.splice(0)) undo();
  }

  /**
   * There is a new snapshot.
   * @param {Snapshot} snapshot
   */
  take(snapshot) {
    this.snapshot = snapshot;
  }

  /** The language that holds here: the element's own, the nearest around it, or the browser's. */
  language() {
    if (this.lang) return this.lang;
    /** @type {Element | null} */
    let around = this;
    while (around) {
      const found = /** @type {Element | null} */ (around.closest("[lang]"));
      if (found?.getAttribute("lang")) return found.getAttribute("lang");
      const root = around.getRootNode();
      around = root instanceof ShadowRoot ? root.host : null;
    }
    return globalThis.navigator?.language;
  }

  /**
   * A text in the user's language.
   * @param {string} key
   * @param {Record<string, string | number>} [values]
   */
  t(key, values = {}) {
    for (const texts of [this.strings, ...this.words]) {
      if (texts && key in texts) return fill(this.tag, texts[key], values);
    }
    const texts = /** @type {typeof CreditsElement} */ (this.constructor).texts;
    const text = texts[key] ?? /** @type {Texts} */ (common)[key];
    // English words have English plurals, whatever the numbers look like.
    return text === undefined ? key : fillEnglish(this.tag, text, values);
  }

  /** @param {number} value @param {Intl.NumberFormatOptions} [options] */
  number(value, options) {
    return formatNumber(this.tag, value, options);
  }

  /** @param {string} moment @param {Intl.DateTimeFormatOptions} options */
  date(moment, options) {
    return dateFormat(this.tag, options).format(new Date(moment));
  }

  /**
   * Tell the app.
   * @param {string} name
   * @param {unknown} [detail]
   * @returns {boolean} false when the app has said preventDefault()
   */
  emit(name, detail) {
    return this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable: true }));
  }

  /** @param {CreditsError} error @param {() => void} again */
  failure(error, again) {
    return html`<div class="message" part="error" role="alert">
      <span>${error.isPassing ? this.t("failed") : error.message}</span>
      ${error.status === 400 ? nothing : html`<button @click=${again}>${this.t("retry")}</button>`}
    </div>`;
  }

  render() {
    const { snapshot } = this;
    if (this.refused) return this.failure(this.refused, () => {});
    if (!snapshot || (snapshot.status === "loading" && !snapshot.credits)) return this.skeleton();
    if (snapshot.status === "signed-out") {
      return html`<div class="card" part="card"><p class="message" part="signed-out">${this.t("signedOut")}</p></div>`;
    }
    if (snapshot.status === "error" && snapshot.error) {
      return html`<div class="card" part="card">${this.failure(snapshot.error, () => this.store?.refresh())}</div>`;
    }
    return this.content(snapshot);
  }

  /** What has the place of the content until it comes. @returns {unknown} */
  skeleton() {
    return nothing;
  }

  /** @param {Snapshot} _snapshot @returns {unknown} */
  content(_snapshot) {
    return nothing;
  }
}

/**
 * @param {string} tag
 * @param {import("./language.js").Text} text
 * @param {Record<string, string | number>} values
 */
function fillEnglish(tag, text, values) {
  const one = typeof text === "string" ? text : text[Number(values.count) === 1 ? "one" : "other"];
  return fill(tag, one ?? "", values);
}
