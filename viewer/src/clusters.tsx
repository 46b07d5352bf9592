// Clusters: sorted cards, names, merges, and the units and patches that distinguish a cluster.

import { useState } from "preact/hooks";
import { type About, type Cluster, query, send, STILL } from "./api";
import { Choice, Empty, Failed, Link, say, shown, sorry, Thumbs, useRead, Work } from "./parts";
import { go, put, type Route } from "./route";

export function ClustersView({ about, route, again, changed }: { about: About; route: Route; again: number; changed: () => void }) {
  const of = route.query.get("of") ?? about.clusterings[0]?.name ?? "";
  const { found, problem } = useRead<Cluster[]>(`/api/clusters${query({ of })}`, again);
  if (problem) return <Failed title="Clusters" problem={problem} />;
  if (found && !found.length) return <Empty title="Clusters">There are no clusters. Clustering needs 20 to 50,000 images.</Empty>;
  const one = route.path[1] === undefined ? undefined : found?.find((cluster) => cluster.number === Number(route.path[1]));
  if (one) return <One key={`${of} ${one.number}`} cluster={one} all={found!} of={of} about={about} changed={changed} />;
  const kept = query({ of: of === about.clusterings[0]?.name ? "" : of });
  const by = route.query.get("by") ?? "size";
  const value = (cluster: Cluster) => (by === "compact" ? cluster.compact : by === "purity" ? (cluster.purity ?? 0) : cluster.size);
  const orders = ["size", "compact", ...(found?.some((cluster) => cluster.purity !== undefined) ? ["purity"] : [])];
  return (
    <div class="page">
      <div class="bar">
        <h1>{found ? `${found.length} clusters` : "…"}</h1>
        <Choice
          name="number of clusters"
          value={of}
          values={[...about.clusterings].sort((a, b) => a.count - b.count).map((each): [string, string] => [each.name, String(each.count)])}
          onChange={(next) => put({ of: next === about.clusterings[0]?.name ? "" : next })}
        />
        <Choice name="order" value={by} values={orders} onChange={(next) => put({ by: next })} />
        {!STILL && <span class="quiet">cluster names become labels, which the grid exports</span>}
      </div>
      <div class="cards">
        {[...(found ?? [])]
          .sort((a, b) => value(b) - value(a))
          .map((cluster) => (
            <section class="card" key={cluster.number}>
              <h2>
                <Link to={`/clusters/${cluster.number}${kept}`}>{cluster.name || `cluster ${cluster.number}`}</Link>
              </h2>
              <p class="quiet">{told(cluster)}</p>
              <Thumbs rows={cluster.central.slice(0, 12)} />
              {!STILL && <Named cluster={cluster} changed={changed} />}
            </section>
          ))}
      </div>
      <Worth />
    </div>
  );
}

// Images to label first.
function Worth() {
  const { found } = useRead<{ row: number; why: string }[]>("/api/worth?count=36");
  if (!found?.length) return null;
  return (
    <section>
      <h2>
        Label first <small class="quiet">cluster centres, diverse images, and images between two clusters; duplicates once</small>
      </h2>
      <Thumbs rows={found.map((one) => one.row)} notes={found.map((one) => one.why)} />
      <p>
        <Link to={`/grid?rows=${found.map((one) => one.row).join(",")}`}>open in the grid, to tag or export</Link>
      </p>
    </section>
  );
}

const told = (cluster: Cluster) =>
  [`${cluster.size.toLocaleString("en")} images`, `mean cosine ${shown(cluster.compact)}`, cluster.label && `${Math.round(100 * (cluster.purity ?? 0))} % ${cluster.label}`].filter(Boolean).join(" · ");

function Named({ cluster, changed }: { cluster: Cluster; changed: () => void }) {
  const keep = (event: Event) => {
    event.preventDefault();
    const value = ((event.target as HTMLFormElement).elements.namedItem("name") as HTMLInputElement).value;
    send("/api/edits/cluster_name", { subjects: [cluster.subject], value }).then(() => {
      say(value ? `cluster ${cluster.number} is named ${value}` : "name removed");
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

function One({ cluster, all, of, about, changed }: { cluster: Cluster; all: Cluster[]; of: string; about: About; changed: () => void }) {
  const [into, setInto] = useState("");
  const merge = () =>
    send("/api/edits/cluster_merge", { subjects: [cluster.subject], value: into }).then(() => {
      say(`merged into cluster ${into}`);
      changed();
      go(`/clusters/${into}${query({ of })}`);
    }, sorry);
  return (
    <div class="page">
      <div class="bar">
        <h1>{cluster.name || `Cluster ${cluster.number}`}</h1>
        {!STILL && <Named cluster={cluster} changed={changed} />}
        {!STILL && <Choice
          name="merge into"
          value={into}
          values={[["", "…"], ...all.filter((one) => one.number !== cluster.number).map((one): [string, string] => [String(one.number), one.name || `cluster ${one.number}`])]}
          onChange={setInto}
        />}
        {!STILL && <button type="button" disabled={!into} onClick={merge}>
          merge
        </button>}
        <Link to={`/grid?where=${encodeURIComponent(JSON.stringify([{ column: of, sign: "=", value: cluster.number }]))}`}>all images in the grid</Link>
      </div>
      <p class="quiet">{told(cluster)}</p>
      <h2>Most central</h2>
      <Thumbs rows={cluster.central} />
      <h2>Most distant</h2>
      <Thumbs rows={cluster.distant} />
      <h2>What distinguishes it</h2>
      <p>Units with a higher mean activation than over all images, in standard deviations:</p>
      <ul class="chips">
        {cluster.units.map((one) => (
          <li key={one.unit}>
            <Link to={`/units/output/${one.unit}`}>
              unit {one.unit} · +{shown(one.above)}
            </Link>
          </li>
        ))}
      </ul>
      <Work kind="prototypes" auto given={{ cluster: cluster.number, of, parts: cluster.parts, network: about.networks[0]!.name }} words="prototype patches: what distinguishes its most central images" />
      <Work kind="attribute" given={{ row: cluster.central[0], network: about.networks[0]!.name }} words="attribution maps of the most central image" />
    </div>
  );
}
