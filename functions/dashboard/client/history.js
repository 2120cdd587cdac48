/**
 * `<credits-history>`: the ledger, row by row, with the balance after each.
 * @module
 */
import { html, nothing } from "lit/html.js";
import { controls } from "./controls.js";
import { css, define } from "./reactive.js";
import { ReadingElement } from "./reading.js";
import { history as texts } from "./strings/en.js";
import { base } from "./styles.js";
import { addDays, inZone, isDate } from "./zone.js";

/** @typedef {import("./errors.js").CreditsError} CreditsError */

/**
 * A row as the RPC `credit_history` gives it.
 * @typedef {object} Entry
 * @property {number} id
 * @property {string} created_at
 * @property {string} kind
 * @property {number} amount
 * @property {number} balance_after
 * @property {string | null} operation
 * @property {number | null} quantity
 * @property {string | null} source
 */

/** @typedef {{ kind: string, operation: string, from: string, to: string }} Filter */

const KINDS = ["grant", "spend", "capture", "refund", "clawback", "expiry"];
const PAGE = 50;
const CSV_PAGE = 200;
/** @type {Filter} */
const ALL = { kind: "", operation: "", from: "", to: "" };

/**
 * What the RPC is asked for.
 * @param {Filter} filter
 * @param {number | null} before
 * @param {number} size
 */
function request(filter, before, size) {
  return {
    ...(filter.kind && { kinds: [filter.kind] }),
    ...(filter.operation && { operations: [filter.operation] }),
    ...(filter.from && { from: filter.from }),
    // People mean the last day, too; the call means the day after it.
    ...(filter.to && { to: addDays(filter.to, 1) }),
    ...(before !== null && { before }),
    page_size: size,
  };
}

/**
 * A cell of a CSV file. Spreadsheets take a text that begins with one of these for a formula.
 * @param {string | number | null} value
 */
export function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

/**
 * The ledger: what came and went, in words, with the balance after it. Filters stand in the page's address, unless `url`
 * is "off"; what is on screen grows by "Show more", and new rows come by themselves.
 *
 * @csspart card @csspart filters @csspart table @csspart row @csspart more
 */
export class CreditsHistory extends ReadingElement {
  static styles = [
    base,
    controls,
    css`
      .top {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        justify-content: space-between;
        gap: 8px 16px;
      }
      .filters {
        display: flex;
        flex-wrap: wrap;
        gap: 12px;
        margin-block: 16px 8px;
      }
      .top .quiet {
        margin-inline-end: -16px;
      }
      label {
        display: grid;
        grid-template-columns: minmax(0, 1fr);
        gap: 4px;
        flex: 1 1 118px;
        min-inline-size: 0;
      }
      .date {
        flex-basis: 140px;
      }
      label select,
      label input {
        inline-size: 100%;
      }
      table {
        inline-size: 100%;
        border-collapse: collapse;
      }
      th {
        font-weight: 500;
        text-align: start;
        padding-block: 8px;
      }
      td {
        padding-block: 12px;
        border-block-start: 1px solid var(--_line);
        vertical-align: top;
        overflow-wrap: anywhere;
      }
      th + th,
      td + td {
        padding-inline-start: 16px;
        text-align: end;
        white-space: nowrap;
      }
      td strong {
        font-weight: 550;
      }
      td p + p {
        margin-block-start: 2px;
      }
      .in {
        color: var(--_good);
        font-weight: 550;
      }
      .more {
        display: flex;
        justify-content: center;
        padding-block-start: 16px;
        border-block-start: 1px solid var(--_line);
      }
      .none {
        padding-block: 24px;
        text-align: center;
      }
      .foot {
        margin-block-start: 12px;
      }
      @container (max-width: 380px) {
        th:nth-child(3),
        td:nth-child(3) {
          display: none;
        }
        .after {
          display: block;
        }
      }
      @container (min-width: 381px) {
        .after {
          display: none;
        }
      }
    `,
  ];
  static texts = texts;
  static properties = {
    ...ReadingElement.properties,
    url: {},
    filter: { state: true },
    entries: { state: true },
    next: { state: true },
    zone: { state: true },
    busy: { state: true },
    names: { state: true },
    saving: { state: true },
  };

