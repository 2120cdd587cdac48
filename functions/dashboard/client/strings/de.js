/**
 * The words in German.
 * @module
 */
/** @type {import("../language.js").Texts} */
export default {};
