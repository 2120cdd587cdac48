/**
 * What is needed of a reactive element, around lit-html: properties that draw anew, and shared style sheets. Lit's own
 * does the same and much more, which each page would have to load.
 * @module
 */
import { render } from "lit/html.js";

/**
 * `attribute: false` and `state` are never attributes; what changes draws the element anew either way. An attribute is a
 * text unless `type` says otherwise.
 * @typedef {Record<string, { attribute?: boolean, state?: boolean, type?: typeof Boolean | typeof Number }>} Properties
 * @typedef {{ text: string, sheet?: CSSStyleSheet }} Style
 */

/**
 * A style sheet; one for all elements that name it.
 * @param {TemplateStringsArray} strings
 * @returns {Style}
 */
export const css = (strings) => ({ text: strings[0] });

/** Without a DOM, as in Node, there is nothing to extend. @type {typeof HTMLElement} */
const Base = globalThis.HTMLElement ?? class {};

/** An element that draws itself anew, once for all changes of a moment. */
export class ReactiveElement extends Base {
  /** @type {Properties} */
  static properties = {};
  /** @type {Style[]} */
  static styles = [];

  /** @type {Map<string, unknown>} */
  #values = new Map();
  /** @type {Map<string, unknown>} what has changed, with the values before */
  #changes = new Map();
  /** @type {Record<string, unknown>} what was set before the element was defined */
  #early = {};
  #isDue = false;
  /** Whether it was ever connected: before that nothing is drawn. */
  #isBegun = false;

  /** The browser asks for these when the element is defined: its properties come into being here. */
  static get observedAttributes() {
    // biome-ignore lint/complexity/noThisInStatic: the class that is defined, whose properties are its own
    const { properties, prototype } = this;
    for (const name of Object.keys(properties)) {
      if (Object.hasOwn(prototype, name)) continue;
      Object.defineProperty(prototype, name, {
        /** @this {ReactiveElement} */
        get() {
          return this.#values.get(name);
        },
        /** @this {ReactiveElement} @param {unknown} value */
        set(value) {
          const before = this.#values.get(name);
          if (Object.is(before, value)) return;
          this.#values.set(name, value);
          if (!this.#changes.has(name)) this.#changes.set(name, before);
          this.requestUpdate();
        },
        configurable: true,
        enumerable: true,
      });
    }
    return Object.keys(properties).filter((name) => !properties[name].state && properties[name].attribute !== false);
  }

  constructor() {
    super();
    /** @type {Promise<void>} settled when the element shows what was set */
    this.updateComplete = Promise.resolve();
    /** @type {ShadowRoot} */
    this.renderRoot = this.attachShadow({ mode: "open" });
    this.renderRoot.adoptedStyleSheets = /** @type {typeof ReactiveElement} */ (this.constructor).styles.map(
      (style) => {
        if (!style.sheet) {
          style.sheet = new CSSStyleSheet();
          style.sheet.replaceSync(style.text);
        }
        return style.sheet;
      },
    );
    // What was set before the element was defined hides the property, and stands above what the constructor sets.
    for (const name of Object.keys(/** @type {typeof ReactiveElement} */ (this.constructor).properties)) {
      if (!Object.hasOwn(this, name)) continue;
      this.#early[name] = Reflect.get(this, name);
      Reflect.deleteProperty(this, name);
    }
  }

  connectedCallback() {
    this.#isBegun = true;
    Object.assign(this, this.#early);
    this.#early = {};
    this.requestUpdate();
  }

  disconnectedCallback() {}

  /** @param {string} name @param {string | null} _before @param {string | null} value */
  attributeChangedCallback(name, _before, value) {
    const { type } = /** @type {typeof ReactiveElement} */ (this.constructor).properties[name];
    /** @type {any} */ (this)[name] = type === Boolean ? value !== null : value !== null && type ? type(value) : value;
  }

  /** Draw it anew soon. */
  requestUpdate() {
    if (this.#isDue || !this.#isBegun) return;
    this.#isDue = true;
    this.updateComplete = Promise.resolve().then(() => {
      const changed = this.#changes;
      try {
        this.willUpdate();
        render(this.render(), this.renderRoot, { host: this });
      } finally {
        this.#isDue = false;
        this.#changes = new Map();
      }
      this.updated(changed);
    });
  }

  /** Before it is drawn; what is set here is drawn, too. */
  willUpdate() {}

  /** @returns {unknown} */
  render() {
    return undefined;
  }

  /**
   * It was drawn.
   * @param {Map<PropertyKey, unknown>} _changed the properties that changed, with the values before
   */
  updated(_changed) {}
}

/**
 * Define an element once, also when the module is loaded twice or another bundle has it.
 * @param {string} name
 * @param {CustomElementConstructor} element
 */
export function define(name, element) {
  if (!globalThis.customElements?.get(name)) globalThis.customElements?.define(name, element);
}
