// One image: metadata, neighbours by any network and layer, and explanations.

import { useEffect, useRef, useState } from "preact/hooks";
import { type About, type Alike, type Item, type Job, made, query, read, send, STILL, thumb } from "./api";
import { Choice, Failed, Link, say, shown, Sorry, sorry, Thumbs, useRead, Work } from "./parts";
import { go, here as at, put, type Route } from "./route";

export function ImageView({ about, route, again, changed }: { about: About; route: Route; again: number; changed: () => void }) {
  const row = Number(route.path[1]);
  const { found: item, problem } = useRead<Item>(`/api/item/${row}`, again);
  const network = route.query.get("network") ?? about.networks[0]!.name;
  const layer = route.query.get("layer") ?? "";
  const layers = about.networks.find((one) => one.name === network)?.layers ?? [];
  const inner = layers.filter((one) => one !== "output");
  const attends = about.networks.find((one) => one.name === network)?.attends;
  useEffect(() => {
    const step = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || (event.target as Element).closest("input, select, textarea, canvas")) return;
      const next = event.key === "ArrowRight" ? row + 1 : event.key === "ArrowLeft" ? row - 1 : -1;
      if (next >= 0 && next < about.count) go(`/image/${next}${at().search}`);
    };
    window.addEventListener("keydown", step);
    return () => window.removeEventListener("keydown", step);
  }, [row]);
  if (problem) return <Failed title={`Image ${row}`} problem={problem} />;
  return (
    <div class="page image">
      <div class="two">
        <section>
          <h1>{item?.name ?? "…"}</h1>
          <Picture row={row} network={network} name={item?.name ?? ""} />
          <nav class="bar" aria-label="other images">
            <button type="button" disabled={row === 0} onClick={() => go(`/image/${row - 1}${at().search}`)}>
              ← previous
            </button>
            <button type="button" disabled={row >= about.count - 1} onClick={() => go(`/image/${row + 1}${at().search}`)}>
              next →
            </button>
            <span class="quiet">arrow keys: previous and next{STILL ? "" : "; drag on the image to search for a region"}</span>
          </nav>
          {item && !STILL && <Said item={item} changed={changed} />}
          {item && STILL && (item.tag || item.note) && <p>{[item.tag, item.note].filter(Boolean).join(" · ")}</p>}
          <details open>
            <summary>Metadata</summary>
            <dl>
              {Object.entries(item?.columns ?? {}).map(([name, value]) => (
                <div key={name}>
                  <dt>{name}</dt>
                  <dd>{about.clusterings.some((one) => one.name === name) ? <Link to={`/clusters/${value}${query({ of: name === "cluster" ? "" : name })}`}>{shown(value)}</Link> : shown(value)}</dd>
                </div>
              ))}
            </dl>
          </details>
        </section>
        <section>
          <h2>Nearest neighbours</h2>
          <div class="bar">
            <Choice name="network" value={network} values={about.networks.map((one) => one.name)} onChange={(value) => put({ network: value, layer: "" })} />
            <Choice name="layer" value={layer} values={[["", "output"], ...inner.map((one): [string, string] => [one, one])]} onChange={(value) => put({ layer: value })} />
          </div>
          <Neighbours row={row} network={network} layer={layer} />
          {about.networks.length > 1 && (
            <details>
              <summary>Nearest neighbours by every network</summary>
              {about.networks.map((one) => (
                <div key={one.name}>
                  <h3>{one.name}</h3>
                  <Neighbours row={row} network={one.name} layer={one.layers.includes(layer) ? layer : ""} count={8} />
                </div>
              ))}
            </details>
          )}
          <h2>Explanations</h2>
          <Work kind="attribute" given={{ row, network }} words="attributions: which pixels the features depend on" />
          <Work kind="boxes" given={{ row, network }} words="objects: boxes and masks, found without labels" />
          <Work kind="segments" given={{ row, network }} words="eigen-segments and principal components" />
          {attends && <Work kind="attention" given={{ row, network }} words="attention of the last block, per head" />}
          {layer && layer !== "output" ? (
            <Work kind="invert" given={{ row, network, layer }} words={`inversion: what ${layer} keeps`} />
          ) : (
            <Work kind="invert" given={{ row, network }} words="inversion: what each layer keeps (minutes)" />
          )}
        </section>
      </div>
    </div>
  );
}

