// The grid: virtual scrolling over all images; conditions, order, selection, tags, export.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type About, type Condition, saved, type Selection, send, STILL } from "./api";
import { Choice, say, shown, sorry, Thumb } from "./parts";
import { put, type Route } from "./route";

const PAGE = 500;
const KINDS = [
  ["csv", "a table with all columns"],
  ["parquet", "a table with all columns"],
  ["txt", "paths, one per line"],
  ["labels", "files and names of their clusters, without near-duplicates"],
  ["atlas", "a table with map positions, thumbnails and neighbours for Embedding Atlas"],
] as const;

export function wanted(route: Route): Selection {
  let conditions: Condition[] = [];
  try {
    conditions = JSON.parse(route.query.get("where") ?? "[]");
  } catch {
    conditions = [];
  }
  const lasso = route.query.get("lasso")?.split(";").map((corner) => corner.split(",").map(Number));
  const rows = route.query.get("rows")?.split(",").filter(Boolean).map(Number);
  const sort = route.query.get("sort") ?? "";
  const chosen: Selection = { conditions, sort, descending: route.query.get("down") === "1" };
  if (lasso) {
    chosen.lasso = lasso;
    chosen.map = route.query.get("map") ?? "";
  }
  return rows?.length ? { rows } : chosen;
}

