/**
 * Words, numbers, dates and money in the user's language. Everything by `Intl`; the words are replaceable.
 * @module
 */

/**
 * A text, with {names} of values in it; or one for each plural category of `count`.
 * @typedef {string | Partial<Record<Intl.LDMLPluralRule, string>>} Text
 * @typedef {Record<string, Text>} Texts
 */

/** @type {Record<string, () => Promise<{ default: Texts }>>} */
const shipped = { de: () => import("./strings/de.js") };
/** @type {Map<string, Texts>} */
const known = new Map();
/** @type {Map<string, Promise<unknown>>} */
const loading = new Map();
/** @type {Set<() => void>} */
const readers = new Set();

/**
 * Give the words of a language, or of a variety of it such as `pt-BR`. What is left out stays English.
 * @param {string} language
 * @param {Texts} texts
 */
export function defineStrings(language, texts) {
  const tag = language.toLowerCase();
  known.set(tag, { ...known.get(tag), ...texts });
  for (const reader of readers) reader();
}

/**
 * Be told when the words of some language have come.
 * @param {() => void} reader
 * @returns {() => void} ends it
 */
export function onStrings(reader) {
  readers.add(reader);
  return () => readers.delete(reader);
}

/**
 * The words of a language, the more special first; begins to load those that are shipped.
 * @param {string} tag
 * @returns {{ texts: Texts[], ready: boolean }}
 */
export function stringsOf(tag) {
  const lower = tag.toLowerCase();
  const base = lower.split("-")[0];
  const load = shipped[base];
  if (load && !loading.has(base)) {
    const own = known.get(base);
    loading.set(
      base,
      load().then(
        (module) => defineStrings(base, { ...module.default, ...own, ...known.get(base) }),
        () => defineStrings(base, {}), // not there: English will do
      ),
    );
  }
  const texts = /** @type {Texts[]} */ ([known.get(lower), known.get(base)].filter(Boolean));
  return { texts, ready: !load || known.has(base) };
}

/** @type {Map<string, string>} */
const canonical = new Map();

/**
 * A tag that `Intl` takes: the one given, or the nearest to it. Some systems say `en-US@posix`.
 * @param {string | null | undefined} tag
 * @returns {string}
 */
export function languageTag(tag) {
  const given = tag || "en";
  let found = canonical.get(given);
  if (found === undefined) {
    found = "en";
    for (const candidate of [given, given.replace(/_/g, "-").split(/[@.]/)[0], given.split(/[-_@.]/)[0]]) {
      try {
        found = Intl.getCanonicalLocales(candidate)[0] || "en";
        new Intl.NumberFormat(found);
        break;
      } catch {
        found = "en";
      }
    }
    canonical.set(given, found);
  }
  return found;
}

/** @type {Map<string, any>} */
const formats = new Map();

/**
 * @template T
 * @param {string} key
 * @param {() => T} make
 * @returns {T}
 */
function cached(key, make) {
  if (!formats.has(key)) formats.set(key, make());
  return formats.get(key);
}

/**
 * A whole number, exact to 10^15.
 * @param {string} tag
 * @param {number} value
 * @param {Intl.NumberFormatOptions} [options]
 */
export function formatNumber(tag, value, options) {
  return cached(`n ${tag} ${JSON.stringify(options)}`, () => new Intl.NumberFormat(tag, options)).format(value);
}

/**
 * @param {string} tag
 * @param {number} count
 */
export function plural(tag, count) {
  return cached(`p ${tag}`, () => new Intl.PluralRules(tag)).select(count);
}

/**
 * @param {string} tag
 * @param {Intl.DateTimeFormatOptions} options
 */
export function dateFormat(tag, options) {
  return cached(`d ${tag} ${JSON.stringify(options)}`, () => new Intl.DateTimeFormat(tag, options));
}

/**
 * A text with its values in it.
 * @param {string} tag
 * @param {Text} text
 * @param {Record<string, string | number>} values numbers are formatted; `count` chooses the plural
 */
export function fill(tag, text, values) {
  const one = typeof text === "string" ? text : (text[plural(tag, Number(values.count))] ?? text.other ?? "");
  return one.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return typeof value === "number" ? formatNumber(tag, value) : (value ?? whole);
  });
}
