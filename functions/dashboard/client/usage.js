/**
 * `<credits-usage>`: what was spent, day by day.
 * @module
 */
import { html, nothing, svg } from "lit/html.js";
import { controls } from "./controls.js";
import { css, define } from "./reactive.js";
import { ReadingElement } from "./reading.js";
import { usage as texts } from "./strings/en.js";
import { base } from "./styles.js";
import { addDays, formatDay, ownZone } from "./zone.js";

/** @typedef {import("./errors.js").CreditsError} CreditsError */

/**
 * What the RPC `credit_usage` answers.
 * @typedef {object} Usage
 * @property {string} from
 * @property {string} to
 * @property {string} zone
 * @property {string[]} starts
 * @property {{ spent: number }} totals
 * @property {{ spent: number[] }} series
 * @property {Array<{ group: string | null, totals: { spent: number }, series: { spent: number[] } }>} groups
 * @property {{ totals: { spent: number } } | null} before
 */

const RANGES = [7, 30, 90];
const SHOWN = 4;
const HEIGHT = 100;

/**
 * Credits spent by day, stacked by operation or provider, compared with as many days before.
 * @csspart card @csspart chart @csspart legend @csspart figure
 */
export class CreditsUsage extends ReadingElement {
  static styles = [
    base,
    controls,
    css`
      :host {
        --_1: var(--_accent);
        --_2: var(--credits-chart-2, light-dark(#0b8276, #4cc3b4));
        --_3: var(--credits-chart-3, light-dark(#b05c10, #e5a565));
        --_4: var(--credits-chart-4, light-dark(#8a4fbe, #c9a3f2));
        --_5: var(--credits-chart-5, light-dark(#707987, #98a1ae));
      }
      .top {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        justify-content: space-between;
        gap: 8px 16px;
      }
      .ranges {
        display: flex;
        border: 1px solid var(--_line);
        border-radius: calc(var(--_radius) * 0.67);
        overflow: clip;
      }
      .ranges button {
        min-block-size: 36px;
        padding: 4px 12px;
        border: 0;
        border-radius: 0;
        font-size: 0.875rem;
        color: var(--_muted);
      }
      .ranges button[aria-pressed="true"] {
        background: var(--_soft);
        color: var(--_text);
      }
      .ranges :focus-visible {
        outline-offset: -2px;
      }
      .figure {
        margin-block-start: 16px;
        font-size: 1.5rem;
        line-height: 2rem;
        font-weight: 600;
        letter-spacing: -0.02em;
      }
      .read {
        min-block-size: 1.25rem;
      }
      .chart {
        position: relative;
        margin-block: 20px 4px;
      }
      .scale {
        position: absolute;
        inset-block-start: -0.75rem;
        inset-inline-start: 0;
        padding-inline-end: 8px;
        background: var(--_surface);
      }
      .chart svg {
        inline-size: 100%;
        block-size: 180px;
        overflow: visible;
      }
      :host(:dir(rtl)) .chart svg {
        transform: scaleX(-1);
      }
      .line {
        stroke: var(--_line);
        vector-effect: non-scaling-stroke;
      }
      .hit {
        fill: transparent;
      }
      g:focus {
        outline: none;
      }
      .day:hover .hit {
        fill: var(--_soft);
      }
      .day:focus-visible .hit {
        fill: var(--_soft);
        stroke: var(--_accent);
        stroke-width: 2;
        vector-effect: non-scaling-stroke;
      }
      .c1 {
        fill: var(--_1);
        background: var(--_1);
      }
      .c2 {
        fill: var(--_2);
        background: var(--_2);
      }
      .c3 {
        fill: var(--_3);
        background: var(--_3);
      }
      .c4 {
        fill: var(--_4);
        background: var(--_4);
      }
      .c5 {
        fill: var(--_5);
        background: var(--_5);
      }
      .ends {
        display: flex;
        justify-content: space-between;
      }
      .legend {
        display: flex;
        flex-wrap: wrap;
        gap: 4px 20px;
        margin-block-start: 16px;
      }
      .legend li {
        display: flex;
        align-items: center;
        gap: 8px;
      }
      .key {
        inline-size: 10px;
        block-size: 10px;
        border-radius: 3px;
      }
      .foot {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        gap: 0 8px;
        margin-block-start: 16px;
        min-block-size: 40px;
      }
      .foot label {
        display: flex;
        align-items: center;
        gap: 8px;
        margin-inline-end: auto;
      }
      .blank {
        block-size: 180px;
        display: grid;
        place-items: center;
        text-align: center;
      }
      @media (forced-colors: active) {
        .chart svg,
        .key {
          forced-color-adjust: none;
        }
      }
    `,
  ];
  static texts = texts;
  static properties = {
    ...ReadingElement.properties,
    days: { type: Number },
    by: {},
    data: { state: true },
    at: { state: true },
  };

