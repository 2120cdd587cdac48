// Bundles an app of the tests. Arguments: entry, output, aliases as JSON.
import { readFile } from "node:fs/promises";
import { build } from "esbuild";
import { compile } from "svelte/compiler";

const [entry, outfile, alias] = process.argv.slice(2);
const svelte = {
  name: "svelte",
  setup: (build) =>
    build.onLoad({ filter: /\.svelte$/ }, async ({ path }) => ({
      contents: compile(await readFile(path, "utf8"), { generate: "client", filename: path }).js.code,
    })),
};
await build({
  entryPoints: [entry],
  outfile,
  alias: JSON.parse(alias),
  plugins: [svelte],
  bundle: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  conditions: ["browser", "production"],
  mainFields: ["browser", "module", "main"],
  define: {
    "process.env.NODE_ENV": '"production"',
    __VUE_OPTIONS_API__: "true",
    __VUE_PROD_DEVTOOLS__: "false",
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
  },
});
