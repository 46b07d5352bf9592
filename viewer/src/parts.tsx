// Components shared by all views.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Job, made, Refused, read, send, STILL, thumb } from "./api";
import { address, go, here } from "./route";

// Okabe and Ito's palette, distinguishable with colour blindness, then lighter and darker colours.
export const PALETTE = [
  ...["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7f7f7f", "#5b3fa0", "#8c564b"],
  ...["#7fbbe0", "#f3d08a", "#7fd0ba", "#e8c1d8", "#1b5a80", "#f0a878", "#6b6300", "#bdbdbd", "#a795d6", "#c9a59c"],
];

const heard = new EventTarget();
export const say = (words: string, bad = false) => heard.dispatchEvent(new CustomEvent("say", { detail: { words, bad } }));
export const sorry = (problem: unknown) =>
  say(problem instanceof Refused ? `${problem.cause} ${problem.remedy}` : String((problem as Error).message ?? problem), true);

export function Toasts() {
  const [list, set] = useState<{ key: number; words: string; bad: boolean }[]>([]);
  useEffect(() => {
    let next = 0;
    const hear = (event: Event) => {
      const key = next++;
      set((before) => [...before.slice(-3), { key, ...(event as CustomEvent).detail }]);
      setTimeout(() => set((before) => before.filter((one) => one.key !== key)), 6000);
    };
    heard.addEventListener("say", hear);
    return () => heard.removeEventListener("say", hear);
  }, []);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {list.map((one) => (
        <p key={one.key} class={one.bad ? "toast bad" : "toast"}>
          {one.words}
        </p>
      ))}
    </div>
  );
}

// The response of a path; requested again when the path or `again` changes.
export function useRead<T>(path: string | null, again: unknown = 0): { found: T | null; problem: Refused | null } {
  const [state, set] = useState<{ found: T | null; problem: Refused | null; of: string | null }>({ found: null, problem: null, of: null });
  useEffect(() => {
    let here = true;
    if (path === null) return;
    read<T>(path).then(
      (found) => here && set({ found, problem: null, of: path }),
      (problem) => here && set({ found: null, problem, of: path }),
    );
    return () => {
      here = false;
    };
  }, [path, again]);
  return state.of === path ? state : { found: null, problem: null }; // ignore the response of another path
}

type Linked = { to: string; children: ComponentChildren; class?: string; title?: string; "aria-label"?: string; "aria-current"?: "page" | undefined };

export function Link({ to, children, ...more }: Linked) {
  return (
    <a
      href={address(to)}
      {...more}
      onClick={(event: MouseEvent) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
        event.preventDefault();
        go(to);
      }}
    >
      {children}
    </a>
  );
}

// Keep the selected network when an image is opened.
const onlyNetwork = () => {
  const network = new URLSearchParams(here().search).get("network");
  return network ? `?network=${encodeURIComponent(network)}` : "";
};

export function Thumb({ row, picked, onPick, note }: { row: number; picked?: boolean; note?: string; onPick?: (event: MouseEvent) => void }) {
  const label = `image ${row}`;
  return (
    <figure class={picked ? "thumb picked" : "thumb"}>
      <Link to={`/image/${row}${onlyNetwork()}`} aria-label={label} title={label}>
        <img src={thumb(row)} alt={label} loading="lazy" width={96} height={96} />
      </Link>
      {note !== undefined && <figcaption>{note}</figcaption>}
      {onPick && <input type="checkbox" checked={picked} aria-label={`select ${label}`} onClick={onPick} />}
    </figure>
  );
}

/** A view without content, with the reason. */
export const Empty = ({ title, children }: { title: string; children: ComponentChildren }) => (
  <div class="page">
    <h1>{title}</h1>
    <p class="empty">{children}</p>
  </div>
);

export const Thumbs = ({ rows, notes, line }: { rows: number[]; notes?: string[]; line?: boolean }) => (
  <div class={line ? "thumbs line" : "thumbs"}>
    {rows.map((row, place) => (
      <Thumb key={row} row={row} note={notes?.[place]} />
    ))}
  </div>
);

export function Choice({ name, value, values, onChange }: { name: string; value: string; values: (string | [string, string])[]; onChange: (value: string) => void }) {
  return (
    <label class="choice">
      <span>{name}</span>
      <select value={value} onChange={(event) => onChange((event.target as HTMLSelectElement).value)}>
        {values.map((one) => {
          const [key, words] = typeof one === "string" ? [one, one] : one;
          return (
            <option key={key} value={key}>
              {words}
            </option>
          );
        })}
      </select>
    </label>
  );
}

