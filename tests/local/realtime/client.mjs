// What an app does with supabase-js: a live balance, a private broadcast, presence. Prints what it heard as JSON.
import { createClient } from "@supabase/supabase-js";
import ws from "ws"; // Node before 22 has no WebSocket of its own

const { API_URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, OTHER_TOPIC, VSN } = process.env;
const supabase = createClient(API_URL, PUBLISHABLE_KEY, {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: ws, vsn: VSN },
});
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};
// Resolves with the next call of the function that it gives away.
const next = (register) => new Promise((resolve) => register(resolve));
const subscribed = (channel) => next((done) => channel.subscribe((status, error) => done([status, error?.message])));

const { user, session } = must(await supabase.auth.signInWithPassword({ email: EMAIL, password: PASSWORD }));
await supabase.realtime.setAuth(session.access_token);
const { account_id } = must(await supabase.from("user_credits").select("account_id").single());

const balance = supabase.channel("balance");
const change = next((done) =>
  balance.on("postgres_changes", { event: "UPDATE", schema: "public", table: "credit_accounts", filter: `id=eq.${account_id}` }, done),
);
const ready = next((done) => balance.on("system", {}, done));
const status = await subscribed(balance);
const system = await ready;
const spent = must(await supabase.rpc("consume_credits", { operation: "stable_diffusion" }));
const changed = await change;

// A private topic of one's own, and another's.
const topic = `credits:${user.id}`;
const own = supabase.channel(topic, { config: { private: true, broadcast: { self: true, ack: true } } });
const echoed = next((done) => own.on("broadcast", { event: "hello" }, done));
const ownStatus = await subscribed(own);
const sent = await own.send({ type: "broadcast", event: "hello", payload: { n: 1 } });
const heard = await echoed;
const [otherStatus, refusal] = await subscribed(supabase.channel(OTHER_TOPIC, { config: { private: true } }));

const room = supabase.channel(`room-${user.id}`, { config: { presence: { key: "me" } } });
const synced = next((done) =>
  room.on("presence", { event: "sync" }, () => room.presenceState().me && done(room.presenceState())),
);
await subscribed(room);
const tracked = await room.track({ page: "home" });
const present = await synced;

// A new token: the channels go on with it.
const again = next((done) => balance.on("system", {}, done));
const renewed = must(await supabase.auth.refreshSession());
await supabase.realtime.setAuth(renewed.session.access_token);
const resubscribed = await again;
const left = await supabase.removeAllChannels();

console.log(
  JSON.stringify({
    status: status[0],
    system: system.message,
    changed: { type: changed.eventType, available: changed.new.available, old: changed.old, errors: changed.errors },
    spent: spent.balance_after,
    account_id,
    ownStatus: ownStatus[0],
    sent,
    heard: heard.payload,
    otherStatus,
    refusal,
    tracked,
    present: present.me[0].page,
    resubscribed: resubscribed.message,
    left,
  }),
);
process.exit(0);
