// The map: one point per item; drag to move, wheel to zoom, a lasso opens the grid.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type About, column as values, places as read, thumb } from "./api";
import { Choice, PALETTE, shown, sorry } from "./parts";
import { go, here, put, type Route } from "./route";
import { type Painter, painter } from "./points";

type Place = { x: number; y: number; k: number };
const HOME: Place = { x: 0, y: 0, k: 0.9 };
const CELLS = 256;
const ROOM = 56; // pixels per thumbnail on the map

// Spatial index of the points, to find the one under the pointer.
function cellsOf(places: Float32Array) {
  const count = places.length / 2;
  const cell = (value: number) => Math.max(0, Math.min(CELLS - 1, Math.floor(((value + 1.25) / 2.5) * CELLS)));
  const starts = new Uint32Array(CELLS * CELLS + 1);
  const codes = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const code = cell(places[2 * i + 1]!) * CELLS + cell(places[2 * i]!);
    codes[i] = code;
    starts[code + 1]!++;
  }
  for (let i = 0; i < CELLS * CELLS; i++) starts[i + 1]! += starts[i]!;
  const order = new Uint32Array(count);
  const next = starts.slice();
  for (let i = 0; i < count; i++) order[next[codes[i]!]!++] = i;
  return (x: number, y: number, reach: number): number => {
    let best = -1;
    let least = reach * reach;
    for (let row = cell(y - reach); row <= cell(y + reach); row++)
      for (let column = cell(x - reach); column <= cell(x + reach); column++)
        for (let at = starts[row * CELLS + column]!; at < starts[row * CELLS + column + 1]!; at++) {
          const one = order[at]!;
          const far = (places[2 * one]! - x) ** 2 + (places[2 * one + 1]! - y) ** 2;
          if (far < least) [least, best] = [far, one];
        }
    return best;
  };
}

const ramp = (part: number): [number, number, number] => {
  const stops = [
    [68, 1, 84],
    [59, 82, 139],
    [33, 145, 140],
    [94, 201, 98],
    [253, 231, 37],
  ];
  const at = Math.max(0, Math.min(0.9999, part)) * 4;
  const low = stops[Math.floor(at)]!;
  const high = stops[Math.floor(at) + 1]!;
  return [0, 1, 2].map((channel) => low[channel]! + (high[channel]! - low[channel]!) * (at % 1)) as [number, number, number];
};
const rgb = (hex: string): [number, number, number] => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)) as [number, number, number];

// Next to the pointer, on the side with enough space.
const beside = (x: number, y: number, box: HTMLElement) => ({
  left: `${x + 150 > box.clientWidth ? x - 136 : x + 14}px`,
  top: `${y + 160 > box.clientHeight ? y - 150 : y + 14}px`,
});

type Legend = { names: string[]; low?: number; high?: number };
function coloured(values: Float32Array, names: string[], kinds: boolean): { colours: Uint8Array; legend: Legend } {
  const colours = new Uint8Array(values.length * 4);
  const finite = values.filter(Number.isFinite).sort();
  const low = finite[Math.floor(finite.length * 0.01)] ?? 0;
  const high = finite[Math.floor(finite.length * 0.99)] ?? 1;
  const table = PALETTE.map(rgb);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    const colour: [number, number, number] = !Number.isFinite(value) ? [150, 150, 150] : kinds ? table[value % table.length]! : ramp((value - low) / (high - low || 1));
    colours.set(colour, 4 * i);
    colours[4 * i + 3] = 255;
  }
  return { colours, legend: kinds ? { names } : { names: [], low, high } };
}

