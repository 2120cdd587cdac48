// Builds static/ from client/. `node functions/dashboard/build.mjs [FOLDER]`: FOLDER is for who compares.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const outdir = process.argv[2] ?? `${here}static`;
// esbuild leaves what stands between backquotes as it is, white space included.
const tighten = {
  name: "tighten",
  setup(build) {
    build.onLoad({ filter: /\/client\/.*\.js$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const contents = source
        .replace(/\bcss`[^`]*`/g, (text) =>
          text
            .replace(/\s+/g, " ")
            .replace(/ ?([{};,]) ?/g, "$1")
            .replace(/: /g, ":"),
        )
        .replace(/(?<=[>}"\n]) *\n\s+(?=[<$\w])/g, (text) => (/\n/.test(text) ? "\n" : text));
      return { contents, loader: "js" };
    });
  },
};
const shared = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "linked",
  logLevel: "warning",
  plugins: [tighten],
};

await build({
  ...shared,
  outdir,
  external: ["./strings/de.js"],
  // The words of a language come when somebody reads it.
  entryPoints: [
    { in: "client/index.js", out: "credits" },
    { in: "client/balance.js", out: "credits-balance" },
    { in: "client/strings/de.js", out: "strings/de" },
  ],
});

// The page's own: with supabase-js, and all in one file, whatever the address it is served from looks like.
await build({
  ...shared,
  outdir,
  entryPoints: [
    { in: "client/page.js", out: "page" },
    { in: "client/page.css", out: "page" },
  ],
});
