// An exported folder: responses of the server are read from files next to the page, which also works from file://.

import type { Condition, Selection } from "./api";

type Columns = Record<string, (string | number | null)[]>;
type Base = {
  about: { count: number; columns: unknown[]; networks: { name: string; layers: string[] }[]; maps: string[] };
  answers: Record<string, unknown>;
  near: string[][];
  units: string[][];
  chunk: number;
  jobs: Record<string, { job: string; kind: string; found: unknown }>;
};
declare global {
  interface Window {
    selfsight?: { base: Base; parts: Record<string, unknown> };
  }
}

export const STILL = window.selfsight !== undefined;
const base = () => window.selfsight!.base;
const loading = new Map<string, Promise<void>>();

export class Missing extends Error {}

// A part of the data, loaded once by a script that adds it to `selfsight.parts`.
async function part<T>(name: string): Promise<T> {
  if (!loading.has(name))
    loading.set(
      name,
      new Promise((done, fail) => {
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onload = () => done();
        script.onerror = () => fail(new Missing("This is not part of the export."));
        document.head.append(script);
      }),
    );
  await loading.get(name);
  return window.selfsight!.parts[name] as T;
}

const items = () => part<{ names: string[]; columns: Columns; tag: string[]; note: string[] }>("items");

export function floats(text: string): Float32Array {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// The requested network and layer; the output by default.
function pair(query: URLSearchParams): [string, string] {
  return [query.get("network") || base().about.networks[0]!.name, query.get("layer") || "output"];
}
const place = (pairs: string[][], [network, layer]: [string, string]) => {
  const found = pairs.findIndex((one) => one[0] === network && one[1] === layer);
  if (found < 0) throw new Missing(`${layer} of ${network} is not part of the export.`);
  return found;
};

export const mark = (kind: string, given: Record<string, unknown>): string => {
  const whole: Record<string, unknown> = { network: base().about.networks[0]!.name, layer: "", ...given };
  if (whole.cluster !== undefined) whole.of ??= "cluster";
  return kind + " " + JSON.stringify(Object.fromEntries(Object.keys(whole).sort().map((name) => [name, whole[name]])));
};

// Arguments of the exported jobs of a kind.
export const done = (kind: string): Record<string, unknown>[] =>
  Object.keys(base().jobs)
    .filter((one) => one.startsWith(`${kind} `))
    .map((one) => JSON.parse(one.slice(kind.length + 1)));

export async function answer(path: string, body?: unknown): Promise<unknown> {
  const address = new URL(path, "file:///");
  const [, , first = "", second = ""] = address.pathname.split("/").map(decodeURIComponent);
  const query = address.searchParams;
  if (first === "about") return base().about;
  if (first === "select") return select(body as Selection & { start?: number; count?: number });
  if (first === "item") return item(Number(second));
  if (first === "neighbours") {
    const row = Number(second);
    const at = place(base().near, pair(query));
    const chunk = await part<[number, number][][]>(`near-${at}-${Math.floor(row / base().chunk)}`);
    return chunk[row % base().chunk]!.slice(0, Number(query.get("count") ?? 24)).map(([one, alike]) => ({ row: one, alike }));
  }
  if (first === "units" || first === "unit") {
    const found = await part<{ list: unknown; units: unknown[] }>(`units-${place(base().units, pair(query))}`);
    return first === "units" ? found.list : found.units[Number(second)];
  }
  if (first === "jobs") {
    const job = body === undefined ? Object.values(base().jobs).find((one) => one.job === second) : base().jobs[mark(second, body as Record<string, unknown>)];
    if (!job) throw new Missing("This job was not run before the export.");
    return { ...job, state: "done", words: "", before: 0 };
  }
  const name = first + (address.search ? decodeURIComponent(address.search) : "");
  for (const one of [name, first]) if (one in base().answers) return base().answers[one];
  throw new Missing("This is not part of the export.");
}

export async function column(name: string): Promise<{ values: Float32Array; names: string[] }> {
  const { columns } = await items();
  const values = columns[name];
  if (!values) throw new Missing(`There is no column ${name}.`);
  if (values.every((one) => one === null || typeof one === "number")) return { values: Float32Array.from(values, (one) => (one === null ? NaN : (one as number))), names: [] };
  const names = [...new Set(values.map(String))].sort();
  const code = new Map(names.map((one, at) => [one, at]));
  return { values: Float32Array.from(values, (one) => code.get(String(one))!), names };
}

export async function map(name: string): Promise<Float32Array> {
  const at = name ? base().about.maps.indexOf(name) : 0;
  if (at < 0) throw new Missing(`There is no map ${name}.`);
  return floats(await part<string>(`map-${at}`));
}

async function item(row: number) {
  const { names, columns, tag, note } = await items();
  if (!(row >= 0 && row < names.length)) throw new Missing(`There is no image ${row}.`);
  const known = Object.fromEntries(base().about.columns.map((one) => [(one as { name: string }).name, columns[(one as { name: string }).name]![row]!]));
  return { row, name: names[row], columns: known, tag: tag[row], note: note[row] };
}

const compare: Record<string, (a: number, b: number) => boolean> = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

function fulfils(value: string | number | null, { sign, value: wanted }: Condition): boolean {
  if (typeof value === "string") {
    if (sign === "has") return value.toLowerCase().includes(String(wanted).toLowerCase());
    if (sign !== "=" && sign !== "!=") throw new Missing(`A text column does not support ${sign}.`);
    return (value === String(wanted)) === (sign === "=");
  }
  if (!compare[sign]) throw new Missing(`A numeric column does not support ${sign}.`);
  return compare[sign](value ?? NaN, Number(wanted));
}

// Even-odd rule, as on the server.
function inside(x: number, y: number, corners: number[][]): boolean {
  let odd = false;
  for (let one = 0, other = corners.length - 1; one < corners.length; other = one++) {
    const [ax, ay] = corners[one] as [number, number];
    const [bx, by] = corners[other] as [number, number];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

async function chosen(asked: Selection): Promise<number[]> {
  const { names, columns } = await items();
  if (asked.rows) return asked.rows;
  const of = (name: string) => (name === "name" ? names : columns[name]);
  let rows = names.map((_, row) => row);
  for (const condition of asked.conditions ?? []) {
    const values = of(condition.column);
    if (!values) throw new Missing(`There is no column ${condition.column}.`);
    rows = rows.filter((row) => fulfils(values[row]!, condition));
  }
  if (asked.lasso) {
    const places = await map(asked.map ?? "");
    rows = rows.filter((row) => inside(places[2 * row]!, places[2 * row + 1]!, asked.lasso!));
  }
  const values = asked.sort ? of(asked.sort) : undefined;
  const down = asked.descending ? -1 : 1;
  if (values) {
    const known = (row: number) => values[row] !== null && values[row] !== "";
    rows.sort((a, b) => Number(known(b)) - Number(known(a)) || down * (values[a]! < values[b]! ? -1 : values[a]! > values[b]! ? 1 : 0) || a - b);
  } else if (asked.descending) rows.reverse();
  return rows;
}

async function select(asked: Selection & { start?: number; count?: number }) {
  const rows = await chosen(asked);
  const start = asked.start ?? 0;
  return { total: rows.length, rows: rows.slice(start, start + (asked.count ?? 2000)) };
}

// A selection as a file: a table, in which text that a spreadsheet would evaluate gets an apostrophe in front, or paths.
export async function file(kind: string, asked: Selection): Promise<Blob> {
  const rows = await chosen(asked);
  const { names, columns } = await items();
  if (kind === "txt") return new Blob(rows.map((row) => names[row] + "\n"));
  const marked = (value: unknown) => (typeof value === "string" && /^'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(value) ? `'${value}` : String(value ?? ""));
  const cell = (value: unknown) => (/[",\n\r]/.test(marked(value)) ? `"${marked(value).replaceAll('"', '""')}"` : marked(value));
  const head = ["file", ...Object.keys(columns)];
  const lines = rows.map((row) => [names[row], ...Object.values(columns).map((values) => values[row])]);
  return new Blob([head, ...lines].map((line) => line.map(cell).join(",") + "\r\n"));
}