  constructor() {
    super();
    /** @type {string} "off" keeps the filters out of the page's address */
    this.url = "";
    /** @type {Filter} */
    this.filter = ALL;
    /** @type {Entry[] | null} */
    this.entries = null;
    /** @type {number | null} where the next page begins */
    this.next = null;
    /** @type {string} */
    this.zone = "";
    this.busy = false;
    this.saving = false;
    /** @type {string[]} operations to choose from */
    this.names = [];
    /** Counts the readings of what is new: the last one counts. */
    this.renewal = 0;
    this.back = () => {
      this.filter = this.fromAddress();
      void this.load();
    };
  }

  connectedCallback() {
    super.connectedCallback();
    this.filter = this.fromAddress();
    addEventListener("popstate", this.back);
  }

  leave() {
    super.leave();
    removeEventListener("popstate", this.back);
  }

  join() {
    super.join();
    addEventListener("popstate", this.back);
  }

  forget() {
    this.entries = null;
  }

  /** @param {boolean} isFirst */
  readAgain(isFirst) {
    if (isFirst) void this.choices();
    void (!isFirst && this.entries ? this.renew() : this.load());
  }

  /** @private */
  async choices() {
    const answer = await this.store?.read((client) =>
      client.from("pricing_tiers").select("operation").order("operation"),
    );
    /** @type {any} */
    const rows = answer?.data ?? [];
    this.names = [...new Set(/** @type {string[]} */ (rows.map((/** @type {any} */ row) => row.operation)))];
  }

  /**
   * @private
   * @param {number | null} before
   * @param {number} [size]
   * @param {Filter} [filter]
   * @param {() => boolean} [isOver] whether nobody waits for it any more
   * @returns {Promise<{ data: any, error: CreditsError | null }>}
   */
  async page(before, size = PAGE, filter = this.filter, isOver = this.untilReadAnew()) {
    const store = this.store;
    while (store && !isOver()) {
      const answer = await store.read((client) => client.rpc("credit_history", request(filter, before, size)));
      /** @type {any} */
      const data = answer.data;
      // A call looks at so many rows and says where it stopped: of a rare kind that page may be empty.
      if (answer.error || data.rows.length || data.next === null) return { data, error: answer.error };
      before = data.next;
    }
    return { data: null, error: null };
  }

  /** @private @returns {() => boolean} */
  untilReadAnew() {
    const { reading } = this;
    return () => reading !== this.reading;
  }

  /** Read the first page. @private */
  async load() {
    const reading = ++this.reading;
    this.busy = true;
    const { data, error } = await this.page(null);
    if (reading !== this.reading) return;
    this.busy = false;
    this.heard(error);
    if (!data) return;
    this.zone = data.zone;
    this.entries = data.rows;
    this.next = data.next;
  }

  /** Put what has come meanwhile on top of what is shown; older rows may be on their way to the end of it. @private */
  async renew() {
    const { reading } = this;
    const renewal = ++this.renewal;
    const { data, error } = await this.page(null);
    if (reading !== this.reading || renewal !== this.renewal) return;
    if (error || !data) {
      // With the next reading of the balance once more.
      this.isStale = true;
      return;
    }
    this.zone = data.zone;
    const newest = this.entries?.[0]?.id ?? 0;
    const fresh = data.rows.filter((/** @type {Entry} */ row) => row.id > newest);
    // More came than fit on a page: begin anew, so that there is no gap.
    if (fresh.length === data.rows.length && data.next !== null) {
      this.reading += 1;
      this.busy = false;
      this.entries = data.rows;
      this.next = data.next;
    } else if (fresh.length) this.entries = [...fresh, ...(this.entries ?? [])];
  }

