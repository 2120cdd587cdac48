// Signing in with supabase-js by the link of a message, with PKCE as server-side rendering uses it; an anonymous
// user who becomes a permanent one. Prints what it saw as JSON.
import { createClient } from "@supabase/supabase-js";
import { webcrypto } from "node:crypto";
import ws from "ws"; // Node before 22 has no WebSocket of its own

globalThis.crypto ??= webcrypto;
const { API_URL, PUBLISHABLE_KEY, EMAIL, NEW_EMAIL, SITE } = process.env;
const client = (flowType) =>
  createClient(API_URL, PUBLISHABLE_KEY, {
    auth: { persistSession: false, autoRefreshToken: false, flowType, storage: memory() },
    realtime: { transport: ws },
  });
const memory = () => {
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
};
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};
const newest = async (to) => (await (await fetch(`${API_URL}/mail.json?to=${encodeURIComponent(to)}`)).json())[0];

const server = client("pkce");
must(await server.auth.signInWithOtp({ email: EMAIL, options: { emailRedirectTo: `${SITE}/after?x=1` } }));
const { link } = await newest(EMAIL);
const followed = await fetch(link, { redirect: "manual" });
const location = new URL(followed.headers.get("location"));
const { session } = must(await server.auth.exchangeCodeForSession(location.searchParams.get("code")));
const again = await server.auth.exchangeCodeForSession(location.searchParams.get("code"));

const app = client("implicit");
const anonymous = must(await app.auth.signInAnonymously());
const asked = must(await app.auth.updateUser({ email: NEW_EMAIL }));
const { code } = await newest(NEW_EMAIL);
const verified = must(await app.auth.verifyOtp({ email: NEW_EMAIL, token: code, type: "email_change" }));

console.log(
  JSON.stringify({
    status: followed.status,
    path: `${location.origin}${location.pathname}`,
    kept: location.searchParams.get("x"),
    signedIn: session.user.email,
    again: again.error?.message !== undefined,
    anonymous: anonymous.user.is_anonymous,
    asked: asked.user.new_email,
    same: verified.user.id === anonymous.user.id,
    permanent: verified.user.is_anonymous === false && verified.user.email === NEW_EMAIL,
  }),
);
process.exit(0);
