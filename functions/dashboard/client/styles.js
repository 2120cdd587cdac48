/**
 * How everything looks. An app sets `--credits-accent`; the other variables are there for who wants more.
 * @module
 */
import { css } from "./reactive.js";

export const base = css`
  :host {
    --_accent: var(--credits-accent, light-dark(#3558e0, #8ea6ff));
    --_on-accent: var(--credits-on-accent, light-dark(#fff, #10131a));
    --_surface: var(--credits-surface, light-dark(#fff, #16181d));
    --_text: var(--credits-text, light-dark(#15181e, #eceef2));
    --_muted: var(--credits-muted, light-dark(#5b6370, #a3abb8));
    --_line: var(--credits-line, light-dark(#e4e7ec, #2c313a));
    --_soft: var(--credits-soft, light-dark(#f2f4f7, #22262e));
    --_warn: var(--credits-warn, light-dark(#8a4a00, #f2b45c));
    --_bad: var(--credits-bad, light-dark(#b3261e, #ff938a));
    --_radius: var(--credits-radius, 12px);
    display: block;
    container-type: inline-size;
    color: var(--_text);
    font-family: var(--credits-font, inherit);
    line-height: 1.5;
    text-align: start;
    font-variant-numeric: tabular-nums;
  }
  :host([hidden]) {
    display: none;
  }
  * {
    box-sizing: border-box;
    margin: 0;
  }
  h2 {
    font-size: 1.0625rem;
    font-weight: 600;
    line-height: 1.5rem;
  }
  .card {
    background: var(--_surface);
    border: 1px solid var(--_line);
    border-radius: var(--_radius);
    padding: clamp(16px, 5cqi, 28px);
  }
  .muted {
    color: var(--_muted);
  }
  .small {
    font-size: 0.875rem;
    line-height: 1.25rem;
  }
  .spoken {
    position: absolute;
    inline-size: 1px;
    block-size: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
  .message {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: 8px 16px;
    min-block-size: 40px;
  }
  button,
  .button {
    display: inline-flex;
    align-items: center;
    justify-content: center;
    gap: 8px;
    min-block-size: 40px;
    padding: 8px 16px;
    border: 1px solid var(--_line);
    border-radius: calc(var(--_radius) * 0.67);
    background: var(--_surface);
    color: inherit;
    font: inherit;
    font-size: 0.9375rem;
    font-weight: 550;
    text-decoration: none;
    cursor: pointer;
  }
  button:hover {
    background: var(--_soft);
  }
  .primary,
  .primary:hover {
    background: var(--_accent);
    border-color: var(--_accent);
    color: var(--_on-accent);
  }
  :focus-visible {
    outline: 2px solid var(--_accent);
    outline-offset: 2px;
  }
  .bone {
    border-radius: 6px;
    background: var(--_soft);
    color: transparent;
  }
  .bone::before {
    content: attr(data-like);
  }
`;
