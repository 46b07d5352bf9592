// Runs: live curves, scores and baselines, a health summary; and quality checks of the data.

import { useEffect, useState } from "preact/hooks";
import { type About, type Ill, type Run, type Score } from "./api";
import { Failed, Link, shown, Thumbs, useRead } from "./parts";

export function RunsView({ about }: { about: About }) {
  const [tick, setTick] = useState(0);
  const { found, problem } = useRead<Run[]>("/api/runs", tick);
  const live = found?.some((run) => run.status.status === "running");
  useEffect(() => {
    if (!live) return;
    const again = setInterval(() => setTick((before) => before + 1), 3000);
    return () => clearInterval(again);
  }, [live]);
  if (problem) return <Failed title="Runs" problem={problem} />;
  return (
    <div class="page">
      <h1>Runs</h1>
      <p class="quiet">
        {about.count.toLocaleString("en")} images of {about.data}
      </p>
      <div class={found && found.length > 1 ? "two" : ""}>
        {(found ?? []).map((run, place) => (
          <section key={place}>
            <h2>
              {run.name} <small class={`state ${run.status.status ?? ""}`}>{run.status.status ?? "no run"}</small>
            </h2>
            <p>{health(run)}</p>
            <p class="quiet">
              {["method", "backbone", "size", "batch", "steps", "seed", "data"]
                .filter((name) => run.settings[name] !== undefined && run.settings[name] !== null)
                .map((name) => `${name} ${run.settings[name]}`)
                .join(" · ")}
            </p>
            <div class="curves">
              {Object.entries(run.curves)
                .filter(([, points]) => points.length > 1)
                .map(([name, points]) => (
                  <Curve key={name} name={name} points={points} />
                ))}
            </div>
            {run.measures
              .filter((measure) => measure.scores)
              .map((measure, place) => (
                <Scores key={place} measure={measure} />
              ))}
            {!run.measures.length && <p class="quiet">No scores yet: selfsight measure {run.name} --train … --test …</p>}
          </section>
        ))}
      </div>
    </div>
  );
}

// A summary of the latest metrics.
function health(run: Run): string {
  const last = (name: string) => run.curves[name]?.at(-1)?.[1];
  const words: string[] = [];
  const spread = last("spread");
  const rank = last("effective_rank");
  if (run.status.reason) words.push(String(run.status.reason));
  if (spread !== undefined) words.push(spread < 0.05 ? `The embeddings have collapsed: their normalised standard deviation is ${shown(spread)}.` : `The embeddings have not collapsed (normalised standard deviation ${shown(spread)}).`);
  if (rank !== undefined) words.push(`Their effective rank is ${shown(rank)}.`);
  const loss = run.curves.loss;
  if (loss && loss.length > 5) words.push(`The loss went from ${shown(loss[0]![1])} to ${shown(loss.at(-1)![1])}.`);
  return words.join(" ") || "No metrics yet.";
}

function Curve({ name, points }: { name: string; points: [number, number][] }) {
  const values = points.map((point) => point[1]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const end = points.at(-1)![0] || 1;
  const line = points.map(([step, value]) => `${((300 * step) / end).toFixed(1)},${(80 - (70 * (value - low)) / (high - low || 1)).toFixed(1)}`).join(" ");
  return (
    <figure class="curve">
      <figcaption>
        {name} <b>{shown(values.at(-1))}</b>
      </figcaption>
      <svg viewBox="0 0 300 88" role="img" aria-label={`${name} from ${shown(values[0])} to ${shown(values.at(-1))} over ${end} steps`}>
        <polyline points={line} />
      </svg>
      <small class="quiet">
        {shown(low)} – {shown(high)}
      </small>
    </figure>
  );
}

function Scores({ measure }: { measure: Run["measures"][number] }) {
  const rows = Object.entries(measure.scores ?? {}).flatMap(([probe, scores]) => Object.entries(scores).map(([name, score]) => ({ probe, name, score })));
  const cell = (score: Score | undefined) => {
    if (!score) return "–";
    const half = (score.high - score.low) / 2;
    if (!(half > 0)) return shown(score.value);
    const digits = Math.max(0, Math.min(4, 1 - Math.floor(Math.log10(half)))); // two significant digits of the interval
    return `${score.value.toFixed(digits)} ± ${half.toFixed(digits)}`;
  };
  return (
    <details open>
      <summary>
        {Object.keys(measure.scores ?? {}).join(", ")} on {measure.test}
      </summary>
      <div class="wide-table">
        <table>
          <thead>
            <tr>
              <th scope="col">score</th>
              <th scope="col">this run</th>
              {Object.keys(measure.floors ?? {}).map((floor) => (
                <th scope="col" key={floor}>
                  {floor}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ probe, name, score }) => (
              <tr key={probe + name}>
                <th scope="row">
                  {probe} {name.replaceAll("/", ", ")}
                </th>
                <td>{cell(score)}</td>
                {Object.entries(measure.floors ?? {}).map(([floor, table]) => (
                  <td key={floor}>{cell(table[probe]?.[name])}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

export function HealthView() {
  const { found, problem } = useRead<Ill[]>("/api/health");
  if (problem) return <Failed title="Data quality" problem={problem} />;
  return (
    <div class="page">
      <h1>Data quality</h1>
      {(found ?? []).map((ill) => (
        <section key={ill.name}>
          <h2>
            {ill.name} <small class="quiet">{ill.words}</small>
          </h2>
          {ill.rows && <Thumbs line rows={ill.rows.slice(0, 24)} notes={ill.rows.map((_, place) => shown(ill.values?.[place]))} />}
          {ill.rows && <Link to={`/grid?sort=${ill.column}${["bright", "outliers", "odd"].includes(ill.name) ? "&down=1" : ""}`}>all images in this order</Link>}
          {ill.groups && (ill.groups.length ? ill.groups.slice(0, 12).map((group, place) => <Thumbs key={place} rows={group} />) : <p>None found.</p>)}
          {ill.files && (ill.files.length ? <ul>{ill.files.map((file) => <li key={file[0]}>{file.join(": ")}</li>)}</ul> : <p>All files are readable.</p>)}
        </section>
      ))}
    </div>
  );
}