export function GridView({ about, route, changed }: { about: About; route: Route; changed: () => void }) {
  const asked = wanted(route);
  const mark = JSON.stringify(asked);
  const [total, setTotal] = useState<number | null>(null);
  const [pages, setPages] = useState<Record<number, number[]>>({});
  const [picked, setPicked] = useState<Set<number>>(new Set());
  const [top, setTop] = useState(0);
  const [size, setSize] = useState([800, 600]);
  const box = useRef<HTMLDivElement>(null);
  const loading = useRef(new Set<string>());
  const last = useRef<number | null>(null);
  const side = Number(route.query.get("zoom") ?? 112);

  const wish = useRef(mark);
  wish.current = mark;
  const load = (page: number) => {
    const name = `${mark} ${page}`;
    if (loading.current.has(name)) return;
    loading.current.add(name);
    send<{ total: number; rows: number[] }>("/api/select", { ...asked, start: page * PAGE, count: PAGE }).then(
      (found) => {
        if (wish.current !== mark) return; // the selection has changed
        setTotal(found.total);
        setPages((before) => ({ ...before, [page]: found.rows }));
      },
      (problem) => {
        if (wish.current !== mark) return;
        setTotal((before) => before ?? 0);
        sorry(problem);
      },
    );
  };
  useEffect(() => {
    loading.current.clear();
    setPages({});
    setTotal(null);
    setPicked(new Set());
    if (box.current) box.current.scrollTop = 0;
    load(0);
  }, [mark]);
  useEffect(() => {
    const watch = new ResizeObserver(() => box.current && setSize([box.current.clientWidth, box.current.clientHeight]));
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, []);

  const cell = side + 12;
  const across = Math.max(1, Math.floor((size[0]! - 12) / cell));
  const lines = Math.ceil((total ?? 0) / across);
  const from = Math.max(0, Math.floor(top / cell) - 2);
  const until = Math.min(lines, Math.ceil((top + size[1]!) / cell) + 2);
  const visible: number[] = [];
  for (let place = from * across; place < Math.min(until * across, total ?? 0); place++) visible.push(place);
  useEffect(() => {
    for (const page of new Set(visible.map((place) => Math.floor(place / PAGE)))) if (!pages[page]) load(page);
  });
  const rowAt = (place: number) => pages[Math.floor(place / PAGE)]?.[place % PAGE];
  const sorted = about.columns.find((one) => one.name === asked.sort);
  const pick = (place: number, event: MouseEvent) => {
    const next = new Set(picked);
    const row = rowAt(place)!;
    if (event.shiftKey && last.current !== null) {
      for (let one = Math.min(last.current, place); one <= Math.max(last.current, place); one++) if (rowAt(one) !== undefined) next.add(rowAt(one)!);
    } else if (next.has(row)) next.delete(row);
    else next.add(row);
    last.current = place;
    setPicked(next);
  };
  const chosen = picked.size ? { rows: [...picked] } : asked;
  const tag = (event: Event) => {
    event.preventDefault();
    const field = (event.target as HTMLFormElement).elements.namedItem("tag") as HTMLInputElement;
    send("/api/edits/tag", { subjects: [...picked], value: field.value }).then(() => {
      say(field.value ? `${picked.size} tagged ${field.value}` : `tags of ${picked.size} removed`);
      changed();
    }, sorry);
  };
  return (
    <div class="gridview">
      <div class="bar">
        <Choice name="order" value={asked.sort ?? ""} values={[["", "order of the data"], ...[...about.columns.map((one) => one.name), "name"].map((one): [string, string] => [one, one])]} onChange={(sort) => put({ sort })} />
        <button type="button" aria-pressed={!!asked.descending} onClick={() => put({ down: asked.descending ? "" : 1 })}>
          {asked.descending ? "largest first" : "smallest first"}
        </button>
        <label class="choice">
          <span>zoom</span>
          <input type="range" min={48} max={256} step={8} value={side} onInput={(event) => put({ zoom: (event.target as HTMLInputElement).value })} />
        </label>
        <Conditions about={about} given={asked.conditions ?? []} />
        {asked.lasso && (
          <button type="button" onClick={() => put({ lasso: "", map: "" })}>
            lasso ✕
          </button>
        )}
        {asked.rows && (
          <button type="button" onClick={() => put({ rows: "" })}>
            chosen rows ✕
          </button>
        )}
      </div>
      <div class="bar second">
        <h1 aria-live="polite">{total === null ? "…" : `${total.toLocaleString("en")} images`}</h1>
        {picked.size > 0 && STILL && <span>{picked.size} selected</span>}
        {picked.size > 0 && !STILL && (
          <form class="group" onSubmit={tag}>
            <span>{picked.size} selected</span>
            <input name="tag" placeholder="tag" aria-label="tag for the selected images" size={12} />
            <button type="submit">tag</button>
            <button type="button" onClick={() => setPicked(new Set())}>
              none
            </button>
          </form>
        )}
        <span class="group" role="group" aria-label="export">
          <span class="quiet">save as</span>
          {KINDS.filter(([kind]) => (kind !== "labels" || about.clusterings.length) && (!STILL || kind === "csv" || kind === "txt")).map(([kind, title]) => (
            <button key={kind} type="button" title={title} onClick={() => saved(kind, chosen).catch(sorry)}>
              {kind}
            </button>
          ))}
        </span>
      </div>
      <div class="scroll" ref={box} onScroll={(event) => setTop((event.target as Element).scrollTop)} tabIndex={0} role="region" aria-label="images">
        <div class="tall" style={{ height: `${lines * cell + 12}px` }}>
          {visible.map((place) => {
            const row = rowAt(place);
            const spot = { left: `${(place % across) * cell + 12}px`, top: `${Math.floor(place / across) * cell + 12}px`, width: `${side}px`, height: `${side}px` };
            return (
              <div class="cell" key={place} style={spot}>
                {row !== undefined && <Thumb row={row} picked={picked.has(row)} onPick={(event) => pick(place, event)} />}
              </div>
            );
          })}
        </div>
        {total === 0 && <p class="empty">No image matches.{sorted ? ` The column ${sorted.name} ranges from ${shown(sorted.low)} to ${shown(sorted.high)}.` : ""}</p>}
      </div>
    </div>
  );
}

function Conditions({ about, given }: { about: About; given: Condition[] }) {
  const [column, setColumn] = useState(about.columns[0]?.name ?? "name");
  const known = about.columns.find((one) => one.name === column);
  const text = !known || known.kind === "text";
  const signs = text ? ["=", "!=", "has"] : ["<", "<=", ">", ">=", "=", "!="];
  const [sign, setSign] = useState(signs[0]!);
  useEffect(() => setSign(signs[0]!), [column]);
  const options = useMemo(() => (text ? (known?.values ?? []) : []), [column]);
  const add = (event: Event) => {
    event.preventDefault();
    const field = (event.target as HTMLFormElement).elements.namedItem("value") as HTMLInputElement;
    const value = text ? field.value : Number(field.value);
    if (field.value === "" || (!text && !Number.isFinite(value))) return say("Enter a number.", true);
    put({ where: JSON.stringify([...given, { column, sign, value }]) }, false);
    field.value = "";
  };
  return (
    <>
      <form class="group" onSubmit={add}>
        <select aria-label="column" value={column} onChange={(event) => setColumn((event.target as HTMLSelectElement).value)}>
          {["name", ...about.columns.map((one) => one.name), "tag", ...about.clusterings.map((one) => `${one.name}_name`)].map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
        <select aria-label="sign" value={sign} onChange={(event) => setSign((event.target as HTMLSelectElement).value)}>
          {signs.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
        <input name="value" aria-label="value" size={8} list="values" placeholder={known && !text ? `${shown(known.low)} … ${shown(known.high)}` : "text"} />
        <datalist id="values">
          {options.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
        <button type="submit">filter</button>
      </form>
      {given.map((one, place) => (
        <button key={place} type="button" class="chip" title="remove this condition" onClick={() => put({ where: given.length > 1 ? JSON.stringify(given.filter((_, other) => other !== place)) : "" }, false)}>
          {one.column} {one.sign} {String(one.value)} ✕
        </button>
      ))}
    </>
  );
}
