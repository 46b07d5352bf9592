// The view is in the address: path and query restore it whole.

import { useEffect, useState } from "preact/hooks";

export type Route = { path: string[]; query: URLSearchParams };

const changed = new EventTarget();
const now = (): Route => ({
  path: location.pathname.split("/").filter(Boolean).map(decodeURIComponent),
  query: new URLSearchParams(location.search),
});

export function go(path: string, replace = false): void {
  if (path === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", path);
  changed.dispatchEvent(new Event("change"));
  if (!replace) window.scrollTo(0, 0);
}

// Set some entries of the query; an empty value takes one away.
export function put(entries: Record<string, string | number | undefined>, replace = true): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(entries)) {
    if (value === undefined || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  go(location.pathname + (text ? `?${text}` : ""), replace);
}

export function useRoute(): Route {
  const [route, set] = useState(now);
  useEffect(() => {
    const hear = () => set(now());
    changed.addEventListener("change", hear);
    window.addEventListener("popstate", hear);
    return () => {
      changed.removeEventListener("change", hear);
      window.removeEventListener("popstate", hear);
    };
  }, []);
  return route;
}
