// The address determines the view completely by path and query. An exported folder keeps them after a #.

import { useEffect, useState } from "preact/hooks";
import { STILL } from "./still";

export type Route = { path: string[]; query: URLSearchParams };

const changed = new EventTarget();

export function here(): { path: string; search: string } {
  if (!STILL) return { path: location.pathname, search: location.search };
  const [path = "", search = ""] = location.hash.slice(1).split(/(?=\?)/);
  return { path, search };
}
export const address = (path: string) => (STILL ? `#${path}` : path);

const now = (): Route => {
  const { path, search } = here();
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(search) };
};

export function go(path: string, replace = false): void {
  const { path: before, search } = here();
  if (path === before + search) return;
  history[replace ? "replaceState" : "pushState"](null, "", address(path));
  changed.dispatchEvent(new Event("change"));
  if (!replace) window.scrollTo(0, 0);
}

// Set entries of the query; an empty value removes one.
export function put(entries: Record<string, string | number | undefined>, replace = true): void {
  const { path, search } = here();
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(entries)) {
    if (value === undefined || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  go(path + (text ? `?${text}` : ""), replace);
}

export function useRoute(): Route {
  const [route, set] = useState(now);
  useEffect(() => {
    const hear = () => set(now());
    hear(); // apply changes that children made before this listener was added
    changed.addEventListener("change", hear);
    window.addEventListener("popstate", hear);
    return () => {
      changed.removeEventListener("change", hear);
      window.removeEventListener("popstate", hear);
    };
  }, []);
  return route;
}
