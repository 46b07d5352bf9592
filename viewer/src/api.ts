// Types and requests of the server's API; an exported folder reads files instead.

import { answer, column as kept, file, map, STILL } from "./still";

export { STILL };

export type Column = { name: string; kind: "number" | "text"; low?: number; high?: number; values?: string[]; counts?: number[] };
export type Network = { name: string; layers: string[]; attends: boolean; classes: string[] };
export type Clustering = { name: string; count: number };
export type About = { count: number; data: string; columns: Column[]; networks: Network[]; clusterings: Clustering[]; maps: string[]; masks: boolean };
export type Item = { row: number; name: string; columns: Record<string, string | number | null>; tag: string; note: string };
export type Alike = { row: number; alike: number };
export type Cluster = {
  number: number;
  subject: number;
  parts: number[];
  name: string;
  size: number;
  central: number[];
  distant: number[];
  compact: number;
  units: { unit: number; above: number }[];
  label?: string;
  purity?: number;
};
export type UnitRow = { unit: number; mean: number; peak: number; top: number[] };
export type Unit = {
  unit: number;
  top: { row: number; value: number }[];
  bottom: { row: number; value: number }[];
  histogram: { counts: number[]; low: number; high: number };
  alike: { unit: number; correlation: number }[];
};
export type Score = { value: number; low: number; high: number };
export type Table = Record<string, Record<string, Score>>;
export type Measure = { scores?: Table; floors?: Record<string, Table>; train?: string; test?: string; protocol?: Record<string, string> };
export type Run = {
  name: string;
  status: Record<string, string | number>;
  settings: Record<string, string | number | null>;
  curves: Record<string, [number, number][]>;
  measures: Measure[];
};
export type Ill = { name: string; column: string; words: string; rows?: number[]; values?: (number | null)[]; groups?: number[][]; files?: string[][] };
export type Job = { job: string; kind: string; state: string; words: string; before: number; found: { files?: string[]; words?: string; units?: [string, string, number][]; places?: { row: number; number: number }[] } };
export type Condition = { column: string; sign: string; value: number | string };
export type Selection = { conditions?: Condition[]; lasso?: number[][]; map?: string; sort?: string; descending?: boolean; rows?: number[] };
export type Pair = { row: number; shared: number; left: number[]; right: number[] };
export type Beside = { networks: [string, string]; mean: number | null; chance: number; of: number; differ: Pair[]; agree: Pair[] };
export type Edit = { number: number; at: number; kind: string; value: string; of: number; undone: boolean };

export class Refused extends Error {
  constructor(
    public cause: string,
    public remedy: string,
    public status: number,
  ) {
    super(cause);
  }
}

async function asked(path: string, options: RequestInit = {}): Promise<Response> {
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const text = await answer.text();
    let cause = text || `The server answered ${answer.status}.`;
    let remedy = "";
    try {
      const read = JSON.parse(text);
      cause = read.cause ?? (read.detail ? "The request is invalid." : cause);
      remedy = read.remedy ?? "";
    } catch {
      // plain text is the cause
    }
    throw new Refused(cause, remedy, answer.status);
  }
  return answer;
}

async function still<T>(path: string, body?: unknown): Promise<T> {
  try {
    return (await answer(path, body)) as T;
  } catch (problem) {
    throw new Refused((problem as Error).message, "", 404);
  }
}

export const read = async <T>(path: string): Promise<T> => (STILL ? still(path) : (await asked(path)).json());
export const send = async <T>(path: string, body: unknown, method = "POST"): Promise<T> =>
  STILL ? still(path, body) : (await asked(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();
export const upload = async <T>(path: string, file: Blob): Promise<T> => (await asked(path, { method: "POST", body: file })).json();

async function numbers(path: string): Promise<{ values: Float32Array; names: string[] }> {
  const answer = await asked(path);
  const header = answer.headers.get("x-values");
  return { values: new Float32Array(await answer.arrayBuffer()), names: header ? JSON.parse(header) : [] };
}
export const places = async (name: string): Promise<Float32Array> => (STILL ? map(name) : (await numbers(`/api/map${query({ name })}`)).values);
export const column = (name: string) => (STILL ? kept(name) : numbers(`/api/column/${encodeURIComponent(name)}`));

export async function saved(kind: string, chosen: Selection): Promise<void> {
  const given = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(chosen) };
  const answer = STILL ? null : await asked(`/api/export/${kind}`, given);
  const name = /filename="([^"]+)"/.exec(answer?.headers.get("content-disposition") ?? "")?.[1] ?? `selection.${kind}`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(answer ? await answer.blob() : await file(kind, chosen));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const thumb = (row: number) => (STILL ? `thumbs/${row}.jpg` : `/api/thumb/${row}`);
export const made = (job: string, file: string) => (STILL ? `work/${job}/${file}` : `/api/jobs/${job}/files/${file}`);
export const query = (given: Record<string, string | number | undefined>): string => {
  const kept = Object.entries(given).filter(([, value]) => value !== undefined && value !== "");
  return kept.length ? "?" + new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString() : "";
};
