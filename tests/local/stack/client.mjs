// What an app does with supabase-js: sign in, refresh, call an RPC, be refused a write, sign out.
// Prints what it saw as JSON.
import { createClient } from "@supabase/supabase-js";
import ws from "ws"; // Node before 22 has no WebSocket of its own

const { API_URL, PUBLISHABLE_KEY, EMAIL, PASSWORD } = process.env;
const supabase = createClient(API_URL, PUBLISHABLE_KEY, {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: ws },
});

const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};

const refused = await supabase.auth.signInWithPassword({ email: EMAIL, password: "wrong" });
const { user, session } = must(await supabase.auth.signInWithPassword({ email: EMAIL, password: PASSWORD }));
const renewed = must(await supabase.auth.refreshSession());
must(await supabase.auth.getUser());
// Verified here, by the published key; getUser would ask Auth.
const { header, claims } = must(await supabase.auth.getClaims());
const quote = must(await supabase.rpc("quote_credits", { operation: "dalle3_image" }));
must(await supabase.from("credit_transactions").select("*").limit(1));
const write = await supabase.from("credit_transactions").insert({ amount: 1 });
must({ data: null, ...(await supabase.auth.signOut()) });
const after = await supabase.auth.getUser(renewed.session.access_token);

console.log(
  JSON.stringify({
    user: user.id,
    refreshed: renewed.session.refresh_token !== session.refresh_token,
    alg: header.alg,
    sub: claims.sub,
    quote,
    refusedCode: refused.error?.code,
    writeRefused: write.error?.code,
    signedOut: after.error !== null,
  }),
);
