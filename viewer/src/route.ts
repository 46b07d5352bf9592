// The view is in the address: path and query restore it whole. A page written as a folder keeps them behind a #.

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

// Set some entries of the query; an empty value takes one away.
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
    hear(); // what a child has put before this was heard
    changed.addEventListener("change", hear);
    window.addEventListener("popstate", hear);
    return () => {
      changed.removeEventListener("change", hear);
      window.removeEventListener("popstate", hear);
    };
  }, []);
  return route;
}