  constructor() {
    super();
    /** @type {number} how many days, today included */
    this.days = 30;
    /** @type {"operation" | "provider"} */
    this.by = "operation";
    /** @type {Usage | null} */
    this.data = null;
    /** @type {number | null} the day that is pointed at */
    this.at = null;
  }

  forget() {
    this.data = null;
  }

  readAgain() {
    void this.load();
  }

  /** @private */
  async load() {
    const reading = ++this.reading;
    const store = this.store;
    if (!store) return;
    // Today is the account's, whose zone the answer names; until then the database's default range tells it.
    const ask = async (/** @type {Record<string, unknown>} */ range) =>
      /** @type {{ data: Usage | null, error: CreditsError | null }} */ (
        await store.read((client) => client.rpc("credit_usage", { ...range, by: this.by, compare: true }))
      );
    let { data, error } = await ask(this.data ? { from: addDays(this.data.to, -this.days) } : {});
    if (reading !== this.reading) return;
    const length = (/** @type {Usage} */ usage) => (Date.parse(usage.to) - Date.parse(usage.from)) / 86_400_000;
    if (data && length(data) !== this.days) ({ data, error } = await ask({ from: addDays(data.to, -this.days) }));
    if (reading !== this.reading) return;
    this.heard(error);
    if (data) {
      this.data = data;
      this.at = null;
    }
  }

  /** @private @param {number} days */
  choose(days) {
    this.days = days;
    void this.load();
  }

  /** @private @param {Event} event */
  group(event) {
    this.by = /** @type {"operation" | "provider"} */ (/** @type {HTMLSelectElement} */ (event.target).value);
    void this.load();
  }

  /** Count days in the browser's zone from now on. @private */
  async move() {
    const answer = await this.store?.read((client) => client.rpc("set_time_zone", { zone: ownZone() }));
    if (answer?.error) this.failed = answer.error;
    else this.store?.changed();
  }

  /** @private @param {KeyboardEvent} event */
  keys(event) {
    const last = (this.data?.starts.length ?? 1) - 1;
    const isRtl = getComputedStyle(this).direction === "rtl";
    const step = { ArrowRight: isRtl ? -1 : 1, ArrowLeft: isRtl ? 1 : -1, Home: -last, End: last }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.at = Math.min(last, Math.max(0, (this.at ?? last) + step));
    void this.updateComplete.then(() =>
      /** @type {SVGElement | null} */ (this.renderRoot.querySelector('.day[tabindex="0"]'))?.focus(),
    );
  }

  /** @private @param {string | null} group */
  name(group) {
    if (group === null) return this.t("others");
    const key = `${this.by}_${group}`;
    const words = this.t(key);
    if (words !== key) return words;
    const plain = group.replace(/_/g, " ");
    return plain.charAt(0).toUpperCase() + plain.slice(1);
  }

  skeleton() {
    return html`<section class="card" part="card" aria-busy="true">${this.top()}
      <p class="figure"><span class="bone" data-like="1,000 credits spent"></span></p>
      <p class="read small"></p>
      <div class="chart blank"></div>
      <p class="spoken" role="status">${this.t("loading")}</p>
      <p class="ends small">&nbsp;</p>
      <div class="foot"></div>
    </section>`;
  }

  /** @private */
  top() {
    return html`<div class="top">
      <h2 id="title">${this.t("usage")}</h2>
      <div class="ranges" role="group" aria-label=${this.t("range")}>
        ${RANGES.map(
          (days) =>
            html`<button aria-pressed=${days === this.days} @click=${() => this.choose(days)}>${this.t(`range_${days}`)}</button>`,
        )}
      </div>
    </div>`;
  }

  content() {
    if (this.missing) return nothing;
    const { data, failed } = this;
    if (!data) {
      return failed
        ? html`<section class="card" part="card">${this.top()}${this.failure(failed, () => this.load())}</section>`
        : this.skeleton();
    }
    const { starts } = data;
    const day = (/** @type {string} */ date) => formatDay(this.tag, date, { day: "numeric", month: "short" });
    const at = this.at !== null ? starts[this.at] : undefined;
    return html`<section class="card" part="card" aria-labelledby="title">
      ${this.top()}
      ${failed ? this.failure(failed, () => this.load()) : nothing}
      <p class="figure" part="figure">${this.t("spent", { count: at ? data.series.spent[this.at ?? 0] : data.totals.spent })}</p>
      <p class="read small muted">${at ? formatDay(this.tag, at, { dateStyle: "full" }) : this.comparison(data)}</p>
      ${data.totals.spent > 0 ? this.chart(data) : html`<p class="chart blank muted">${this.t("noUsage")}</p>`}
      <p class="ends small muted"><span>${day(starts[0])}</span><span>${day(starts[starts.length - 1])}</span></p>
      ${this.legend(data)}
      <div class="foot small muted">
        <label><span>${this.t("by")}</span><select @change=${this.group}>${["operation", "provider"].map(
          (by) => html`<option value=${by} ?selected=${by === this.by}>${this.t(`by_${by}`)}</option>`,
        )}</select></label>
        <span part="zone">${this.t("daysOf", { zone: data.zone })}</span>
        ${
          data.zone !== ownZone() && ownZone().includes("/")
            ? html`<button class="quiet" part="use-zone" @click=${this.move}>${this.t("useZone", { zone: ownZone() })}</button>`
            : nothing
        }
      </div>
    </section>`;
  }