  /** @private */
  async more() {
    if (this.busy || this.next === null) return;
    const { reading } = this;
    this.busy = true;
    const { data, error } = await this.page(this.next);
    if (reading !== this.reading) return;
    this.busy = false;
    this.failed = error;
    if (!data) return;
    this.entries = [...(this.entries ?? []), ...data.rows];
    this.next = data.next;
  }

  /** @private @param {keyof Filter} name @param {string} value */
  choose(name, value) {
    this.filter = { ...this.filter, [name]: value };
    if (this.url !== "off") {
      const address = new URL(location.href);
      for (const [key, chosen] of Object.entries(this.filter)) {
        if (chosen) address.searchParams.set(`credits-${key}`, chosen);
        else address.searchParams.delete(`credits-${key}`);
      }
      history.pushState(history.state, "", address);
    }
    void this.load();
  }

  /** The filter that the page's address names. Others write addresses, too: what cannot be is left out. @private */
  fromAddress() {
    const filter = { ...ALL };
    if (this.url === "off") return filter;
    const { searchParams } = new URL(location.href);
    const kind = searchParams.get("credits-kind") ?? "";
    const operation = searchParams.get("credits-operation") ?? "";
    if (KINDS.includes(kind)) filter.kind = kind;
    if (operation.length <= 100) filter.operation = operation;
    for (const end of /** @type {const} */ (["from", "to"])) {
      const date = searchParams.get(`credits-${end}`) ?? "";
      if (isDate(date)) filter[end] = date;
    }
    return filter;
  }

  /** A file with exactly what the filter leaves. @private */
  async save() {
    const { filter, store } = this;
    if (this.saving || !store) return;
    this.saving = true;
    const { turn } = store;
    // A file has the rows of one user.
    const isOver = () => !this.isConnected || store !== this.store || store.turn !== turn;
    const lines = ["id,time,kind,operation,quantity,credits,balance_after"];
    /** @type {number | null} */
    let before = null;
    do {
      const { data, error } = await this.page(before, CSV_PAGE, filter, isOver);
      if (error || !data || isOver()) {
        this.saving = false;
        this.failed = error;
        return;
      }
      for (const row of data.rows) {
        const cells = [row.id, row.created_at, row.kind, row.operation, row.quantity, row.amount, row.balance_after];
        lines.push(cells.map(csvCell).join(","));
      }
      before = data.next;
    } while (before !== null);
    this.saving = false;
    const file = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = file;
    link.download = "credits.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(file), 10_000);
  }

  /** What a row is, in words. @private @param {Entry} row */
  what(row) {
    if (row.operation && (row.kind === "spend" || row.kind === "capture")) return this.operation(row.operation);
    if (row.source) return this.t(`source_${row.source}`);
    return this.t(`kind_${row.kind}`);
  }

  /** @private @param {string} name */
  operation(name) {
    const key = `operation_${name}`;
    const words = this.t(key);
    if (words !== key) return words;
    const plain = name.replace(/_/g, " ");
    return plain.charAt(0).toUpperCase() + plain.slice(1);
  }

  skeleton() {
    return html`<section class="card" part="card" aria-busy="true">
      <div class="top"><h2>${this.t("history")}</h2><button class="quiet" aria-disabled="true">${this.t("csv")}</button></div>
      ${this.filters()}
      <p class="spoken" role="status">${this.t("loading")}</p>
      <table aria-hidden="true"><tbody>${bones(6)}</tbody></table>
    </section>`;
  }

