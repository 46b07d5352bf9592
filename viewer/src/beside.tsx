// Comparison of two networks by the nearest neighbours of the same images.

import { type About, type Beside, type Pair, query, STILL } from "./api";
import { Choice, Empty, Link, Sorry, Thumb, Thumbs, useRead } from "./parts";
import { put, type Route } from "./route";

export function BesideView({ about, route }: { about: About; route: Route }) {
  const names = about.networks.map((one) => one.name);
  const sides = (["left", "right"] as const).map((side) => {
    const network = route.query.get(side) ?? (side === "left" ? names[0]! : names.at(-1)!);
    return { side, network, layer: route.query.get(`${side}_layer`) ?? "", layers: about.networks.find((one) => one.name === network)?.layers ?? [] };
  });
  const [left, right] = sides as [(typeof sides)[0], (typeof sides)[0]];
  const asked = query({ left: left.network, right: right.network, left_layer: left.layer, right_layer: right.layer });
  const { found, problem } = useRead<Beside>(names.length < 2 ? null : `/api/beside${asked}`);
  if (names.length < 2) return <Empty title="Compare networks">There is only one network: selfsight explore RUN RUN … compares several.</Empty>;
  return (
    <div class="page">
      <h1>
        {left.network} and {right.network}
      </h1>
      {!STILL && (
        <div class="bar">
          {sides.map((one) => (
            <span class="group" key={one.side}>
              <Choice name={one.side} value={one.network} values={names} onChange={(value) => put({ [one.side]: value, [`${one.side}_layer`]: "" })} />
              <Choice name={`layer on the ${one.side}`} value={one.layer} values={[["", "output"], ...one.layers.filter((each) => each !== "output").map((each): [string, string] => [each, each])]} onChange={(value) => put({ [`${one.side}_layer`]: value })} />
            </span>
          ))}
        </div>
      )}
      {problem && <Sorry problem={problem} />}
      {found && found.mean === null && <p class="empty">There are too few images to compare.</p>}
      {found && found.mean !== null && (
        <>
          <p>
            <b>{Math.round(100 * found.mean)} %</b> of an image's ten nearest neighbours are the same in both networks; chance level {(100 * found.chance).toFixed(1)} %.{" "}
            <span class="quiet">{found.of.toLocaleString("en")} images, cosine similarity (mutual k-NN, Huh et al. 2024)</span>
          </p>
          <h2>Lowest agreement</h2>
          <Pairs list={found.differ} names={[left.network, right.network]} />
          <h2>Highest agreement</h2>
          <Pairs list={found.agree} names={[left.network, right.network]} />
          <p>
            <Link to={`/grid?rows=${found.differ.map((one) => one.row).join(",")}`}>images with the lowest agreement in the grid</Link>
          </p>
        </>
      )}
    </div>
  );
}

const Pairs = ({ list, names }: { list: Pair[]; names: [string, string] }) => (
  <div class="pairs">
    {list.map((pair) => (
      <section class="card pair" key={pair.row}>
        <Thumb row={pair.row} note={`${Math.round(10 * pair.shared)} of 10 shared`} />
        {(["left", "right"] as const).map((side, at) => (
          <div key={side}>
            <h3>{names[at]}</h3>
            <Thumbs rows={pair[side]} />
          </div>
        ))}
      </section>
    ))}
  </div>
);