  /** @private @param {Usage} data */
  comparison(data) {
    const before = data.before?.totals.spent ?? 0;
    const now = data.totals.spent;
    if (!before) return nothing;
    const change = now / before - 1;
    const days = data.starts.length;
    const percent = this.number(Math.abs(change), { style: "percent", maximumFractionDigits: 0 });
    if (Math.abs(change) < 0.005) return this.t("same", { days });
    return this.t(change < 0 ? "less" : "morethan", { days, percent });
  }

  /** The largest groups, and the others as one. @private @param {Usage} data */
  layers(data) {
    const shown = data.groups.slice(0, SHOWN);
    const layers = shown.map(({ group, totals, series }) => ({ group, total: totals.spent, spent: series.spent }));
    const rest = data.groups.slice(SHOWN);
    if (rest.length) {
      const spent = data.starts.map((_, day) => rest.reduce((sum, { series }) => sum + series.spent[day], 0));
      layers.push({ group: null, total: rest.reduce((sum, { totals }) => sum + totals.spent, 0), spent });
    }
    return layers;
  }

  /** @private @param {Usage} data */
  chart(data) {
    const layers = this.layers(data);
    const { starts } = data;
    const most = Math.max(1, ...data.series.spent);
    const focusable = this.at ?? starts.length - 1;
    return html`<div class="chart" part="chart">
      <span class="scale small muted" aria-hidden="true">${this.number(most)}</span>
      <svg
        viewBox="0 0 ${starts.length * 10} ${HEIGHT}"
        preserveAspectRatio="none"
        role="group"
        aria-label=${this.t("chart")}
        @keydown=${this.keys}
        @pointerleave=${() => (this.at = null)}
      >
        <line class="line" x1="0" x2=${starts.length * 10} y1="0" y2="0" />
        <line class="line" x1="0" x2=${starts.length * 10} y1=${HEIGHT} y2=${HEIGHT} />
        ${starts.map((start, day) => {
          let top = HEIGHT;
          const label = this.t("bar", {
            date: formatDay(this.tag, start, { dateStyle: "long" }),
            credits: this.t("spent", { count: data.series.spent[day] }),
          });
          return svg`<g class="day" role="img" aria-label=${label} tabindex=${day === focusable ? 0 : -1}
            @focus=${() => (this.at = day)} @blur=${() => (this.at = null)} @pointerenter=${() => (this.at = day)}>
            <rect class="hit" x=${day * 10} y="0" width="10" height=${HEIGHT} />
            ${layers.map(({ spent }, layer) => {
              const height = (spent[day] / most) * HEIGHT;
              top -= height;
              return spent[day] > 0
                ? svg`<rect class="c${layer + 1}" x=${day * 10 + 1.5} y=${top} width="7" height=${Math.max(0.5, height - 0.6)} />`
                : nothing;
            })}
          </g>`;
        })}
      </svg>
      ${this.table(data, layers)}
    </div>`;
  }

  /** @private @param {Usage} data @param {Array<{ group: string | null, spent: number[] }>} layers */
  table(data, layers) {
    return html`<div class="spoken"><table>
      <caption>${this.t("usage")}</caption>
      <thead><tr><th scope="col">${this.t("day")}</th>${layers.map(({ group }) => html`<th scope="col">${this.name(group)}</th>`)}<th scope="col">${this.t("total")}</th></tr></thead>
      <tbody>${data.starts.map(
        (start, day) =>
          html`<tr><th scope="row">${formatDay(this.tag, start, { dateStyle: "medium" })}</th>${layers.map(
            ({ spent }) => html`<td>${this.number(spent[day])}</td>`,
          )}<td>${this.number(data.series.spent[day])}</td></tr>`,
      )}</tbody>
    </table></div>`;
  }

  /** @private @param {Usage} data */
  legend(data) {
    const layers = this.layers(data).filter(({ total }) => total > 0);
    if (!layers.length) return nothing;
    return html`<ul class="legend small" part="legend">${layers.map(
      ({ group, total }, layer) =>
        html`<li><span class="key c${layer + 1}"></span><span>${this.name(group)}</span><span class="muted">${this.number(total)}</span></li>`,
    )}</ul>`;
  }
}

define("credits-usage", CreditsUsage);
