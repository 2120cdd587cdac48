export { CreditsBalance } from "./balance.js";
export { CreditsError } from "./errors.js";
export { CreditsHistory } from "./history.js";
export { defineStrings } from "./language.js";
export { createCredits, InsufficientEvent } from "./credits.js";