  content() {
    if (this.missing) return nothing;
    const rows = this.entries;
    const isEmpty = rows?.length === 0 && !this.failed;
    const isBlank = isEmpty && !this.isFiltered();
    return html`<section class="card" part="card" aria-labelledby="title" aria-busy=${this.busy}>
      <div class="top">
        <h2 id="title">${this.t("history")}</h2>
        ${isBlank ? nothing : html`<button class="quiet" part="csv" aria-disabled=${this.saving} @click=${this.save}>${this.t(this.saving ? "saving" : "csv")}</button>`}
      </div>
      ${isBlank ? nothing : this.filters()}
      ${this.failed ? this.failure(this.failed, () => this.load()) : nothing}
      ${
        isEmpty
          ? html`<p class="none muted" part="empty">${this.t(this.isFiltered() ? "noneFiltered" : "none")}</p>`
          : !rows && this.failed
            ? nothing
            : html`<table part="table">
              <caption class="spoken">${this.t("history")}</caption>
              <thead class="small muted">
                <tr><th scope="col">${this.t("entry")}</th><th scope="col">${this.t("amount")}</th><th scope="col">${this.t("balanceAfter")}</th></tr>
              </thead>
              <tbody>${rows ? rows.map((row) => this.row(row)) : bones(6)}</tbody>
            </table>`
      }
      ${
        this.next !== null && rows
          ? html`<p class="more"><button part="more" aria-disabled=${this.busy} @click=${this.more}>${this.t("more")}</button></p>`
          : nothing
      }
      ${this.zone ? html`<p class="foot small muted" part="zone">${this.t("zone", { zone: this.zone })}</p>` : nothing}
    </section>`;
  }

  /** @private */
  isFiltered() {
    return Object.values(this.filter).some(Boolean);
  }

  /** @private @param {Entry} row */
  row(row) {
    const time = this.date(row.created_at, { dateStyle: "medium", timeStyle: "short", ...inZone(this.zone) });
    const words = this.what(row);
    const many = row.quantity && row.quantity > 1 ? ` × ${this.number(row.quantity)}` : "";
    const amount = this.number(row.amount, { signDisplay: "exceptZero" });
    return html`<tr part="row">
      <td>
        <p><strong>${words}${many}</strong></p>
        <p class="small muted"><time datetime=${row.created_at}>${time}</time></p>
      </td>
      <td>
        <p class=${row.amount > 0 ? "in" : ""}>${amount}</p>
        <p class="after small muted"><span class="spoken">${this.t("balanceAfter")}</span> ${this.number(row.balance_after)}</p>
      </td>
      <td class="muted">${this.number(row.balance_after)}</td>
    </tr>`;
  }

  /** @private */
  filters() {
    const { filter } = this;
    const chosen = (/** @type {keyof Filter} */ name) => (/** @type {Event} */ event) =>
      this.choose(name, /** @type {HTMLInputElement} */ (event.target).value);
    const names = [...new Set([...this.names, ...(filter.operation ? [filter.operation] : [])])];
    return html`<div class="filters small" part="filters">
      <label
        ><span class="muted">${this.t("kind")}</span
        ><select @change=${chosen("kind")} .value=${filter.kind}>
          <option value="" ?selected=${!filter.kind}>${this.t("all")}</option>
          ${KINDS.map((kind) => html`<option value=${kind} ?selected=${kind === filter.kind}>${this.t(`kind_${kind}`)}</option>`)}
        </select></label
      >
      <label
        ><span class="muted">${this.t("operation")}</span
        ><select @change=${chosen("operation")}>
          <option value="" ?selected=${!filter.operation}>${this.t("all")}</option>
          ${names.map((name) => html`<option value=${name} ?selected=${name === filter.operation}>${this.operation(name)}</option>`)}
        </select></label
      >
      <label class="date"
        ><span class="muted">${this.t("from")}</span
        ><input type="date" .value=${filter.from} max=${filter.to || nothing} @change=${chosen("from")}
      /></label>
      <label class="date"
        ><span class="muted">${this.t("to")}</span
        ><input type="date" .value=${filter.to} min=${filter.from || nothing} @change=${chosen("to")}
      /></label>
    </div>`;
  }
}

/** @param {number} count */
function bones(count) {
  return Array.from(
    { length: count },
    () => html`<tr>
      <td><p><span class="bone" data-like="Something bought"></span></p><p class="small"><span class="bone" data-like="1 January 2026"></span></p></td>
      <td><span class="bone" data-like="−10"></span></td>
      <td><span class="bone" data-like="1,000"></span></td>
    </tr>`,
  );
}

define("credits-history", CreditsHistory);
