// Units of a layer, and one unit with its maximally activating images.

import { useState } from "preact/hooks";
import { type About, query, STILL, type Unit, type UnitRow } from "./api";
import { Choice, Failed, Link, shown, Thumbs, useJob, useRead, Work } from "./parts";
import { go, put, type Route } from "./route";

const PAGE = 60;

export function UnitsView({ about, route }: { about: About; route: Route }) {
  const network = route.query.get("network") ?? about.networks[0]!.name;
  const layers = about.networks.find((one) => one.name === network)?.layers ?? [];
  const layer = route.path[1] ?? layers.at(-1) ?? "output";
  const given = { network, layer };
  const keep = query({ network: network === about.networks[0]!.name ? "" : network });
  const number = route.path[2];
  const { found, problem } = useRead<UnitRow[]>(number === undefined ? `/api/units${query(given)}` : null);
  const one = useRead<Unit>(number === undefined ? null : `/api/unit/${number}${query(given)}`);
  const [most, setMost] = useState(PAGE);
  const by = route.query.get("by") ?? "";
  const listed = [...(found ?? [])].sort((a, b) => (by === "number" ? a.unit - b.unit : b.peak - a.peak));
  const bar = (
    <div class="bar">
      <Choice name="network" value={network} values={about.networks.map((each) => each.name)} onChange={(value) => go(`/units/output${query({ network: value })}`)} />
      <Choice name="layer" value={layer} values={layers} onChange={(value) => go(`/units/${encodeURIComponent(value)}${keep}`)} />
      {number !== undefined && <Link to={`/units/${encodeURIComponent(layer)}${keep}`}>all units</Link>}
    </div>
  );
  if (problem ?? one.problem) return <Failed title="Units" problem={(problem ?? one.problem)!} />;
  if (number === undefined)
    return (
      <div class="page">
        {bar}
        <h1>
          {found ? `${found.length} units of ${layer}` : "…"} <small class="quiet">with their maximally activating images; σ: peak in standard deviations above the mean</small>
        </h1>
        <Choice name="order" value={by} values={[["", "peak"], "number"]} onChange={(value) => put({ by: value })} />
        <div class="unitcards">
          {listed.slice(0, most).map((unit) => (
            <section class="card" key={unit.unit}>
              <h2>
                <Link to={`/units/${encodeURIComponent(layer)}/${unit.unit}${keep}`}>unit {unit.unit}</Link> <small class="quiet">{shown(unit.peak)}σ</small>
              </h2>
              <Thumbs rows={unit.top} />
            </section>
          ))}
        </div>
        {listed.length > most && (
          <button type="button" onClick={() => setMost(most + PAGE)}>
            more ({(listed.length - most).toLocaleString("en")})
          </button>
        )}
      </div>
    );
  const unit = one.found;
  return (
    <div class="page">
      {bar}
      <h1>
        Unit {number} of {layer}
      </h1>
      {unit && (
        <>
          <h2>Maximally activating images</h2>
          <Thumbs rows={unit.top.map((each) => each.row)} notes={unit.top.map((each) => shown(each.value))} />
          <h2>Where it is active</h2>
          <Work kind="crops" auto given={{ network, layer, unit: unit.unit }} words="heat maps and crops of its maximally activating images" />
          {about.masks && <Dissected network={network} layer={layer} unit={unit.unit} />}
          <div class="two">
            <section>
              {layer !== "output" && (
                <>
                  <h2>Synthetic images</h2>
                  <Work kind="maximise" auto given={{ network, layer, unit: unit.unit }} words="synthetic images that maximise the unit" />
                </>
              )}
              <h2>Attribution</h2>
              {layer !== "output" && <Work kind="attribute" given={{ row: unit.top[0]!.row, network, layer, unit: unit.unit }} words="attribution maps of the image with the highest activation" />}
              <Link to={`/image/${unit.top[0]!.row}`}>open this image</Link>
            </section>
            <section>
              <h2>Histogram of activations</h2>
              <Histogram unit={unit} />
              <h2>Lowest activations</h2>
              <Thumbs rows={unit.bottom.slice(0, 6).map((each) => each.row)} notes={unit.bottom.map((each) => shown(each.value))} />
            </section>
            <section>
              <h2>Correlated units</h2>
              <ul class="chips">
                {unit.alike.map((each) => (
                  <li key={each.unit}>
                    <Link to={`/units/${encodeURIComponent(layer)}/${each.unit}${keep}`}>
                      {each.unit} <small>r = {each.correlation.toFixed(2)}</small>
                    </Link>
                  </li>
                ))}
              </ul>
            </section>
          </div>
        </>
      )}
    </div>
  );
}

// Network dissection: the concept of the data's masks that the unit overlaps most.
function Dissected({ network, layer, unit }: { network: string; layer: string; unit: number }) {
  const { job, begin, cancel } = useJob({ kind: "dissect", given: { network, layer } });
  const found = job?.found.units?.[unit];
  if (found)
    return (
      <p>
        Dissection: closest to <b>{found[0]}</b> ({found[1]}), IoU {found[2].toFixed(3)}
        {found[2] > 0.04 ? ", a detector (above 0.04)" : ", not a detector (0.04 or below)"}. <small class="quiet">{job!.found.words}</small>
      </p>
    );
  const busy = job?.state === "waiting" || job?.state === "running";
  if (STILL) return null;
  return busy ? (
    <p class="progress">
      <progress aria-label="dissection" /> {job!.words}{" "}
      <button type="button" onClick={cancel}>
        cancel
      </button>
    </p>
  ) : (
    <p>
      <button type="button" onClick={begin}>
        dissection: closest concept of the masks
      </button>
      {job?.state === "failed" && <span class="bad"> {job.words}</span>}
    </p>
  );
}

function Histogram({ unit }: { unit: Unit }) {
  const { counts, low, high } = unit.histogram;
  const most = Math.max(...counts);
  return (
    <svg class="chart" viewBox="0 0 480 150" role="img" aria-label={`histogram of unit ${unit.unit} from ${shown(low)} to ${shown(high)}`}>
      {counts.map((count, place) => {
        const tall = most ? (120 * Math.sqrt(count)) / Math.sqrt(most) : 0;
        return (
          <rect key={place} x={(480 * place) / counts.length + 1} y={125 - tall} width={480 / counts.length - 2} height={tall}>
            <title>{count}</title>
          </rect>
        );
      })}
      <text x="0" y="144">
        {shown(low)}
      </text>
      <text x="480" y="144" text-anchor="end">
        {shown(high)}
      </text>
      <text x="240" y="144" text-anchor="middle">
        heights are square roots of counts
      </text>
    </svg>
  );
}
