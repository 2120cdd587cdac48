/**
 * How the elements look that have more than a figure and a button.
 * @module
 */
import { css } from "./reactive.js";

/** For the elements that have more than a figure and a button. */
export const controls = css`
  :host {
    --_good: var(--credits-good, light-dark(#0b6b3a, #62d19b));
  }
  ul,
  ol,
  dl,
  dd {
    padding: 0;
    list-style: none;
  }
  select,
  input {
    font: inherit;
    font-size: 0.9375rem;
    color: inherit;
    min-block-size: 40px;
    max-inline-size: 100%;
    padding-inline: 10px;
    border: 1px solid var(--credits-edge, light-dark(#858d9b, #6c7585));
    border-radius: calc(var(--_radius) * 0.67);
    background: var(--_surface);
  }
  .message {
    margin-block: 8px;
  }
  svg {
    display: block;
    flex: none;
  }
  button[aria-disabled="true"] {
    cursor: default;
  }
  .quiet {
    border-color: transparent;
    background: none;
    color: var(--_accent);
  }
  .row {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: 12px;
  }
  @media (prefers-reduced-motion: no-preference) {
    .bone {
      animation: breathe 1.6s ease-in-out infinite alternate;
    }
  }
  @keyframes breathe {
    to {
      opacity: 0.5;
    }
  }
`;