function Neighbours({ row, network, layer, count = 18 }: { row: number; network: string; layer: string; count?: number }) {
  const { found, problem } = useRead<Alike[]>(`/api/neighbours/${row}${query({ network, layer, count })}`);
  if (problem) return <Sorry problem={problem} />;
  return <Thumbs rows={(found ?? []).map((one) => one.row)} notes={(found ?? []).map((one) => one.alike.toFixed(3))} />;
}

// The thumbnail at once, the full image when the worker has it; a drag searches for a region.
function Picture({ row, network, name }: { row: number; network: string; name: string }) {
  const [whole, setWhole] = useState("");
  const [box, setBox] = useState<number[] | null>(null);
  const start = useRef<[number, number] | null>(null);
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let here = true;
    setWhole("");
    setBox(null);
    const follow = (job: Job) => {
      if (!here) return;
      if (job.state === "done") setWhole(made(job.job, job.found.files![0]!));
      else if (job.state === "waiting" || job.state === "running") setTimeout(() => here && read<Job>(`/api/jobs/${job.job}`).then(follow, () => {}), 500);
    };
    const wait = setTimeout(() => send<Job>("/api/jobs/picture", { row }).then(follow, () => {}), 400);
    return () => {
      here = false;
      clearTimeout(wait);
    };
  }, [row]);
  const part = (event: PointerEvent): [number, number] => {
    const size = frame.current!.getBoundingClientRect();
    const within = (value: number) => Math.max(0, Math.min(1, value));
    return [within((event.clientX - size.left) / size.width), within((event.clientY - size.top) / size.height)];
  };
  const seek = () => {
    const [a, b, c, d] = box!;
    const given = [Math.min(a!, c!), Math.min(b!, d!), Math.max(a!, c!), Math.max(b!, d!)].map((one) => +one.toFixed(3));
    if (given[2]! - given[0]! < 0.05 || given[3]! - given[1]! < 0.05) return setBox(null);
    send<Job>("/api/jobs/embed", { row, box: given, network }).then((job) => go(`/search/${job.job}`), sorry);
  };
  return (
    <div
      class="picture"
      ref={frame}
      onPointerDown={(event: PointerEvent) => {
        if (STILL) return;
        start.current = part(event);
        (event.currentTarget as Element).setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event: PointerEvent) => start.current && setBox([...start.current, ...part(event)])}
      onPointerUp={() => {
        if (start.current && box) seek();
        start.current = null;
      }}
    >
      <img src={whole || thumb(row)} alt={name} draggable={false} />
      {box && (
        <i
          style={{
            left: `${100 * Math.min(box[0]!, box[2]!)}%`,
            top: `${100 * Math.min(box[1]!, box[3]!)}%`,
            width: `${100 * Math.abs(box[2]! - box[0]!)}%`,
            height: `${100 * Math.abs(box[3]! - box[1]!)}%`,
          }}
        />
      )}
    </div>
  );
}

function Said({ item, changed }: { item: Item; changed: () => void }) {
  const keep = (kind: string) => (event: Event) => {
    event.preventDefault();
    const field = (event.target as HTMLFormElement).elements.namedItem("value") as HTMLInputElement;
    send(`/api/edits/${kind}`, { subjects: [item.row], value: field.value }).then(() => {
      say(`${kind} saved`);
      changed();
    }, sorry);
  };
  return (
    <div class="bar">
      {(["tag", "note"] as const).map((kind) => (
        <form key={kind + item.row + item[kind]} class="group" onSubmit={keep(kind)}>
          <input name="value" defaultValue={item[kind]} placeholder={kind} aria-label={kind} size={kind === "tag" ? 10 : 24} />
          <button type="submit">{kind}</button>
        </form>
      ))}
    </div>
  );
}
