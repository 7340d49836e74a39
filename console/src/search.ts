// Search among the API keys: by the beginning of the id, and of the name. The service has an index of both. While it makes
// that of the names, it reads all keys part by part, so a search among a million keys shows how far it is.

import { get, part } from "./api";
import type { ApiKey, List } from "./types";

/** The keys that one request of a search by name reads while there is no index. */
const SCAN = 20_000;
export const PAGE_SIZE = 25;

/** A position before all ids that begin with `prefix`, and behind those that sort before it. */
function positionBefore(prefix: string): string {
  const last = prefix.charCodeAt(prefix.length - 1);
  return `${prefix.slice(0, -1)}${String.fromCharCode(Math.max(last - 1, 1))}\u{10FFFF}`;
}

export const listKeys = (position: string, signal: AbortSignal) =>
  get<List<ApiKey>>(`/apikeys?limit=${PAGE_SIZE}${position ? `&position=${part(position)}` : ""}`, signal);

async function byId(prefix: string, signal: AbortSignal): Promise<ApiKey[]> {
  const page = await get<List<ApiKey>>(`/apikeys?limit=${PAGE_SIZE}&position=${part(positionBefore(prefix))}`, signal);
  return page.item.filter((key) => key.id.startsWith(prefix));
}

export interface Found {
  keys: ApiKey[];
  /** Keys whose names have been read so far. */
  scanned: number;
  /** The position at which the search goes on; empty if all names have been read. */
  position: string;
  isRunning: boolean;
}

/** Searches from `position` on until a page is full; tells `onProgress` after each part. */
export async function searchKeys(
  text: string,
  from: Found,
  signal: AbortSignal,
  onProgress: (found: Found) => void,
): Promise<void> {
  const known = new Set(from.keys.map((key) => key.id));
  const keys = [...from.keys];
  const add = (more: ApiKey[]) => {
    for (const key of more) if (!known.has(key.id)) keys.push(key);
    more.forEach((key) => known.add(key.id));
  };
  let { scanned, position } = from;
  if (scanned === 0) {
    add(await byId(text, signal));
    onProgress({ keys: [...keys], scanned, position, isRunning: true });
  }
  const full = from.keys.length + PAGE_SIZE;
  do {
    const after = position ? `&position=${part(position)}` : "";
    const page = await get<List<ApiKey> & { scanned: number }>(
      `/apikeys?name=${part(text)}&limit=${PAGE_SIZE}&scan=${SCAN}${after}`,
      signal,
    );
    add(page.item);
    scanned += page.scanned;
    position = page.position ?? "";
    const isRunning = position !== "" && keys.length < full;
    onProgress({ keys: [...keys], scanned, position, isRunning });
  } while (position !== "" && keys.length < full);
}
