import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type About, type Alike, type Edit, type Job, read, type Refused, send, STILL, upload } from "./api";
import { BesideView } from "./beside";
import { ClustersView } from "./clusters";
import { GridView } from "./grid";
import { ImageView } from "./image";
import { MapView } from "./map";
import { Empty, Failed, Link, say, Sorry, sorry, Thumbs, Toasts, useRead } from "./parts";
import { QuizView } from "./quiz";
import { go, useRoute } from "./route";
import { HealthView, RunsView } from "./runs";
import "./style.css";
import { UnitsView } from "./units";

const VIEWS = ["map", "grid", "clusters", "units", "runs", "health", "compare", "quiz"];

function App() {
  const route = useRoute();
  const [again, setAgain] = useState(0);
  const [shade, setShade] = useState(localStorage.getItem("shade") ?? "");
  const { found: about, problem } = useRead<About>("/api/about", again);
  const view = route.path[0] ?? "map";
  const changed = () => setAgain((before) => before + 1);
  useEffect(() => {
    if (shade) document.documentElement.dataset.shade = shade;
    else delete document.documentElement.dataset.shade;
    localStorage.setItem("shade", shade);
  }, [shade]);
  useEffect(() => {
    document.title = `${view} · selfsight`;
    document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
    const pressed = (event: KeyboardEvent) => {
      if ((event.target as Element).closest("input, select, textarea")) return;
      const place = Number(event.key) - 1;
      if (!event.ctrlKey && !event.metaKey && !event.altKey && VIEWS[place]) go(`/${VIEWS[place]}`);
      if (!STILL && (event.ctrlKey || event.metaKey) && event.key === "z") {
        event.preventDefault();
        turn(event.shiftKey ? "redo" : "undo");
      }
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, [view]);
  const turn = (way: "undo" | "redo") =>
    send<{ kind: string | null }>(`/api/${way}`, {}).then(({ kind }) => {
      say(kind ? `${way}: ${kind.replace("_", " ")}` : `nothing to ${way}`);
      changed();
    }, sorry);
  const seek = (file: File | undefined) => file && upload<Job>("/api/search", file).then((job) => go(`/search/${job.job}`), sorry);
  const dark = shade ? shade === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event: MouseEvent) => {
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
      >
        skip to content
      </a>
      <header>
        <Link to="/map" class="brand">
          selfsight
        </Link>
        <nav aria-label="views">
          {VIEWS.map((name, place) => (
            <Link key={name} to={`/${name}`} aria-current={view === name ? "page" : undefined} title={`key ${place + 1}`}>
              {name}
            </Link>
          ))}
        </nav>
        <span class="tools">
          {!STILL && (
            <>
              <label class="button" title="search for images similar to your own">
                search
                <input type="file" accept="image/jpeg,image/png,image/webp" aria-label="search for images similar to your own" onChange={(event) => seek((event.target as HTMLInputElement).files?.[0])} />
              </label>
              <button type="button" onClick={() => turn("undo")} title="ctrl z">
                undo
              </button>
              <button type="button" onClick={() => turn("redo")} title="ctrl shift z">
                redo
              </button>
              <Link to="/edits" class="button wide" title="history of edits">
                edits
              </Link>
            </>
          )}
          <button type="button" aria-label={dark ? "light colours" : "dark colours"} onClick={() => setShade(dark ? "light" : "dark")}>
            {dark ? "light" : "dark"}
          </button>
        </span>
      </header>
      <main id="main" class={view} tabIndex={-1}>
        {problem ? <Failed title="selfsight" problem={problem} /> : !about ? <p class="empty">…</p> : <View view={view} about={about} again={again} changed={changed} />}
      </main>
      <Toasts />
    </>
  );
}

function View({ view, about, again, changed }: { view: string; about: About; again: number; changed: () => void }) {
  const route = useRoute();
  if (view === "map") return <MapView about={about} route={route} />;
  if (view === "grid") return <GridView about={about} route={route} changed={changed} />;
  if (view === "image") return <ImageView about={about} route={route} again={again} changed={changed} />;
  if (view === "clusters") return <ClustersView about={about} route={route} again={again} changed={changed} />;
  if (view === "units") return <UnitsView about={about} route={route} />;
  if (view === "runs") return <RunsView about={about} />;
  if (view === "health") return <HealthView />;
  if (view === "compare") return <BesideView about={about} route={route} />;
  if (view === "quiz") return <QuizView about={about} route={route} />;
  if (view === "search") return <SearchView job={route.path[1] ?? ""} />;
  if (view === "edits") return <EditsView again={again} />;
  return <Empty title={`There is no view ${view}`}>Views are: {VIEWS.join(", ")}.</Empty>;
}

// Images similar to an uploaded one, or to a region of one.
function SearchView({ job }: { job: string }) {
  const [found, set] = useState<Alike[] | null>(null);
  const [state, setState] = useState<Job | null>(null);
  const [problem, setProblem] = useState<Refused | null>(null);
  useEffect(() => {
    let here = true;
    const failed = (why: Refused) => here && setProblem(why);
    const follow = (told: Job) => {
      if (!here) return;
      setState(told);
      if (told.state === "done") read<Alike[]>(`/api/jobs/${job}/neighbours?count=60`).then((list) => here && set(list), failed);
      else if (told.state === "waiting" || told.state === "running") setTimeout(() => here && read<Job>(`/api/jobs/${job}`).then(follow, failed), 400);
    };
    read<Job>(`/api/jobs/${job}`).then(follow, failed);
    return () => {
      here = false;
    };
  }, [job]);
  return (
    <div class="page">
      <h1>Similar images</h1>
      {problem ? (
        <Sorry problem={problem} />
      ) : found ? (
        <Thumbs rows={found.map((one) => one.row)} notes={found.map((one) => one.alike.toFixed(3))} />
      ) : state?.state === "failed" || state?.state === "cancelled" ? (
        <p class="bad">{state.words || "cancelled"}</p>
      ) : (
        <p class="progress">
          <progress aria-label="computing features" /> {state?.words}
        </p>
      )}
    </div>
  );
}

function EditsView({ again }: { again: number }) {
  const { found, problem } = useRead<Edit[]>("/api/edits", again);
  if (problem) return <Failed title="Edits" problem={problem} />;
  return (
    <div class="page">
      <h1>Edits</h1>
      {found && !found.length && <p class="empty">No edits yet. Tags, notes and names of clusters are listed here, newest first.</p>}
      <ul>
        {(found ?? []).map((edit) => (
          <li key={edit.number} class={edit.undone ? "quiet" : ""}>
            {new Date(edit.at * 1000).toLocaleString()} · {edit.kind.replace("_", " ")} of {edit.of}: {edit.value || "removed"} {edit.undone && "(undone)"}
          </li>
        ))}
      </ul>
    </div>
  );
}

render(<App />, document.getElementById("app")!);
