// The requests of storage-js's own test suite that touch more than a file. Prints one JSON object of what it saw.
import { createClient } from "@supabase/supabase-js";
import ws from "ws"; // Node before 22 has no WebSocket of its own

const { API_URL, SECRET_KEY, BUCKET } = process.env;
const { storage } = createClient(API_URL, SECRET_KEY, {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: ws },
});
const files = storage.from(BUCKET);
const must = ({ data, error }) => {
  if (error) throw error;
  return data;
};
const text = async (path) => (await must(await files.download(path))).text();
const seen = {};

// Signed uploads, with a body of each kind.
const path = "testpath/file.txt";
const signed = must(await files.createSignedUploadUrl(path));
seen.signed = [signed.path, signed.signedUrl.startsWith(`${API_URL}/storage/v1/object/upload/sign/${BUCKET}/${path}`)];
seen.first = must(await files.uploadToSignedUrl(path, signed.token, Buffer.from("one"), { contentType: "text/css" }));
seen.twice = (await files.uploadToSignedUrl(path, signed.token, Buffer.from("two"))).error;
seen.there = (await files.createSignedUploadUrl(path)).error;
const over = must(await files.createSignedUploadUrl(path, { upsert: true }));
must(await files.uploadToSignedUrl(path, over.token, new Blob(["three"], { type: "text/csv" }), { cacheControl: "7" }));
seen.over = [await text(path), must(await files.info(path)).contentType, must(await files.info(path)).cacheControl];
seen.plain = (await fetch(over.signedUrl, { method: "PUT", body: "four", headers: { "content-type": "text/x" } })).status;
seen.fourth = await text(path);

// A form whose file comes first: storage-js appends the other fields.
const form = new FormData();
form.append("", new Blob(["form"]), "file.txt");
form.append("contentType", "text/markdown");
must(await files.upload("form.md", form, { cacheControl: "60", metadata: { by: "form" } }));
const info = must(await files.info("form.md"));
seen.form = [await text("form.md"), info.contentType, info.cacheControl, info.metadata];
must(await files.upload("bare", "x"));
seen.metadata = must(await files.info("bare")).metadata;
must(await files.remove(["bare", "form.md"]));

// Lists with a cursor.
const page = must(await files.listV2({ prefix: "testpath" }));
seen.page = [page.hasNext, page.folders, page.objects.map(({ name, key }) => [name, key])];
const folders = must(await files.listV2({ with_delimiter: true }));
seen.folders = [folders.hasNext, folders.folders.map(({ name, key }) => [name, key]), folders.objects];
must(await files.remove([path]));
const suffixes = ["zz", "bb", "xx", "ww", "cc", "aa", "yy", "oo"];
for (const suffix of suffixes) must(await files.upload(`testpath/${suffix}`, suffix));
seen.sorted = [];
for (const sortBy of [
  undefined,
  { column: "name", order: "desc" },
  { column: "created_at", order: "asc" },
  { column: "created_at", order: "desc" },
]) {
  const pages = [];
  let cursor;
  do {
    const got = must(await files.listV2({ prefix: "testpath/", with_delimiter: true, limit: 2, cursor, sortBy }));
    pages.push(got.objects.map(({ key }) => key).join(" "));
    cursor = got.nextCursor;
    if (got.hasNext !== (cursor !== undefined)) throw new Error("hasNext without nextCursor, or nextCursor without hasNext");
  } while (cursor);
  seen.sorted.push(pages.join(", "));
}

// Buckets.
seen.space = (await storage.createBucket(` ${BUCKET}`)).error;
const listed = async (options) => must(await storage.listBuckets(options)).map(({ name }) => name.replace(BUCKET, ""));
for (const letter of ["b", "a", "c"]) must(await storage.createBucket(`${BUCKET}${letter}`));
const search = BUCKET.toUpperCase();
seen.buckets = [
  await listed({ search, sortColumn: "name", sortOrder: "desc" }),
  await listed({ search, sortColumn: "created_at", limit: 2, offset: 1 }),
  await listed({ search: `${BUCKET}a`, limit: 100 }),
];
seen.limit = (await storage.listBuckets({ limit: 0 })).data;
seen.updated = must(await storage.updateBucket(`${BUCKET}a`, { fileSizeLimit: "20mb", allowedMimeTypes: ["image/jpeg"], public: true }));
const { file_size_limit, allowed_mime_types } = must(await storage.getBucket(`${BUCKET}a`));
seen.settings = [file_size_limit, allowed_mime_types];
for (const letter of ["b", "a", "c"]) must(await storage.deleteBucket(`${BUCKET}${letter}`));
seen.emptied = must(await storage.emptyBucket(BUCKET)).message;

console.log(JSON.stringify(seen));
