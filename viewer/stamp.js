// Writes which sources the built page was made from; a test compares it with the sources that are there.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const files = ["index.html", "package.json", "tsconfig.json", "vite.config.js", ...readdirSync("src").map((name) => `src/${name}`)].sort();
const found = Object.fromEntries(files.map((name) => [name, createHash("sha256").update(readFileSync(name)).digest("hex")]));
writeFileSync("../src/selfsight/explorer/static/sources.json", JSON.stringify(found, null, 1) + "\n");
