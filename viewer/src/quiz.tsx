// The quiz: which unit or class does this synthetic image maximise? The score is saved.

import { useEffect, useState } from "preact/hooks";
import { type About, query, read, send, STILL, type Unit, type UnitRow } from "./api";
import { Choice, Empty, Failed, Link, Thumbs, useRead, Work } from "./parts";
import { put, type Route } from "./route";
import { done } from "./still";

const CHOICES = 4;
type Score = { right: number; asked: number };
const kept = (): Score => {
  try {
    return { right: 0, asked: 0, ...JSON.parse(localStorage.getItem("quiz") ?? "{}") };
  } catch {
    return { right: 0, asked: 0 };
  }
};

// A random sample of a list, in random order.
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
  // In an exported folder only those with images; null: all.
  const possible = STILL ? done("maximise").filter((one) => one.network === network.name && (kind === "class" ? "class" in one : one.layer === layer)).map((one) => Number(one[kind])) : null;
  const next = () => {
    const likely = kind === "class" ? network.classes.map((_, at) => at) : [...(units ?? [])].sort((a, b) => b.peak - a.peak).slice(0, 48).map((one) => one.unit);
    const asked = drawn(possible ?? likely, 1)[0];
    if (asked === undefined) return;
    const others = drawn(likely.filter((one) => one !== asked), CHOICES - 1);
    setAnswer(null);
    put({ kind: kind === "class" ? "class" : "", among: drawn([asked, ...others], CHOICES).join(","), secret: asked });
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
  if (!inner.length && kind === "unit") return <Empty title="Quiz">This network has no inner layers.</Empty>;
  if (possible && !possible.length) return <Empty title="Quiz">This export has no synthetic images: open pages of units or the quiz in the explorer before exporting.</Empty>;
  if (problem) return <Failed title="Quiz" problem={problem} />;
  const given = kind === "class" ? { network: network.name, class: secret } : { network: network.name, layer, unit: secret };
  return (
    <div class="page">
      <div class="bar">
        <h1>Which {kind} does this image maximise?</h1>
        {network.classes.length >= 2 && <Choice name="of" value={kind} values={["unit", "class"]} onChange={(value) => put({ kind: value, among: "", secret: "" })} />}
        {kind === "unit" && <Choice name="layer" value={layer} values={inner} onChange={(value) => put({ layer: value, among: "", secret: "" })} />}
        <button type="button" onClick={next}>
          another
        </button>
        <span aria-live="polite">
          <b>
            {score.right} of {score.asked}
          </b>{" "}
          right <span class="quiet">(chance level 1 in {CHOICES})</span>
        </span>
        <button
          type="button"
          onClick={() => {
            localStorage.removeItem("quiz");
            setScore({ right: 0, asked: 0 });
          }}
        >
          reset score
        </button>
      </div>
      <div class="two">
        <section>{secret !== null && <Work key={`${kind}${layer}${secret}`} kind="maximise" auto given={given} words="synthesising the image" />}</section>
        <section>
          <p>{answer === null ? kind === "unit" ? "Compare the maximally activating images of each unit, and choose." : "Choose a class." : answer === secret ? "Right." : `No: it maximises ${name(kind, secret, network.classes)}.`}</p>
          {among.map((one) => (
            <section key={one} class={`card answer ${answer !== null && one === secret ? "right" : ""} ${answer === one && one !== secret ? "wrong" : ""}`}>
              <button type="button" disabled={answer !== null} onClick={() => told(one)}>
                {name(kind, one, network.classes)}
              </button>
              <Likes kind={kind} one={one} network={network.name} layer={layer} label={network.classes[one] ?? ""} />
            </section>
          ))}
          {answer !== null && kind === "unit" && <Link to={`/units/${encodeURIComponent(layer)}/${secret}`}>open unit {secret}</Link>}
        </section>
      </div>
    </div>
  );
}

const name = (kind: string, one: number | null, classes: string[]) => (kind === "class" ? (classes[one ?? -1] ?? "?") : `unit ${one}`);

// Maximally activating images of a unit, or some images of a class.
function Likes({ kind, one, network, layer, label }: { kind: string; one: number; network: string; layer: string; label: string }) {
  const [rows, set] = useState<number[]>([]);
  useEffect(() => {
    let here = true;
    const found =
      kind === "unit"
        ? read<Unit>(`/api/unit/${one}${query({ network, layer })}`).then((unit) => unit.top.map((each) => each.row))
        : send<{ rows: number[] }>("/api/select", { conditions: [{ column: "label", sign: "=", value: label }], count: 5 }).then((some) => some.rows);
    found.then(
      (some) => here && set(some.slice(0, 5)),
      () => {}, // without labels there are no images of a class
    );
    return () => {
      here = false;
    };
  }, [kind, one, network, layer, label]);
  return <Thumbs rows={rows} />;
}
