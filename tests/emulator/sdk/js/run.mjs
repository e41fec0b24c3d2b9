// Runs the JavaScript scenarios, or those with the first argument in their name; `--rows` prints which rows they prove.

import { readdir } from "node:fs/promises";
import { main, scenarios } from "./suite.mjs";

const folder = new URL(".", import.meta.url);
for (const file of (await readdir(folder)).sort()) {
  if (/^test_.*\.mjs$/.test(file)) await import(new URL(file, folder));
}

if (process.argv[2] === "--rows") {
  for (const { name, rows } of scenarios) for (const row of rows) console.log(`${row}\tjs ${name}`);
} else {
  await main(process.argv[2] ?? "");
}
