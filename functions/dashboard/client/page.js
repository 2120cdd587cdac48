/**
 * `<credits-page>`: the page that stands by itself. Signs the user in, and shows everything.
 * @module
 */
import { createClient } from "@supabase/supabase-js";
import { html, nothing } from "lit/html.js";
import { fill, languageTag, onStrings, stringsOf } from "./language.js";
import { refuseSecrets } from "./keys.js";
import { controls } from "./controls.js";
import { ReactiveElement, css, define } from "./reactive.js";
import { page as texts } from "./strings/en.js";
import { base } from "./styles.js";
import "./dashboard.js";

/** @typedef {import("@supabase/supabase-js").SupabaseClient} Client */

class CreditsPage extends ReactiveElement {
  static styles = [
    base,
    controls,
    css`
      header {
        display: flex;
        align-items: center;
        justify-content: space-between;
        gap: 16px;
        margin-block-end: 16px;
      }
      h1 {
        font-size: 1.25rem;
        font-weight: 650;
        letter-spacing: -0.01em;
      }
      form {
        display: grid;
        gap: 16px;
        max-inline-size: 400px;
        margin: 8vh auto 0;
      }
      label {
        display: grid;
        gap: 4px;
      }
      .who {
        overflow-wrap: anywhere;
      }
    `,
  ];
  static properties = {
    url: {},
    key: {},
    user: { state: true },
    way: { state: true },
    failed: { state: true },
    busy: { state: true },
  };

  constructor() {
    super();
    /** @type {string} the project's address */
    this.url = "";
    /** @type {string} its publishable key */
    this.key = "";
    /** @type {Client | null} */
    this.client = null;
    /** @type {{ id: string, email?: string } | null | undefined} undefined until known */
    this.user = undefined;
    /** @type {"password" | "email" | "code"} how to sign in */
    this.way = "password";
    this.email = "";
    this.failed = "";
    this.busy = false;
    this.tag = languageTag(document.documentElement.dataset.lang || navigator.language);
  }

  connectedCallback() {
    super.connectedCallback();
    onStrings(() => this.requestUpdate());
    document.documentElement.lang = this.tag;
    try {
      refuseSecrets(this.key);
      if (!this.url || !this.key) throw new Error(this.t("noKey"));
      // Nothing of a sign-in is ever read from an address, and none is sent in one.
      this.client = createClient(this.url, this.key, { auth: { detectSessionInUrl: false, flowType: "pkce" } });
    } catch (error) {
      this.failed = /** @type {Error} */ (error).message;
      return;
    }
    this.client.auth.onAuthStateChange((_event, session) => {
      try {
        refuseSecrets(session?.access_token);
        this.user = session?.user ?? null;
      } catch (error) {
        this.user = null;
        this.failed = /** @type {Error} */ (error).message;
      }
    });
  }

  /** @param {keyof typeof texts} key @param {Record<string, string | number>} [values] */
  t(key, values = {}) {
    const found = stringsOf(this.tag).texts.find((words) => key in words);
    return fill(this.tag, found?.[key] ?? texts[key], values);
  }

  /** @param {SubmitEvent} event */
  async signIn(event) {
    event.preventDefault();
    const { client } = this;
    if (!client || this.busy) return;
    const given = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const text = (/** @type {string} */ name) => String(given.get(name) ?? "").trim();
    this.busy = true;
    this.failed = "";
    this.email = text("email") || this.email;
    /** @type {{ error: { message: string } | null }} */
    let answer;
    if (this.way === "password") {
      answer = await client.auth.signInWithPassword({
        email: this.email,
        password: String(given.get("password") ?? ""),
      });
    } else if (this.way === "email") {
      answer = await client.auth.signInWithOtp({ email: this.email, options: { shouldCreateUser: false } });
      if (!answer.error) this.way = "code";
    } else answer = await client.auth.verifyOtp({ email: this.email, token: text("code"), type: "email" });
    this.busy = false;
    this.failed = answer.error ? this.t("wrong", { reason: answer.error.message }) : "";
  }

  async signOut() {
    const { client } = this;
    if (!client) return;
    this.user = null;
    // Without an answer of Auth's the session would stay here: what is stored goes in any case.
    await client.auth.signOut({ scope: "local" }).catch(() => {});
    await client.removeAllChannels().catch(() => {});
    for (const name of Object.keys(localStorage)) if (/^sb-.*-auth-token/.test(name)) localStorage.removeItem(name);
    // A page as new: nothing of one user is in memory, or in the address, when the next comes.
    location.replace(location.pathname);
  }

  /** @param {"password" | "email"} way */
  choose(way) {
    this.way = way;
    this.failed = "";
  }

  render() {
    if (!this.client) return html`<main><p role="alert">${this.failed}</p></main>`;
    if (this.user === undefined) return nothing;
    if (this.user) {
      return html`<header>
          <h1 class="who">${this.user.email ?? ""}</h1>
          <button part="sign-out" @click=${this.signOut}>${this.t("signOut")}</button>
        </header>
        <main><credits-dashboard .client=${this.client} .lang=${this.tag}></credits-dashboard></main>`;
    }
    const isCode = this.way === "code";
    return html`<main>
      <form class="card" method="dialog" @submit=${this.signIn}>
        <h1>${this.t("signIn")}</h1>
        <label><span class="small muted">${this.t("email")}</span><input name="email" type="email" autocomplete="username" required .value=${this.email} ?readonly=${isCode} /></label>
        ${
          this.way === "password"
            ? html`<label><span class="small muted">${this.t("password")}</span><input name="password" type="password" autocomplete="current-password" required /></label>`
            : nothing
        }
        ${
          isCode
            ? html`<p class="small" role="status">${this.t("codeSent")}</p>
                <label><span class="small muted">${this.t("code")}</span><input name="code" inputmode="numeric" autocomplete="one-time-code" required /></label>`
            : nothing
        }
        ${this.failed ? html`<p class="small" role="alert">${this.failed}</p>` : nothing}
        <button class="primary" aria-disabled=${this.busy}>${this.t(this.way === "email" ? "sendCode" : "signIn")}</button>
        <button type="button" class="quiet" @click=${() => this.choose(this.way === "password" ? "email" : "password")}>
          ${this.t(this.way === "password" ? "withCode" : "withPassword")}
        </button>
      </form>
    </main>`;
  }
}

define("credits-page", CreditsPage);
const shown = /** @type {CreditsPage} */ (document.createElement("credits-page"));
shown.url = document.body.dataset.url ?? "";
shown.key = document.body.dataset.key ?? "";
document.body.append(shown);
