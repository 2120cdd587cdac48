/**
 * What the elements have in common that read more than the balance: read it again when that has changed, and know by
 * which reading an answer is.
 * @module
 */
import { CreditsElement } from "./element.js";

/** @typedef {import("./errors.js").CreditsError} CreditsError */
/** @typedef {import("./store.js").Snapshot} Snapshot */

/** An element that reads something of the account for itself. */
export class ReadingElement extends CreditsElement {
  static properties = {
    ...CreditsElement.properties,
    failed: { state: true },
    missing: { state: true },
  };

  constructor() {
    super();
    /** @type {CreditsError | null} */
    this.failed = null;
    /** Whether the database has no such call. */
    this.missing = false;
    /** Counts the readings from the start: an answer to one before is thrown away. */
    this.reading = 0;
    /** @type {string | null} what was read last: whose, and of which revision */
    this.readFor = null;
    /** Whether what is new could not be read. */
    this.isStale = false;
  }

  leave() {
    super.leave();
    this.reading += 1;
    this.readFor = null;
  }

  /** @param {Snapshot} snapshot */
  take(snapshot) {
    super.take(snapshot);
    const { user, credits, revision } = snapshot;
    if (!credits) {
      this.readFor = null;
      this.forget();
      return;
    }
    const wanted = `${user} ${credits.account_id} ${revision}`;
    if (wanted === this.readFor && !this.isStale) return;
    const isFirst = this.readFor === null;
    this.isStale = false;
    this.readFor = wanted;
    this.readAgain(isFirst);
  }

  /** Let go of what was read: it is nobody's now. */
  forget() {}

  /** The account has changed, or is another. @param {boolean} _isFirst whether nothing of it was read before */
  readAgain(_isFirst) {}

  /** How the reading ended. @param {CreditsError | null} error */
  heard(error) {
    this.missing = Boolean(error?.isMissing);
    this.failed = error;
  }
}
