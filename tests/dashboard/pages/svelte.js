import { mount } from "svelte";
import "../../../functions/dashboard/client/index.js";
import App from "./App.svelte";

const { url, key, session } = globalThis.given;
const client = globalThis.supabase.createClient(url, key, { auth: { autoRefreshToken: false } });
await client.auth.setSession(session);

mount(App, { target: document.getElementById("root"), props: { client } });
globalThis.ready = true;
