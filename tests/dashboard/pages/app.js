// An app as its authors write it: supabase-js by a script tag, the elements by another, and the client given to them.
// `given` is what the test hands over: {url, key, session}.
import "/static/credits.js";

const { url, key, session } = globalThis.given;
const client = globalThis.supabase.createClient(url, key, { auth: { autoRefreshToken: false } });
if (session) await client.auth.setSession(session);
globalThis.client = client;
for (const element of document.querySelectorAll("*")) {
  if (element.localName.startsWith("credits-")) element.client = client;
}
globalThis.ready = true;
