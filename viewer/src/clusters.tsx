// Clusters: sheets in an order, names and merges, why a cluster is one.

import { useState } from "preact/hooks";
import { type About, type Cluster, send } from "./api";
import { Choice, Link, say, shown, Sorry, sorry, Thumbs, useRead, Work } from "./parts";
import { go, put, type Route } from "./route";

export function ClustersView({ about, route, again, changed }: { about: About; route: Route; again: number; changed: () => void }) {
  const { found, problem } = useRead<Cluster[]>("/api/clusters", again);
  if (problem) return <Sorry problem={problem} />;
  if (found && !found.length) return <p class="empty">There are no clusters: they are found for 20 to 50,000 pictures.</p>;
  const one = route.path[1] === undefined ? undefined : found?.find((cluster) => cluster.number === Number(route.path[1]));
  if (one) return <One cluster={one} all={found!} about={about} changed={changed} />;
  const by = route.query.get("by") ?? "size";
  const value = (cluster: Cluster) => (by === "compact" ? cluster.compact : by === "purity" ? (cluster.purity ?? 0) : cluster.size);
  const orders = ["size", "compact", ...(found?.some((cluster) => cluster.purity !== undefined) ? ["purity"] : [])];
  return (
    <div class="page">
      <div class="bar">
        <h1>{found ? `${found.length} clusters` : "…"}</h1>
        <Choice name="order" value={by} values={orders} onChange={(next) => put({ by: next })} />
        <span class="quiet">names become labels: the grid exports them</span>
      </div>
      <div class="cards">
        {[...(found ?? [])]
          .sort((a, b) => value(b) - value(a))
          .map((cluster) => (
            <section class="card" key={cluster.number}>
              <h2>
                <Link to={`/clusters/${cluster.number}`}>{cluster.name || `cluster ${cluster.number}`}</Link>
              </h2>
              <p class="quiet">{told(cluster)}</p>
              <Thumbs rows={cluster.central.slice(0, 12)} />
              <Named cluster={cluster} changed={changed} />
            </section>
          ))}
      </div>
      <Worth />
    </div>
  );
}

// Which pictures to label first.
function Worth() {
  const { found } = useRead<{ row: number; why: string }[]>("/api/worth?count=36");
  if (!found?.length) return null;
  return (
    <section>
      <h2>
        Most worth a label <small class="quiet">one for each cluster, the most different, those between two clusters; duplicates once</small>
      </h2>
      <Thumbs rows={found.map((one) => one.row)} notes={found.map((one) => one.why)} />
      <p>
        <Link to={`/grid?rows=${found.map((one) => one.row).join(",")}`}>these in the grid, to tag or export</Link>
      </p>
    </section>
  );
}

const told = (cluster: Cluster) =>
  [`${cluster.size.toLocaleString("en")} pictures`, `compact ${shown(cluster.compact)}`, cluster.label && `${Math.round(100 * (cluster.purity ?? 0))} % ${cluster.label}`].filter(Boolean).join(" · ");

function Named({ cluster, changed }: { cluster: Cluster; changed: () => void }) {
  const keep = (event: Event) => {
    event.preventDefault();
    const value = ((event.target as HTMLFormElement).elements.namedItem("name") as HTMLInputElement).value;
    send("/api/edits/cluster_name", { subjects: [cluster.number], value }).then(() => {
      say(value ? `cluster ${cluster.number} is called ${value}` : "name taken back");
      changed();
    }, sorry);
  };
  return (
    <form class="group" key={cluster.name} onSubmit={keep}>
      <input name="name" defaultValue={cluster.name} placeholder="name" aria-label={`name of cluster ${cluster.number}`} size={14} />
      <button type="submit">name</button>
    </form>
  );
}

function One({ cluster, all, about, changed }: { cluster: Cluster; all: Cluster[]; about: About; changed: () => void }) {
  const [into, setInto] = useState("");
  const merge = () =>
    send("/api/edits/cluster_merge", { subjects: [cluster.number], value: into }).then(() => {
      say(`merged into cluster ${into}`);
      changed();
      go(`/clusters/${into}`);
    }, sorry);
  const layer = about.networks[0]!.layers.filter((one) => one !== "output").at(-1);
  return (
    <div class="page">
      <div class="bar">
        <h1>{cluster.name || `Cluster ${cluster.number}`}</h1>
        <Named cluster={cluster} changed={changed} />
        <Choice
          name="merge into"
          value={into}
          values={[["", "…"], ...all.filter((one) => one.number !== cluster.number).map((one): [string, string] => [String(one.number), one.name || `cluster ${one.number}`])]}
          onChange={setInto}
        />
        <button type="button" disabled={!into} onClick={merge}>
          merge
        </button>
        <Link to={`/grid?where=${encodeURIComponent(JSON.stringify([{ column: "cluster", sign: "=", value: cluster.number }]))}`}>all of it in the grid</Link>
      </div>
      <p class="quiet">{told(cluster)}</p>
      <h2>Most central</h2>
      <Thumbs rows={cluster.central} />
      <h2>Most distant</h2>
      <Thumbs rows={cluster.distant} />
      <h2>Why it is one</h2>
      <p>Units that are higher here than elsewhere, in deviations:</p>
      <ul class="chips">
        {cluster.units.map((one) => (
          <li key={one.unit}>
            <Link to={`/units/output/${one.unit}`}>
              unit {one.unit} · +{shown(one.above)}
            </Link>
          </li>
        ))}
      </ul>
      {cluster.units[0] && layer && <Work kind="attribute" given={{ row: cluster.central[0], network: about.networks[0]!.name }} words="what the network looks at in the most central picture" />}
    </div>
  );
}
