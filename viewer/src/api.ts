// What the server answers, and how it is asked.

export type Column = { name: string; kind: "number" | "text"; low?: number; high?: number; values?: string[]; counts?: number[] };
export type Network = { name: string; layers: string[] };
export type About = { count: number; data: string; columns: Column[]; networks: Network[]; clusters: number; map: string };
export type Item = { row: number; name: string; columns: Record<string, string | number | null>; tag: string; note: string };
export type Alike = { row: number; alike: number };
export type Cluster = {
  number: number;
  name: string;
  size: number;
  central: number[];
  distant: number[];
  compact: number;
  units: { unit: number; above: number }[];
  label?: string;
  purity?: number;
};
export type UnitRow = { unit: number; mean: number; peak: number };
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
export type Job = { job: string; kind: string; state: string; words: string; before: number; found: { files?: string[]; words?: string } };
export type Condition = { column: string; sign: string; value: number | string };
export type Selection = { conditions?: Condition[]; lasso?: number[][]; sort?: string; descending?: boolean; rows?: number[] };
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
      cause = read.cause ?? (read.detail ? "This cannot be asked." : cause);
      remedy = read.remedy ?? "";
    } catch {
      // plain text is the cause
    }
    throw new Refused(cause, remedy, answer.status);
  }
  return answer;
}

export const read = async <T>(path: string): Promise<T> => (await asked(path)).json();
export const send = async <T>(path: string, body: unknown, method = "POST"): Promise<T> =>
  (await asked(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();
export const upload = async <T>(path: string, file: Blob): Promise<T> => (await asked(path, { method: "POST", body: file })).json();

export async function numbers(path: string): Promise<{ values: Float32Array; names: string[] }> {
  const answer = await asked(path);
  const header = answer.headers.get("x-values");
  return { values: new Float32Array(await answer.arrayBuffer()), names: header ? JSON.parse(header) : [] };
}

export async function saved(path: string, body: unknown): Promise<void> {
  const answer = await asked(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const name = /filename="([^"]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "selection";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const thumb = (row: number) => `/api/thumb/${row}`;
export const query = (given: Record<string, string | number | undefined>): string => {
  const kept = Object.entries(given).filter(([, value]) => value !== undefined && value !== "");
  return kept.length ? "?" + new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString() : "";
};
