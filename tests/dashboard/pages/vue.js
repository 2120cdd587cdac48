import { createApp, ref } from "vue";
import "../../../functions/dashboard/client/index.js";

const { url, key, session } = globalThis.given;
const client = globalThis.supabase.createClient(url, key, { auth: { autoRefreshToken: false } });
await client.auth.setSession(session);

const app = createApp({
  setup: () => ({ client, opened: ref(false) }),
  template: '<credits-balance :client.prop="client" @credits-buy="opened = true" /><p v-if="opened">The shop opens.</p>',
});
app.config.compilerOptions.isCustomElement = (tag) => tag.startsWith("credits-");
app.mount("#root");
globalThis.ready = true;
