// Units: which stand out, and one with what it likes.

import { type About, query, type Unit, type UnitRow } from "./api";
import { Choice, Link, shown, Sorry, Thumbs, useRead, Work } from "./parts";
import { go, type Route } from "./route";

export function UnitsView({ about, route }: { about: About; route: Route }) {
  const network = route.query.get("network") ?? about.networks[0]!.name;
  const layers = about.networks.find((one) => one.name === network)?.layers ?? [];
  const layer = route.path[1] ?? layers.at(-1) ?? "output";
  const given = { network, layer };
  const keep = query({ network: network === about.networks[0]!.name ? "" : network });
  const number = route.path[2];
  const { found, problem } = useRead<UnitRow[]>(number === undefined ? `/api/units${query(given)}` : null);
  const one = useRead<Unit>(number === undefined ? null : `/api/unit/${number}${query(given)}`);
  const bar = (
    <div class="bar">
      <Choice name="network" value={network} values={about.networks.map((each) => each.name)} onChange={(value) => go(`/units/output${query({ network: value })}`)} />
      <Choice name="layer" value={layer} values={layers} onChange={(value) => go(`/units/${encodeURIComponent(value)}${keep}`)} />
      {number !== undefined && <Link to={`/units/${encodeURIComponent(layer)}${keep}`}>all units</Link>}
    </div>
  );
  if (problem ?? one.problem) return <Sorry problem={(problem ?? one.problem)!} />;
  if (number === undefined)
    return (
      <div class="page">
        {bar}
        <h1>
          {found ? `${found.length} units of ${layer}` : "…"} <small class="quiet">by how far their peak stands out</small>
        </h1>
        <ul class="chips">
          {[...(found ?? [])]
            .sort((a, b) => b.peak - a.peak)
            .map((unit) => (
              <li key={unit.unit}>
                <Link to={`/units/${encodeURIComponent(layer)}/${unit.unit}${keep}`}>
                  {unit.unit} <small>{shown(unit.peak)}σ</small>
                </Link>
              </li>
            ))}
        </ul>
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
          <h2>Likes most</h2>
          <Thumbs rows={unit.top.map((each) => each.row)} notes={unit.top.map((each) => shown(each.value))} />
          <div class="two">
            <section>
              <h2>How often how much</h2>
              <Histogram unit={unit} />
              <h2>Likes least</h2>
              <Thumbs rows={unit.bottom.slice(0, 6).map((each) => each.row)} notes={unit.bottom.map((each) => shown(each.value))} />
            </section>
            <section>
              <h2>Units that say the same</h2>
              <ul class="chips">
                {unit.alike.map((each) => (
                  <li key={each.unit}>
                    <Link to={`/units/${encodeURIComponent(layer)}/${each.unit}${keep}`}>
                      {each.unit} <small>r = {each.correlation.toFixed(2)}</small>
                    </Link>
                  </li>
                ))}
              </ul>
              {layer !== "output" && (
                <>
                  <h2>Where, and what it would like best</h2>
                  <Work kind="attribute" given={{ row: unit.top[0]!.row, network, layer, unit: unit.unit }} words="where in the picture that it likes most" />
                  <Work kind="maximise" given={{ network, layer, unit: unit.unit }} words="a picture that it likes more than any" />
                </>
              )}
            </section>
          </div>
        </>
      )}
    </div>
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