type Asked = { kind: string; given: Record<string, unknown>; words: string; auto?: boolean };

// State, start and cancellation of a job. Jobs that started automatically are cancelled when the view is left.
export function useJob({ kind, given, auto }: Omit<Asked, "words">) {
  const asked = JSON.stringify([kind, given]);
  const [job, set] = useState<Job | null>(null);
  const alive = useRef("");
  const last = useRef<Job | null>(null);
  const follow = (found: Job) => {
    last.current = found;
    if (alive.current !== asked) return;
    set(found);
    if (waits(found)) setTimeout(() => alive.current === asked && read<Job>(`/api/jobs/${found.job}`).then(follow, sorry), 400);
  };
  const begin = (quietly = false) => {
    alive.current = asked;
    send<Job>(`/api/jobs/${kind}`, given).then(follow, (problem) => quietly || sorry(problem));
  };
  useEffect(() => {
    set(null);
    last.current = null;
    const wait = auto || STILL ? setTimeout(() => begin(STILL), STILL ? 0 : 700) : 0;
    return () => {
      clearTimeout(wait);
      alive.current = "";
      if (auto && last.current && waits(last.current)) send(`/api/jobs/${last.current.job}`, {}, "DELETE").catch(() => {});
    };
  }, [asked]);
  return { job, begin: () => begin(), cancel: () => job && send<Job>(`/api/jobs/${job.job}`, {}, "DELETE").then(set, sorry) };
}
const waits = (job: Job) => job.state === "waiting" || job.state === "running";

export function Work({ kind, given, words, auto }: Asked) {
  const { job, begin, cancel } = useJob({ kind, given, auto });
  const busy = job !== null && waits(job);
  if (STILL && job?.state !== "done") return null;
  return (
    <section class="work" aria-busy={busy}>
      {job?.state !== "done" && !(auto && (job === null || busy)) && (
        <button type="button" disabled={busy} onClick={begin}>
          {words}
        </button>
      )}
      {busy && (
        <p class="progress">
          <progress aria-label={words} /> {auto && `${words}: `}
          {job.state === "waiting" ? `waiting${job.before > 1 ? `, ${job.before - 1} jobs before it` : ""}` : job.words || "working"}{" "}
          <button type="button" onClick={cancel}>
            cancel
          </button>
        </p>
      )}
      {job?.state === "cancelled" && <p class="quiet">cancelled</p>}
      {job?.state === "failed" && <p class="bad">{job.words}</p>}
      {job?.state === "done" && <Result job={job} words={words} />}
    </section>
  );
}

// The result: regions in images, a row of images, or one sheet.
function Result({ job, words }: { job: Job; words: string }) {
  const files = job.found.files ?? [];
  const said = job.found.words ?? words;
  if (job.found.places)
    return (
      <figure>
        <div class="places">
          {job.found.places.map(({ row, number }) => (
            <Link key={row} to={`/image/${row}`} title={`image ${row}`}>
              <img src={made(job.job, `where-${row}.png`)} alt={`heat map of image ${row}`} loading="lazy" />
              <img src={made(job.job, `what-${row}.png`)} alt={`crop of image ${row}`} loading="lazy" />
              <small>{shown(number)}</small>
            </Link>
          ))}
        </div>
        <figcaption>{said}</figcaption>
      </figure>
    );
  return (
    <figure>
      <div class={files.length > 1 ? "row" : ""}>
        {files.map((file) => (
          <a key={file} href={made(job.job, file)} target="_blank" rel="noreferrer">
            <img class="sheet" src={made(job.job, file)} alt={words} />
          </a>
        ))}
      </div>
      <figcaption>{said}</figcaption>
    </figure>
  );
}

export const Sorry = ({ problem }: { problem: Refused }) => (
  <p class="bad" role="alert">
    {problem.cause} {problem.remedy}
  </p>
);
/** A view that failed, with the reason. */
export const Failed = ({ title, problem }: { title: string; problem: Refused }) => (
  <div class="page">
    <h1>{title}</h1>
    <Sorry problem={problem} />
  </div>
);
export const shown = (value: string | number | null | undefined): string =>
  value === null || value === undefined ? "–" : typeof value === "number" ? String(Math.abs(value) >= 100 ? Math.round(value) : +value.toPrecision(3)) : value;
