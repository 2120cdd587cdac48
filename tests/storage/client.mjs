// What an app does with files, through supabase-js. Prints one JSON object of what it saw.
import { createClient } from "@supabase/supabase-js";
import ws from "ws"; // Node before 22 has no WebSocket of its own

const { API_URL, PUBLISHABLE_KEY, EMAIL, PASSWORD, ACCOUNT } = process.env;
const options = { auth: { persistSession: false, autoRefreshToken: false }, realtime: { transport: ws } };
const supabase = createClient(API_URL, PUBLISHABLE_KEY, options);
const anon = createClient(API_URL, PUBLISHABLE_KEY, options);

const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};

must(await supabase.auth.signInWithPassword({ email: EMAIL, password: PASSWORD }));
const files = supabase.storage.from("generations");
const bytes = new Uint8Array(300_000).map((_, i) => i % 251);
const [asIs, asForm] = [`${ACCOUNT}/inputs/a photo.png`, `${ACCOUNT}/inputs/form.webp`];

const uploaded = must(await files.upload(asIs, bytes, { contentType: "image/png", metadata: { by: "js" } }));
must(await files.upload(asForm, new Blob([bytes], { type: "image/webp" }), { cacheControl: "60" }));
const info = must(await files.info(asIs));
const formInfo = must(await files.info(asForm));
const downloaded = new Uint8Array(await must(await files.download(asIs)).arrayBuffer());
const { signedUrl } = must(await files.createSignedUrl(asIs, 60));
const fetched = await fetch(signedUrl);
const many = must(await files.createSignedUrls([asForm, "elsewhere.png"], 60));
const ofMany = await fetch(many[0].signedUrl);
const listed = must(await files.list(`${ACCOUNT}/inputs`, { sortBy: { column: "name", order: "desc" } }));
const again = await files.upload(asIs, bytes, { contentType: "image/png" });
const outside = await files.upload(`${ACCOUNT}/x.png`, bytes, { contentType: "image/png" });
const page = await files.upload(`${ACCOUNT}/inputs/page.html`, bytes, { contentType: "image/png" });
const text = await files.upload(`${ACCOUNT}/inputs/page.png`, bytes, { contentType: "text/plain" });
const foreign = await anon.storage.from("generations").download(asIs);
const existed = await files.exists(asIs);
const removed = must(await files.remove([asIs, asForm]));
const after = await files.exists(asIs);

const same = (other) => other.length === bytes.length && other.every((byte, i) => byte === bytes[i]);
console.log(
  JSON.stringify({
    path: uploaded.path,
    info: { size: info.size, contentType: info.contentType, cacheControl: info.cacheControl, by: info.metadata.by },
    form: { size: formInfo.size, contentType: formInfo.contentType, cacheControl: formInfo.cacheControl },
    downloaded: same(downloaded),
    fetched: fetched.status === 200 && same(new Uint8Array(await fetched.arrayBuffer())),
    many: [ofMany.status, many[1].signedUrl, many[1].error !== null],
    listed: listed.map(({ name }) => name),
    again: again.error?.statusCode,
    outside: outside.error?.statusCode,
    page: page.error?.statusCode,
    text: text.error?.statusCode,
    foreign: foreign.error !== null,
    existed: existed.data,
    removed: removed.map(({ name }) => name).sort(),
    after: after.data,
  }),
);
