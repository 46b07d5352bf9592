// The quiz: from which unit, or which class, was this picture made? Keeps the score.

import { useEffect, useState } from "preact/hooks";
import { type About, query, read, type Unit, type UnitRow } from "./api";
import { Choice, Link, Sorry, Thumbs, useRead, Work } from "./parts";
import { put, type Route } from "./route";

const CHOICES = 4;
type Score = { right: number; asked: number };
const kept = (): Score => {
  try {
    return { right: 0, asked: 0, ...JSON.parse(localStorage.getItem("quiz") ?? "{}") };
  } catch {
    return { right: 0, asked: 0 };
  }
};

// A few of a list, in a drawn order.
function drawn<T>(list: T[], count: number): T[] {
  const rest = [...list];
  return Array.from({ length: Math.min(count, rest.length) }, () => rest.splice(Math.floor(Math.random() * rest.length), 1)[0]!);
}

export function QuizView({ about, route }: { about: About; route: Route }) {
  const network = about.networks[0]!;
  const inner = network.layers.filter((one) => one !== "output");
  const kind = route.query.get("kind") === "class" && network.classes.length >= 2 ? "class" : "unit";
  const layer = route.query.get("layer") ?? inner.at(-1) ?? "";
  const among = (route.query.get("among") ?? "").split(",").filter(Boolean).map(Number);
  const secret = route.query.has("secret") ? Number(route.query.get("secret")) : null;
  const [answer, setAnswer] = useState<number | null>(null);
  const [score, setScore] = useState(kept);
  const { found: units, problem } = useRead<UnitRow[]>(layer && kind === "unit" ? `/api/units${query({ network: network.name, layer })}` : null);
  const next = () => {
    const likely = kind === "class" ? network.classes.map((_, at) => at) : [...(units ?? [])].sort((a, b) => b.peak - a.peak).slice(0, 48).map((one) => one.unit);
    const some = drawn(likely, CHOICES);
    setAnswer(null);
    put({ kind: kind === "class" ? "class" : "", among: some.join(","), secret: some[Math.floor(Math.random() * some.length)] });
  };
  const told = (one: number) => {
    if (answer !== null || secret === null) return;
    setAnswer(one);
    const after = { right: score.right + Number(one === secret), asked: score.asked + 1 };
    setScore(after);
    localStorage.setItem("quiz", JSON.stringify(after));
  };
  useEffect(() => {
    if (secret === null && (units?.length || kind === "class")) next();
  }, [units, kind, secret]);
  useEffect(() => setAnswer(null), [secret, among.join()]);
  if (!inner.length) return <p class="empty">This network has no inner layers to ask about.</p>;
  if (problem) return <Sorry problem={problem} />;
  const given = kind === "class" ? { network: network.name, class: secret } : { network: network.name, layer, unit: secret };
  return (
    <div class="page">
      <div class="bar">
        <h1>From which {kind} was this picture made?</h1>
        {network.classes.length >= 2 && <Choice name="of" value={kind} values={["unit", "class"]} onChange={(value) => put({ kind: value, among: "", secret: "" })} />}
        {kind === "unit" && <Choice name="layer" value={layer} values={inner} onChange={(value) => put({ layer: value, among: "", secret: "" })} />}
        <button type="button" onClick={next}>
          another
        </button>
        <span aria-live="polite">
          <b>
            {score.right} of {score.asked}
          </b>{" "}
          right <span class="quiet">(by chance 1 in {CHOICES})</span>
        </span>
        <button
          type="button"
          onClick={() => {
            localStorage.removeItem("quiz");
            setScore({ right: 0, asked: 0 });
          }}
        >
          begin again
        </button>
      </div>
      <div class="two">
        <section>{secret !== null && <Work key={`${kind}${layer}${secret}`} kind="maximise" auto given={given} words="the picture is made" />}</section>
        <section>
          <p>{answer === null ? "Look at what each answer likes most, and choose." : answer === secret ? "Right." : `No: it was made from ${name(kind, secret, network.classes)}.`}</p>
          {among.map((one) => (
            <section key={one} class={`card answer ${answer !== null && one === secret ? "right" : ""} ${answer === one && one !== secret ? "wrong" : ""}`}>
              <button type="button" disabled={answer !== null} onClick={() => told(one)}>
                {name(kind, one, network.classes)}
              </button>
              <Likes kind={kind} one={one} network={network.name} layer={layer} />
            </section>
          ))}
          {answer !== null && kind === "unit" && <Link to={`/units/${encodeURIComponent(layer)}/${secret}`}>the page of unit {secret}</Link>}
        </section>
      </div>
    </div>
  );
}

const name = (kind: string, one: number | null, classes: string[]) => (kind === "class" ? (classes[one ?? -1] ?? "?") : `unit ${one}`);

// Pictures that a unit likes most.
function Likes({ kind, one, network, layer }: { kind: string; one: number; network: string; layer: string }) {
  const [rows, set] = useState<number[]>([]);
  useEffect(() => {
    let here = true;
    if (kind === "unit") read<Unit>(`/api/unit/${one}${query({ network, layer })}`).then((found) => here && set(found.top.slice(0, 5).map((each) => each.row)), () => {});
    return () => {
      here = false;
    };
  }, [kind, one, network, layer]);
  return kind === "unit" ? <Thumbs rows={rows} /> : null;
}