export function MapView({ about, route }: { about: About; route: Route }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const drawn = useRef<Painter | null>(null);
  const place = useRef<Place>({ ...HOME });
  const [places, setPlaces] = useState<Float32Array | null>(null);
  const [legend, setLegend] = useState<Legend>({ names: [] });
  const [hover, setHover] = useState<{ row: number; x: number; y: number } | null>(null);
  const [tool, setTool] = useState<"move" | "lasso">("move");
  const lasso = useRef<[number, number][]>([]);
  const colour = route.query.get("colour") ?? about.clusterings[0]?.name ?? about.columns[0]?.name ?? "";
  const drawing = route.query.get("map") ?? about.maps[0]!;
  const pick = useMemo(() => (places ? cellsOf(places) : null), [places]);
  const size = Number(route.query.get("size") ?? 0) || (about.count > 100_000 ? 2 : about.count > 5000 ? 4 : 7);

  const unit = () => Math.min(canvas.current!.clientWidth, canvas.current!.clientHeight) / 2;
  // During motion as many points as the frame rate allows; at rest all of them.
  const pace = useRef({ asked: 0, rest: 0, last: 0, most: Math.min(about.count, 200_000) });
  const latest = useRef(() => {});
  const all = () => {
    if (canvas.current) drawn.current?.draw(place.current, size * devicePixelRatio);
    strew();
  };
  latest.current = all;
  // Thumbnails over the points, one per cell.
  const strewing = route.query.get("pictures") === "1";
  const [strewn, setStrewn] = useState<{ row: number; x: number; y: number }[]>([]);
  const strew = () => {
    const box = canvas.current;
    if (!strewing || !places || !box) return setStrewn([]);
    const scale = unit() * place.current.k;
    const across = Math.ceil(box.clientWidth / ROOM);
    const taken = new Map<number, { row: number; x: number; y: number }>();
    for (let row = 0; row < places.length / 2; row++) {
      const x = (places[2 * row]! - place.current.x) * scale + box.clientWidth / 2;
      const y = (place.current.y - places[2 * row + 1]!) * scale + box.clientHeight / 2;
      if (x < 0 || y < 0 || x >= box.clientWidth || y >= box.clientHeight) continue;
      const cell = Math.floor(y / ROOM) * across + Math.floor(x / ROOM);
      if (!taken.has(cell)) taken.set(cell, { row, x, y });
    }
    setStrewn([...taken.values()]);
  };
  const paint = () => {
    const now = pace.current;
    clearTimeout(now.rest);
    if (strewn.length) setStrewn([]);
    now.rest = window.setTimeout(() => {
      now.last = 0;
      all();
    }, 200);
    now.asked ||= requestAnimationFrame((time) => {
      now.asked = 0;
      const passed = time - now.last;
      now.last = time;
      if (passed < time) now.most = passed > 30 ? Math.max(5000, now.most / 1.7) : passed < 20 ? Math.min(about.count, now.most * 1.15) : now.most;
      if (canvas.current) drawn.current?.draw(place.current, size * devicePixelRatio, Math.round(now.most));
    });
  };
  const outline = () => {
    const top = over.current;
    if (!top) return;
    const pen = top.getContext("2d")!;
    pen.clearRect(0, 0, top.width, top.height);
    if (lasso.current.length < 2) return;
    pen.lineWidth = 2 * devicePixelRatio;
    pen.strokeStyle = getComputedStyle(top).color;
    pen.fillStyle = "rgba(128,128,128,0.2)";
    pen.beginPath();
    for (const [x, y] of lasso.current) pen.lineTo(x * devicePixelRatio, y * devicePixelRatio);
    pen.closePath();
    pen.fill();
    pen.stroke();
  };
  useEffect(() => {
    const given = route.query.get("at")?.split(",").map(Number);
    if (given?.length === 3 && given.every(Number.isFinite)) place.current = { x: given[0]!, y: given[1]!, k: given[2]! };
  }, []);
  useEffect(() => {
    let here = true;
    read(drawing).then((found) => here && setPlaces(found), sorry);
    return () => {
      here = false;
    };
  }, [drawing]);
  useEffect(() => {
    const box = canvas.current;
    if (!box || !places) return;
    drawn.current = painter(box, places);
    const fit = () => {
      for (const one of [box, over.current]) {
        if (!one) return; // the view has changed
        one.width = box.clientWidth * devicePixelRatio;
        one.height = box.clientHeight * devicePixelRatio;
      }
      latest.current();
    };
    const watch = new ResizeObserver(fit);
    watch.observe(box);
    fit();
    return () => {
      watch.disconnect();
      drawn.current?.close();
    };
  }, [places]);
  useEffect(() => {
    if (!places || !colour) return;
    const column = about.columns.find((one) => one.name === colour);
    const clustering = about.clusterings.find((one) => one.name === colour);
    const kinds = clustering !== undefined || colour === "tag" || colour.endsWith("_name") || column?.kind === "text";
    values(colour).then((told) => {
      const clusters = Array.from({ length: clustering?.count ?? 0 }, (_, one) => `cluster ${one}`);
      const found = coloured(told.values, clustering ? clusters : told.names, kinds);
      setLegend(found.legend);
      drawn.current?.colour(found.colours);
      all();
    }, sorry);
  }, [places, colour]);
  useEffect(paint, [size, strewing, places]);

  // From pixels of the canvas to the map and back: the shorter side shows 2 / k.
  const toMap = (x: number, y: number): [number, number] => {
    const box = canvas.current!;
    const scale = unit() * place.current.k;
    return [(x - box.clientWidth / 2) / scale + place.current.x, -(y - box.clientHeight / 2) / scale + place.current.y];
  };
  const remember = useRef(0);
  const kept = () => {
    clearTimeout(remember.current);
    const { x, y, k } = place.current;
    remember.current = window.setTimeout(() => here().path.replace(/^\/?$/, "/map") === "/map" && put({ at: [x, y, k].map((one) => one.toPrecision(4)).join(",") }), 300);
  };
  const zoom = (factor: number, x: number, y: number) => {
    const before = toMap(x, y);
    place.current.k = Math.max(0.3, Math.min(500, place.current.k * factor));
    const after = toMap(x, y);
    place.current.x += before[0] - after[0];
    place.current.y += before[1] - after[1];
    paint();
    kept();
  };
  const last = useRef<[number, number] | null>(null);
  const moved = useRef(0);
  const at = (event: PointerEvent | WheelEvent): [number, number] => {
    const box = canvas.current!.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const down = (event: PointerEvent) => {
    (event.currentTarget as Element).setPointerCapture(event.pointerId);
    last.current = at(event);
    moved.current = 0;
    lasso.current = tool === "lasso" || event.shiftKey ? [last.current] : [];
  };
  const move = (event: PointerEvent) => {
    const here = at(event);
    if (last.current) {
      const step: [number, number] = [here[0] - last.current[0], here[1] - last.current[1]];
      moved.current += Math.abs(step[0]) + Math.abs(step[1]);
      if (lasso.current.length) {
        lasso.current.push(here);
        outline();
      } else {
        place.current.x -= step[0] / (unit() * place.current.k);
        place.current.y += step[1] / (unit() * place.current.k);
        paint();
        kept();
      }
      last.current = here;
      setHover(null);
    } else if (pick) {
      const [x, y] = toMap(...here);
      const row = pick(x, y, 10 / (unit() * place.current.k));
      setHover(row < 0 ? null : { row, x: here[0], y: here[1] });
    }
  };
  const up = (event: PointerEvent) => {
    const polygon = lasso.current;
    last.current = null;
    lasso.current = [];
    outline();
    if (polygon.length > 2 && moved.current > 12) {
      const step = Math.max(1, Math.ceil(polygon.length / 60));
      const corners = polygon.filter((_, place) => place % step === 0).map(([x, y]) => toMap(x, y).map((one) => one.toFixed(3)).join(","));
      go(`/grid?lasso=${corners.join(";")}${drawing === about.maps[0] ? "" : `&map=${encodeURIComponent(drawing)}`}`);
    } else if (moved.current < 4 && pick) {
      const [x, y] = toMap(...at(event));
      const row = pick(x, y, 10 / (unit() * place.current.k));
      if (row >= 0) go(`/image/${row}`);
    }
  };
  const keyed = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
    const box = canvas.current!;
    const step = 0.2 / place.current.k;
    const shift: Record<string, [number, number]> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const by = shift[event.key];
    if (by) {
      place.current.x += by[0];
      place.current.y += by[1];
      paint();
      kept();
    } else if (event.key === "+" || event.key === "=") zoom(1.3, box.clientWidth / 2, box.clientHeight / 2);
    else if (event.key === "-") zoom(1 / 1.3, box.clientWidth / 2, box.clientHeight / 2);
    else if (event.key === "0") {
      place.current = { ...HOME };
      paint();
      kept();
    } else if (event.key === "p") put({ pictures: strewing ? "" : 1 });
    else if (event.key === "l") setTool(tool === "move" ? "lasso" : "move");
    else return;
    event.preventDefault();
  };
  const columns = [...about.columns.map((one) => one.name), "tag", ...about.clusterings.map((one) => `${one.name}_name`)];
  return (
    <div class="map">
      <div class="bar">
        {about.maps.length > 1 && <Choice name="map" value={drawing} values={about.maps} onChange={(value) => put({ map: value })} />}
        <Choice name="colour" value={colour} values={columns} onChange={(value) => put({ colour: value })} />
        <label class="choice">
          <span>size</span>
          <input type="range" min={1} max={16} step={1} value={size} onInput={(event) => put({ size: (event.target as HTMLInputElement).value })} />
        </label>
        <div class="group" role="group" aria-label="drag mode">
          <button type="button" aria-pressed={tool === "move"} onClick={() => setTool("move")}>
            move
          </button>
          <button type="button" aria-pressed={tool === "lasso"} onClick={() => setTool("lasso")}>
            lasso
          </button>
        </div>
        <button type="button" aria-pressed={strewing} onClick={() => put({ pictures: strewing ? "" : 1 })}>
          images
        </button>
        <span class="quiet wide">shift-drag: lasso; + − 0 and arrows: zoom and move</span>
      </div>
      <div class="field">
        <canvas
          ref={canvas}
          tabIndex={0}
          class={tool}
          aria-label={`map of ${about.count} images, coloured by ${colour}; drag with shift to select`}
          role="img"
          onWheel={(event: WheelEvent) => {
            event.preventDefault();
            zoom(Math.exp(-event.deltaY / 400), ...at(event));
          }}
          onPointerDown={down}
          onPointerMove={move}
          onPointerUp={up}
          onPointerLeave={() => setHover(null)}
          onKeyDown={keyed}
        />
        {strewn.map(({ row, x, y }) => (
          <img key={row} class="strewn" src={thumb(row)} alt="" style={{ left: `${x}px`, top: `${y}px` }} />
        ))}
        <canvas ref={over} class="over" aria-hidden="true" />
        {hover && (
          <figure class="hover" style={beside(hover.x, hover.y, canvas.current!)}>
            <img src={thumb(hover.row)} alt={`image ${hover.row}`} />
            <figcaption>{hover.row}</figcaption>
          </figure>
        )}
        <aside class="legend" aria-label="colours">
          <b>{colour}</b>
          {legend.names.slice(0, 20).map((name, place) => (
            <span key={name}>
              <i style={{ background: PALETTE[place % PALETTE.length]! }} />
              {name || "none"}
            </span>
          ))}
          {legend.names.length > 20 && <span>and {legend.names.length - 20} more</span>}
          {legend.low !== undefined && (
            <span>
              <i class="ramp" /> {shown(legend.low)} to {shown(legend.high)}
            </span>
          )}
        </aside>
      </div>
    </div>
  );
}
